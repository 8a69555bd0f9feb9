"""Hidden regimes and drifting coefficients against enumeration and dense Gaussian algebra."""

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from crossattn.runtime import FEW_ROWS, compiled_if_worth
from crossattn.tokens import regime, tracking
from crossattn.tokens.memory import Memory
from crossattn.tokens.selection import common_pattern

DECAY, VARIANCE, NOISE = 0.9, 0.4, 1.3


def test_the_filter_is_gaussian_regression_on_the_past(rng):
    n, k = 12, 2
    x, y = rng.normal(size=(n, k)), rng.normal(size=n)
    x[4] = 0.0
    state = tracking.start_state(k, VARIANCE)
    path, likelihood, _ = tracking.kalman_loop(state, x, y, DECAY, VARIANCE, NOISE)
    time = np.arange(n)
    prior = VARIANCE * DECAY ** np.abs(time[:, None] - time)  # of one coefficient over time
    covariance = (x @ x.T) * prior + NOISE * np.eye(n)
    normal = multivariate_normal(np.zeros(n), covariance)
    scale = 0.5 * n * np.log(2 * np.pi * NOISE)
    assert np.isclose(likelihood, normal.logpdf(y) + scale)
    for t in range(1, n):
        with_past = prior[t, :t, None] * x[:t]  # (t, k)
        expected = with_past.T @ np.linalg.solve(covariance[:t, :t], y[:t])
        assert np.allclose(path[t], expected)


def test_many_rows_are_filtered_by_the_compiled_loop(rng):
    x, y = rng.normal(size=(FEW_ROWS + 1, 3)), rng.normal(size=FEW_ROWS + 1)
    state = tracking.start_state(3, VARIANCE)
    fast = tracking.kalman(state, x, y, DECAY, VARIANCE, NOISE)
    slow = tracking.kalman_loop(state, x, y, DECAY, VARIANCE, NOISE)
    for a, b in zip(fast, slow, strict=True):
        assert np.allclose(a, b, atol=1e-12)
    steps = (0.9, 0.2), (0.1, 0.8)
    fast, last = compiled_if_worth(regime.odds_loop, len(y))(0.0, y, x[:, 0].copy(), *steps)
    slow, end = regime.odds_loop(0.0, y, x[:, 0], *steps)
    assert np.allclose(fast, slow, atol=1e-12) and abs(last - end) < 1e-12


def chances(evidence, hint, stay):
    """Chance of +1 at each row given all rows, and of each step, over all paths."""
    n = len(evidence)
    single, steps = np.zeros(n), np.zeros((2, 2))
    total = 0.0
    for path in itertools.product((0, 1), repeat=n):
        weight = 0.5 * np.exp(sum(evidence[t] + hint[t] for t in range(n) if path[t] == 0))
        for a, b in itertools.pairwise(path):
            weight *= stay[a] if a == b else 1 - stay[a]
        total += weight
        single += weight * (np.array(path) == 0)
        for a, b in itertools.pairwise(path):
            steps[a, b] += weight
    return single / total, steps / total


def test_regime_odds_equal_the_sum_over_all_paths(monkeypatch, rng):
    monkeypatch.setattr(regime, "STAYS_BEFORE", 0.0)
    evidence, hint, stay = rng.normal(size=9), 0.3 * rng.normal(size=9), np.array([0.8, 0.7])
    before, after = regime.filtered_odds(0.0, evidence, hint, stay)
    for t in range(9):
        known = np.where(np.arange(t + 1) < t, evidence[: t + 1], 0.0)
        single, _ = chances(known, hint[: t + 1], stay)
        assert np.isclose(1 / (1 + np.exp(-before[t])), single[-1])
    whole, again = regime.smoothed_odds(evidence, hint, stay)
    single, steps = chances(evidence, hint, stay)
    assert np.allclose(whole, single)
    assert np.allclose(again, np.diag(steps) / steps.sum(1))
    first, state = regime.filtered_odds(0.0, evidence[:4], hint[:4], stay)
    second, end = regime.filtered_odds(state, evidence[4:], hint[4:], stay)
    assert np.allclose([*first, *second, end], [*before, after])


def test_tokens_that_drift_are_told_from_those_that_stay(rng):
    n = 4000
    x = rng.normal(size=(n, 6))
    drift = np.zeros(n)
    for t in range(1, n):
        drift[t] = 0.998 * drift[t - 1] + 0.3 * np.sqrt(1 - 0.998**2) * rng.normal()
    y = drift * x[:, 2] + 0.15 * x[:, 4] + rng.normal(size=n)
    assert tracking.drifting_tokens(x, y, 0, 200) == [2]
    found = tracking.fit_drift(x[:, [0, 2]], y - 0.15 * x[:, 4], [(0, 0), (2, 0)])
    assert found.tokens == [(2, 0)] and 60 < found.half_life < 2000
    path = found.track(x[:, [2]], y, Memory(), "drift")[:, 0]
    assert np.corrcoef(path[500:], drift[500:])[0, 1] > 0.6


def test_a_track_goes_on_from_the_state_that_an_earlier_row_left(rng):
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    drift = tracking.Drift([(0, 0), (1, 0)], 20.0, 0.1, 1.0)
    memory = Memory(keep=24)
    whole = drift.track(x, y, memory, "drift")
    assert np.allclose(whole, drift.track(x, y, Memory(), "drift"))
    later = drift.track(x[25:], y[25:], Memory(memory.after), "drift")
    assert np.allclose(later, whole[25:], atol=1e-14)


@pytest.mark.parametrize(("shared", "found"), [(True, True), (False, False)])
def test_a_pattern_is_common_only_where_tokens_share_it(shared, found, rng):
    path = rng.normal(size=(1 if shared else 12, 80))
    table = 0.3 * path * rng.choice([-1.0, 1.0], (12, 1)) + 0.1 * rng.normal(size=(12, 80))
    pattern = common_pattern(table, np.full(table.shape, 100.0))
    assert (pattern is not None) == found
    if found:
        assert abs(np.corrcoef(pattern[0], path[0])[0, 1]) > 0.95
