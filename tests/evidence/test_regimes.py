"""Detectors against planted regimes, and against the future."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from crossattn.evidence.regimes import (
    TwoGraphDetector,
    correlation_breakdown,
    correlation_level,
    hindsight_change_points,
    refit_times,
    volatility_level,
)

SYMBOLS = list("ABCDEF")


def clock(rows: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC", name="close_time")


def table(returns) -> pd.DataFrame:
    return pd.DataFrame(returns, clock(len(returns)), SYMBOLS[: returns.shape[1]])


def graph_market(seed: int, rows: int = 6_000):
    """Two graphs of equal strength in blocks: volatility and correlation never change."""
    rng = np.random.default_rng(seed)
    n = len(SYMBOLS)
    graphs = np.zeros((2, n, n))
    for regime in range(2):
        leaders = np.roll(np.arange(n), regime + 1)
        graphs[regime, np.arange(n), leaders] = 0.3 * rng.choice([-1.0, 1.0], n)
    state = (np.cumsum(rng.random(rows) < 0.01) % 2).astype(int)
    returns = rng.normal(size=(rows, n))
    for t in range(1, rows):
        returns[t] += graphs[state[t]] @ returns[t - 1]
    return table(0.01 * returns), state, graphs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_graphs_are_told_apart_where_nothing_else_changes(seed):
    returns, state, graphs = graph_market(seed)
    detector = TwoGraphDetector(max_lag=2, persistence=0.99, seed=seed).fit(returns.iloc[:4_000])
    auc = roc_auc_score(state[4_000:], detector.filter(returns).iloc[4_000:])
    assert max(auc, 1 - auc) > 0.95
    fitted = detector.graphs_[::-1] if auc < 0.5 else detector.graphs_
    found = np.abs(fitted[..., 0]).argmax(axis=2)
    np.testing.assert_array_equal(found, np.abs(graphs).argmax(axis=2))
    for score in (volatility_level(returns), correlation_level(returns)):
        blind = roc_auc_score(state[100:], score.iloc[100:])
        assert 0.35 < blind < 0.65


def test_two_graphs_read_nullable_numbers():
    returns = graph_market(9, 600)[0]
    gone = returns.mask(returns > 0.03)
    found = _DETECTOR.filter(gone.astype("Float64"))
    pd.testing.assert_series_equal(found, _DETECTOR.filter(gone))


def test_levels_see_volatility_and_correlation(rng):
    state = (np.cumsum(rng.random(5_000) < 0.005) % 2).astype(int)
    share, level = np.where(state, [[0.9], [0.03]], [[0.3], [0.01]])[:, :, None]
    common, noise = rng.normal(size=(5_000, 1)), rng.normal(size=(5_000, len(SYMBOLS)))
    returns = table(level * (share * common + np.sqrt(1 - share**2) * noise))
    for score in (volatility_level(returns), correlation_level(returns, half_life=24)):
        assert roc_auc_score(state[500:], score.iloc[500:]) > 0.9


def test_correlation_level_is_not_fooled_by_volatility(rng):
    returns = rng.normal(size=(4_000, 6)) * np.repeat([1.0, 5.0], 2_000)[:, None]
    level = correlation_level(table(returns))
    assert abs(level.iloc[1_000:2_000].mean() - level.iloc[3_000:].mean()) < 0.03


def test_correlation_level_without_weights_is_the_mean_correlation(rng):
    returns = rng.normal(size=(3_000, 4)) + 0.7 * rng.normal(size=(3_000, 1))
    level = correlation_level(table(returns), half_life=1e6).iloc[-1]
    sample = np.corrcoef(returns.T)
    assert level == pytest.approx(sample[np.triu_indices(4, 1)].mean(), abs=0.03)


def test_missing_bars_do_not_lower_the_correlation(rng):
    whole = table(rng.normal(size=(6_000, 3)) + 1.5 * rng.normal(size=(6_000, 1)))
    holed = whole.assign(A=whole["A"].where(rng.random(6_000) < 0.5))
    levels = [correlation_level(r, half_life=1_000).iloc[-1] for r in (whole, holed)]
    assert levels[1] == pytest.approx(levels[0], abs=0.02)


def test_an_asset_that_never_moves_changes_no_state_probability():
    returns, _, _ = graph_market(5, rows=2_000)
    idle = returns.assign(flat=0.0, absent=np.nan)
    options = {"max_lag": 1, "persistence": 0.99, "n_iterations": 5, "seed": 2**32}
    alone = TwoGraphDetector(**options).fit(returns).filter(returns)
    beside = TwoGraphDetector(**options).fit(idle).filter(idle)
    np.testing.assert_allclose(beside, alone, atol=1e-6)


DETECTORS = {
    "volatility": volatility_level,
    "correlation": correlation_level,
    "breakdown": lambda r: correlation_breakdown(r, fast=12, slow=60, memory=200)["distance"],
    "graph": lambda r: _DETECTOR.filter(r),
}
_DETECTOR = TwoGraphDetector(max_lag=2, persistence=0.98, n_starts=1, n_iterations=3).fit(
    graph_market(9, 600)[0]
)


@pytest.mark.parametrize("name", DETECTORS)
def test_no_detector_sees_the_future(name):
    returns, _, _ = graph_market(4, rows=700)
    before = DETECTORS[name](returns)
    cut = 500
    for change in (lambda r: r * 7.0, lambda r: -r, lambda r: r.sample(frac=1, random_state=0)):
        changed = returns.copy()
        changed.iloc[cut:] = change(returns.iloc[cut:]).to_numpy()
        after = DETECTORS[name](changed)
        pd.testing.assert_series_equal(before.iloc[:cut], after.iloc[:cut], check_exact=True)
    assert not before.iloc[cut:].equals(after.iloc[cut:])


def test_hindsight_finds_the_change_and_knows_it_too_early():
    score = pd.Series(np.r_[np.zeros(300), np.ones(300)], index=clock(600))
    score += np.random.default_rng(0).normal(0, 0.1, 600)
    assert [abs(score.index.get_loc(t) - 300) < 3 for t in hindsight_change_points(score)] == [True]


def test_refits_keep_their_distance():
    alarms = pd.Series(False, index=clock(1_000))
    alarms.iloc[[50, 60, 400]] = True
    rows = [alarms.index.get_loc(t) for t in refit_times(alarms, at_least=100)]
    assert rows == [50, 400]


def test_bad_input_is_named(refuse_input):
    r, _, _ = graph_market(0, rows=300)
    gaps = (r["A"] > 0).where(r["A"] > 0)  # NaN is no alarm
    refuse_input(lambda: volatility_level(r["A"]), "returns must be a DataFrame")
    refuse_input(lambda: volatility_level(r * np.inf), "infinite")
    refuse_input(lambda: volatility_level(r.astype(str)), "must hold numbers")
    refuse_input(lambda: correlation_level(r[["A"]]), "at least 2 assets")
    refuse_input(lambda: correlation_breakdown(r, fast=50, slow=20), "fast must be .* below 20")
    refuse_input(lambda: correlation_breakdown(r, fast="a"), "fast must be")
    refuse_input(lambda: correlation_breakdown(r, slow="a"), "slow must be")
    refuse_input(lambda: TwoGraphDetector().filter(r), "not fitted")
    refuse_input(lambda: TwoGraphDetector(seed="x"), "seed must be")
    refuse_input(lambda: TwoGraphDetector().fit(r.to_numpy()), "returns must be a DataFrame")
    refuse_input(lambda: TwoGraphDetector().fit(r * np.inf), "infinite")
    refuse_input(lambda: _DETECTOR.filter(r.to_numpy()), "returns must be a DataFrame")
    refuse_input(lambda: _DETECTOR.filter(r.astype(str)), "must hold numbers")
    refuse_input(lambda: TwoGraphDetector().fit(r.iloc[:20]), "usable rows")
    refuse_input(lambda: _DETECTOR.filter(r.rename(columns={"A": "Z"})), "returns: symbols must be")
    refuse_input(lambda: refit_times(gaps), "alarms must be a Series of bool")
    refuse_input(lambda: refit_times([True, False]), "got list")
    refuse_input(lambda: hindsight_change_points(r["A"].iloc[:20]), "at least 100 finite numbers")
    refuse_input(lambda: hindsight_change_points(r["A"].to_numpy()), "score must be a Series")
    refuse_input(lambda: hindsight_change_points(r["A"].astype(str) + "x"), "score must be numbers")
    refuse_input(lambda: hindsight_change_points(r["A"], penalty="x"), "penalty must be")
    refuse_input(lambda: hindsight_change_points(r["A"], penalty=0), "penalty must be")
