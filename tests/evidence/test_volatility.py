"""Scores of volatility forecasts, against published figures, statsmodels and arithmetic."""

import random

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from crossattn.evidence import (
    coverage_test,
    diebold_mariano,
    mincer_zarnowitz,
    qlike,
    score_volatility,
)


def draw_hundred() -> np.ndarray:
    """The numbers 0 to 99 in the order in which Python 2's ``random.sample`` draws them."""
    pool, drawn = list(range(100)), []
    for k in range(100):
        place = int(random.random() * (100 - k))
        drawn.append(pool[place])
        pool[place] = pool[99 - k]
    return np.array(drawn)


@pytest.mark.parametrize(
    ("power", "t", "p_value"),
    [
        (1, 1.3275742446369585, 0.18737195617455585),
        (2, 1.2112523589452902, 0.22868210381769466),
        (4, 0.9124498079287283, 0.36374861695187799),
    ],
)
def test_diebold_mariano_gives_the_published_figures(power, t, p_value):
    # the example of github.com/johntwk/Diebold-Mariano-Test (2017)
    random.seed(123)
    actual, first, second = (draw_hundred() for _ in range(3))
    losses = [np.abs(actual - f) ** power for f in (first, second)]
    test = diebold_mariano(*losses, lags=0)
    np.testing.assert_allclose([test.t, test.p_value], [t, p_value], rtol=1e-10)


def with_hac_errors(y, x, lags):
    settings = {"maxlags": lags, "use_correction": False}
    return sm.OLS(y, x).fit(cov_type="HAC", cov_kwds=settings)


def test_diebold_mariano_with_overlap_is_statsmodels_hac_times_harveys_correction(rng):
    gain = np.convolve(rng.normal(0.1, 1, 304), np.ones(5), "valid")  # 300 overlapping sums
    fit = with_hac_errors(gain, np.ones(300), 6)
    test = diebold_mariano(gain, 0 * gain, horizon=5, lags=6)
    correction = np.sqrt((300 + 1 - 10 + 20 / 300) / 300)
    np.testing.assert_allclose(test.t, fit.tvalues[0] * correction)
    assert test.interval[0] < test.difference < test.interval[1]


def test_diebold_mariano_size_with_overlapping_targets(rng):
    rejected = 0
    for _ in range(600):
        gain = np.convolve(rng.standard_t(5, 1009), np.ones(10), "valid")
        rejected += diebold_mariano(gain, 0 * gain, horizon=10).p_value < 0.05
    assert 0.03 < rejected / 600 < 0.085


def test_diebold_mariano_averages_over_assets_and_skips_unknown_cells():
    loss = np.random.default_rng(2).normal(size=(60, 3))
    loss[4] = loss[9, 1] = np.nan
    wanted = diebold_mariano(np.nanmean(np.delete(loss, 4, 0), axis=1), np.zeros(59))
    assert diebold_mariano(loss, 0 * loss) == wanted


@pytest.mark.parametrize(("loss", "rival"), [(2.0, 1.0), (0.3, 0.1)])
def test_a_difference_that_never_varies_has_no_error(loss, rival):
    test = diebold_mariano(np.full(50, loss), np.full(50, rival))
    assert test.difference == pytest.approx(loss - rival)
    assert np.isnan([test.t, test.p_value, *test.interval]).all()
    equal = diebold_mariano(np.full(50, loss), np.full(50, loss))
    assert (equal.t, equal.p_value, equal.interval) == (0, 1, (0, 0))


def test_mincer_zarnowitz_is_statsmodels_weighted_regression_with_hac_errors(rng):
    forecast = np.exp(rng.normal(size=500) / 3)
    realised = np.abs(rng.normal(size=500)) * forecast * 1.2
    found = mincer_zarnowitz(forecast, realised)
    weight = np.mean(forecast**2) / forecast**2
    fit = with_hac_errors((realised / forecast) ** 2, np.c_[weight, np.ones(500)], 29)
    np.testing.assert_allclose([found.intercept, found.slope], fit.params, rtol=1e-8)
    errors = fit.bse / np.sqrt(499 / 500)
    np.testing.assert_allclose([found.intercept_error, found.slope_error], errors, rtol=1e-8)
    missed = (realised / forecast) ** 2 - 1
    angles = np.linspace(0, np.pi, 1001)
    combined = [
        diebold_mariano(missed * (np.cos(a) + np.sin(a) * weight), 0 * missed).t for a in angles
    ]
    hotelling, freedom = np.max(np.square(combined)), 1.5 * 500 / 30
    wanted = stats.f.sf(hotelling / 2 * (freedom - 1) / freedom, 2, freedom - 1)
    np.testing.assert_allclose(found.p_value, wanted, rtol=1e-3)


@pytest.mark.parametrize(("n", "horizon"), [(250, 5), (500, 21)])
def test_mincer_zarnowitz_has_its_size_with_overlapping_targets(n, horizon, rng):
    def over_horizon(x):
        return np.sqrt(np.lib.stride_tricks.sliding_window_view(x, horizon).sum(axis=-1))

    found = {1.0: [], 1.3: []}
    for _ in range(300):
        variance = np.exp(0.3 * np.cumsum(rng.normal(0, 0.05, n + horizon - 1)))
        realised = over_horizon(variance * rng.normal(size=len(variance)) ** 2)
        for scale, rows in found.items():
            forecast = scale * over_horizon(variance)
            rows.append(mincer_zarnowitz(forecast, realised, horizon).p_value)
    assert np.mean(np.less(found[1.0], 0.05)) < 0.11 and np.mean(np.less(found[1.0], 0.01)) < 0.03
    assert np.mean(np.less(found[1.3], 0.01)) > 0.95


def test_a_volatility_that_never_varies_is_not_explained():
    row = score_volatility({"half": np.full((50, 2), 0.01)}, np.full((50, 2), 0.02)).loc["half"]
    assert np.isnan(row[["r_squared", "unbiased_p"]].astype(float)).all()


def test_scores_stand_side_by_side_on_the_same_cells(rng):
    truth = np.exp(rng.normal(size=(400, 2)) / 2)
    realised = np.abs(rng.normal(size=(400, 2))) * truth
    flat = np.full_like(truth, 1.2)
    flat[:7] = np.nan
    table = score_volatility({"flat": flat, "truth": truth}, realised, reference="flat")
    assert table.loc["truth", "qlike"] == pytest.approx(qlike(truth[7:], realised[7:]).mean())
    logs = 2 * np.log(realised[7:] / truth[7:])
    assert table.loc["truth", "mse_log"] == pytest.approx((logs**2).mean())
    assert table.loc["truth", "gain"] == pytest.approx(-table["qlike"].diff().iloc[-1])
    assert table.loc["truth", "t"] > 3 and np.isnan(table.loc["flat", "t"])
    assert table.loc["truth", "r_squared"] > table.loc["flat", "r_squared"]


@pytest.mark.parametrize(
    ("level", "n", "low", "high"),
    [(0.01, 510, 1, 11), (0.01, 1000, 4, 17), (0.05, 255, 6, 21), (0.05, 1000, 37, 65)],
)
def test_kupiec_rejects_outside_of_his_published_bounds(level, n, low, high):
    def p_value(count):
        return coverage_test(np.arange(n) < count, level).unconditional_p

    assert p_value(low) < 0.05 < p_value(low + 1)
    assert p_value(high) < 0.05 < p_value(high - 1)


def test_christoffersen_tells_runs_from_scattered_violations():
    scattered, runs = np.zeros((2, 1000))
    scattered[::20], runs[:50] = 1, 1
    assert coverage_test(scattered, 0.05).unconditional_p == pytest.approx(1.0)
    assert coverage_test(runs, 0.05).independence_p < 1e-10
    assert coverage_test(runs, 0.05).conditional_p < 1e-10
    hits = np.random.default_rng(0).random((400, 800)) < 0.05
    assert np.mean([coverage_test(h, 0.05).independence_p < 0.05 for h in hits]) < 0.1


def test_what_cannot_be_scored_is_refused(refuse_input):
    ones = np.ones((9, 1))
    refuse_input(lambda: score_volatility({}, ones), "at least one")
    refuse_input(lambda: score_volatility({"a": ones}, ones, reference="b"), "reference")
    refuse_input(lambda: score_volatility({"a": np.ones((9, 2))}, ones), "one shape")
    refuse_input(lambda: diebold_mariano(np.ones(5), np.ones(5)), "at least 8 rows")
    refuse_input(lambda: diebold_mariano(np.ones(9), np.ones(8)), "one shape")
    refuse_input(lambda: mincer_zarnowitz(np.ones(3), np.ones(3)), "at least 8 rows")
    refuse_input(lambda: mincer_zarnowitz([], []), "at least 8 rows")
    refuse_input(lambda: coverage_test(np.ones(5), 0.05), "8 or more zeros and ones")
    refuse_input(lambda: coverage_test(np.full(20, 0.5), 0.05), "zeros and ones")
