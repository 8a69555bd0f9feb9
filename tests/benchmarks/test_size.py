"""Hundreds of assets from bars to tested leaders: time, memory, and which leaders are named."""

import resource
import time

import pytest
from benchmarks.measure import fidelity, split_market

from crossattn import CrossAttentionForecaster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("assets", "bars"), [(250, 2_000), (500, 2_000), (1_000, 5_000)])
def test_planted_leaders_among_hundreds(keep, assets, bars):
    """CPU-seconds of one process (peak memory is that of the largest so far); R² of 5 %."""
    options = {"n_assets": assets, "n_steps": bars, "predictability": 0.05, "lookback": 24}
    market, train, val, test = split_market("static", 41001, shares=(0.7, 0.1), **options)
    start = time.process_time()
    forecaster = CrossAttentionForecaster(progress=False).fit(train, val)
    fitted = time.process_time()
    report = forecaster.lead_lag(test)
    tested = time.process_time()
    named = report.edges[report.edges["significant"]]
    planted = market.edges[["leader", "follower"]].drop_duplicates()
    right = len(named.merge(planted))
    figures = {
        "fit": fitted - start,
        "lead_lag": tested - fitted,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "fidelity": fidelity(forecaster.predict(test), market.oracle[test.ends]),
        "named": len(named),
        "right": right,
        "planted": len(planted),
    }
    keep("size", f"{assets:,} assets, {bars:,} bars", figures)
    assert right > 0.9 * len(named) and right > 0.3 * len(planted)
    assert tested - start < 3600 and figures["gigabytes"] < 8
