"""Hundreds of assets from bars to tested leaders: time, memory, and which leaders are named."""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("assets", "bars"), [(250, 2_000), (500, 2_000), (1_000, 5_000)])
def test_planted_leaders_among_hundreds(keep, assets, bars):
    """CPU-seconds of one process (peak memory is that of the largest so far); R² of 5 %."""
    market = simulate_market(
        "static", n_assets=assets, n_steps=bars, predictability=0.05, seed=41001
    )
    data = prepare_cross_attention_data(market.frames, lookback=24, horizon=1)
    train, val, test = data.split(0.7, 0.1)
    start = time.process_time()
    forecaster = CrossAttentionForecaster(progress=False).fit(train, val)
    fitted = time.process_time()
    report = forecaster.lead_lag(test)
    tested = time.process_time()
    named = report.edges[report.edges["significant"]]
    planted = set(zip(market.edges["leader"], market.edges["follower"], strict=True))
    right = sum(pair in planted for pair in zip(named["leader"], named["follower"], strict=True))
    fidelity = np.corrcoef(forecaster.predict(test).ravel(), market.oracle[test.ends].ravel())[0, 1]
    figures = {
        "fit": fitted - start,
        "lead_lag": tested - fitted,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "fidelity": float(fidelity),
        "named": len(named),
        "right": right,
        "planted": len(planted),
    }
    keep("size", f"{assets:,} assets, {bars:,} bars", figures)
    assert right > 0.9 * len(named) and right > 0.3 * len(planted)
    assert tested - start < 3600 and figures["gigabytes"] < 8
