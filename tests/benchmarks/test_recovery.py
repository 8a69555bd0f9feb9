"""The fixed study: one recommended configuration, not told the scenario, five fresh seeds.

N = 10 assets, T = 20,000 bars; 70 % training, 10 % validation, the rest test. ``fidelity`` is the
correlation of the forecast with the oracle's conditional mean on the test part. Settings and seeds
were fixed before the study was run; tuning used seeds 101 to 105. An earlier recipe was tried once
on the static market of seeds 20001 to 20005 and fell short of the weighted lasso (.9890 against
.9912); it was changed on tuning seeds, and the study given new ones. On the static market at
1 % the lasso, which is told that nothing changes, is ahead by .001.

Run with ``make bench`` or ``pytest tests/benchmarks/test_recovery.py -m slow -s``.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from crossattn.baselines.linear import VAR
from crossattn.forecaster import CrossAttentionForecaster
from crossattn.simulate.market import simulate_market
from crossattn.windows.dataset import prepare_cross_attention_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEEDS = (30_001, 30_002, 30_003, 30_004, 30_005)
LOOKBACK = 48
STUDIES = [
    # scenario, options, predictability, least mean fidelity
    ("static", {}, 0.02, 0.975),
    ("gated", {}, 0.02, 0.95),
    ("switching", {}, 0.02, 0.92),
    ("regimes", {"change": "sign"}, 0.02, 0.90),
    ("static", {}, 0.01, 0.95),
    ("gated", {}, 0.01, 0.90),
]


def prepare(scenario, options, predictability, seed):
    market = simulate_market(scenario, predictability=predictability, seed=seed, **options)
    data = prepare_cross_attention_data(market.frames, lookback=LOOKBACK, horizon=1)
    return market, *data.split(train=0.7, val=0.1)


def fidelity(forecast, market, test):
    return np.corrcoef(forecast.ravel(), market.oracle[test.ends].ravel())[0, 1]


def edges_found(forecaster, market, test):
    """AUROC of the mean size of coefficients against the true edges; share of lags named right."""
    sample = test[:1500]
    size = np.abs(forecaster.coefficients(sample)).mean(0)  # (N, N, L)
    symbols = list(forecaster.symbols_)
    true = np.zeros(size.shape[:2], bool)
    right = []
    for edge in market.edges.itertuples():
        i, j = symbols.index(edge.follower), symbols.index(edge.leader)
        true[i, j] = True
        right.append(size[i, j].argmax() + 1 == edge.lag)
    other = ~np.eye(len(symbols), dtype=bool)
    return roc_auc_score(true[other], size.sum(-1)[other]), np.mean(right)


def study(scenario, options, predictability):
    rows = []
    for seed in SEEDS:
        market, train, val, test = prepare(scenario, options, predictability, seed)
        start = time.process_time()
        forecaster = CrossAttentionForecaster(progress=False).fit(train, val)
        seconds = time.process_time() - start
        row = {"seed": seed, "cpu_seconds": seconds}
        row["fidelity"] = fidelity(forecaster.predict(test), market, test)
        linear = VAR(penalty="lasso", volatility_weights=True).fit(train, val)
        row["weighted_lasso"] = fidelity(linear.predict(test), market, test)
        if scenario in ("static", "gated"):
            row["auroc"], row["lags"] = edges_found(forecaster, market, test)
        if scenario == "switching":
            true = market.leaders[test.ends]
            named = forecaster.leaders(test)
            row["leader_of_the_moment"] = (named == true)[true >= 0].mean()
        rows.append(row)
    return pd.DataFrame(rows).set_index("seed")


@pytest.mark.parametrize(("scenario", "options", "predictability", "least"), STUDIES)
def test_recovery(scenario, options, predictability, least):
    torch.set_num_threads(1)
    table = study(scenario, options, predictability)
    mean = table.mean()
    print(f"\n{scenario} {options or ''} oracle R² {predictability:.0%}")
    print(table.round(4).to_string())
    print("mean", mean.round(4).to_dict())
    assert mean["fidelity"] >= least
    assert table["cpu_seconds"].mean() < 20
    if scenario == "static" and predictability == 0.02:
        assert mean["auroc"] >= 0.99
        assert mean["lags"] >= 0.97
        assert mean["fidelity"] >= mean["weighted_lasso"]
    if scenario == "switching":
        assert mean["leader_of_the_moment"] >= 0.95
