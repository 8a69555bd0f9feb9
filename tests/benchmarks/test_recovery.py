"""The table of the forecaster: one configuration, not told the scenario, three fresh seeds.

N = 10 assets, T = 20,000 bars and an oracle R² of 2 % unless a row says otherwise; 70 % training,
10 % validation, the rest test. ``fidelity`` is the correlation of the forecast with the oracle's
conditional mean on the test part. Tuning used seeds 101 to 128 on markets of generators other than
the package's; the seeds below were drawn after it. Where a scenario has the shape of one of the
forecaster's channels ("falls", "volume", "concave": a root, "levels": a gap of log prices), the row
measures whether the right channel is found, not how well an unknown shape is approximated.

Run with ``make bench`` or ``pytest tests/benchmarks/test_recovery.py -m slow -s``.
"""

import time

import numpy as np
import pandas as pd
import pytest
from benchmarks.measure import fidelity, split_market
from sklearn.metrics import roc_auc_score

from crossattn.baselines.linear import VAR
from crossattn.features.build import create_multi_asset_features
from crossattn.forecaster import CrossAttentionForecaster
from crossattn.simulate.market import simulate_market
from crossattn.windows.prepare import windows_of_features

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEEDS = (41_001, 41_002, 41_003)
LOOKBACK = 48
STUDIES = [
    # scenario, options, least mean fidelity
    ("static", {}, 0.985),
    ("static", {"predictability": 0.01}, 0.965),
    ("gated", {}, 0.96),
    ("switching", {}, 0.94),
    ("regimes", {}, 0.90),
    ("regimes", {"change": "sign"}, 0.93),
    ("delays", {}, 0.95),
    ("falls", {}, 0.94),
    ("volume", {}, 0.95),
    ("concave", {}, 0.95),
    ("sectors", {}, 0.96),
    ("levels", {}, 0.75),
    ("mover", {}, 0.88),
    ("hours", {}, 0.90),
    ("drift", {}, 0.75),
    ("products", {}, 0.80),
]


def prepare(scenario, options, seed):
    options = {"predictability": 0.02, **options}
    return split_market(scenario, seed, lookback=LOOKBACK, shares=(0.7, 0.1), **options)


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


def study(scenario, options):
    rows = []
    for seed in SEEDS:
        market, train, val, test = prepare(scenario, options, seed)
        start = time.process_time()
        forecaster = CrossAttentionForecaster(progress=False).fit(train, val)
        seconds = time.process_time() - start
        row, truth = {"seed": seed, "cpu_seconds": seconds}, market.oracle[test.ends]
        row["fidelity"] = fidelity(forecaster.predict(test), truth)
        linear = VAR(penalty="lasso", volatility_weights=True).fit(train, val)
        row["weighted_lasso"] = fidelity(linear.predict(test), truth)
        if scenario == "static":
            row["auroc"], row["lags"] = edges_found(forecaster, market, test)
        if scenario == "switching":
            true = market.leaders[test.ends]
            named = forecaster.leaders(test)
            row["leader_of_the_moment"] = (named == true)[true >= 0].mean()
        rows.append(row)
        print(scenario, options or "", {k: round(float(v), 4) for k, v in row.items()}, flush=True)
    return pd.DataFrame(rows).set_index("seed")


@pytest.mark.parametrize(("scenario", "options", "least"), STUDIES)
def test_recovery(scenario, options, least):
    table = study(scenario, options)
    mean = table.mean()
    print(f"\n{scenario} {options or ''} mean {mean.round(4).to_dict()}")
    assert mean["fidelity"] >= least
    assert mean["cpu_seconds"] < 20
    if scenario == "static" and not options:
        assert mean["auroc"] >= 0.99
        assert mean["lags"] >= 0.97
    if scenario == "switching":
        assert mean["leader_of_the_moment"] >= 0.95


@pytest.mark.parametrize(("n_assets", "n_steps"), [(30, 3_000), (50, 5_000)])
def test_few_bars(n_assets, n_steps):
    """Within .01 of the weighted lasso where there are few bars an asset."""
    mean = study("static", {"n_assets": n_assets, "n_steps": n_steps}).mean()
    print(f"\nN={n_assets}, T={n_steps}: mean {mean.round(4).to_dict()}")
    assert mean["fidelity"] >= mean["weighted_lasso"] - 0.01


def with_columns(market, columns):
    """Return windows whose features hold added columns, ``{name: (T, N)}``."""
    features, closes = create_multi_asset_features(market.frames), market.panel["close"]
    for name, values in columns.items():
        for k, symbol in enumerate(closes):
            features[(name, symbol)] = values[:, k]
    return windows_of_features(features, closes, LOOKBACK, 1, warm_up=60).split(0.7, 0.1)


def informed_and_burdened(seed):
    """Fidelity without an added column, with a useful one and with ten useless ones; IC with it."""
    rng = np.random.default_rng(seed)
    market = simulate_market("static", predictability=0.02, seed=seed)
    following = np.vstack([market.returns[1:], np.zeros((1, 10))])
    spread = following.std(0)
    hint = following + rng.normal(size=following.shape) * spread * np.sqrt(1 / 0.3**2 - 1)
    useless = {f"useless {k}": rng.normal(size=following.shape) for k in range(10)}
    found = {}
    for name, columns in {"none": {}, "hint": {"hint": hint}, "useless": useless}.items():
        train, val, test = with_columns(market, columns)
        forecast = CrossAttentionForecaster(progress=False).fit(train, val).predict(test)
        found[name] = fidelity(forecast, market.oracle[test.ends])
        if name == "hint":
            found["IC"] = fidelity(forecast, test.y)
    print(f"\ncolumns, seed {seed}: { {k: round(float(v), 4) for k, v in found.items()} }")
    return found


def test_an_informative_column_is_used_and_useless_ones_cost_little():
    mean = pd.DataFrame([informed_and_burdened(seed) for seed in SEEDS]).mean()
    assert mean["IC"] >= 0.28
    assert mean["useless"] >= mean["none"] - 0.01


def test_four_seeds_name_the_same_leaders():
    """Content heads differ by seed; the named edges must not."""
    _, train, val, test = prepare("static", {}, SEEDS[0])
    named = []
    for seed in range(4):
        edges = CrossAttentionForecaster(seed=seed, progress=False).fit(train, val)
        edges = edges.lead_lag(test).edges.query("significant")
        named.append(set(zip(edges["leader"], edges["follower"], strict=True)))
    shared = len(set.intersection(*named)) / len(set.union(*named))
    print(f"\nedges named by all of four seeds: {shared:.3f} of {len(set.union(*named))}")
    assert shared >= 0.95
