"""Scores of forecasts against NumPy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from crossattn.errors import InvalidInputError
from crossattn.evidence import (
    benjamini_hochberg,
    calibration_error,
    diebold_mariano,
    live_coefficient,
    pinball_loss,
    reliability,
    robust_regression,
    score_classes,
    score_volatility,
    to_signals,
    up_probability,
)
from crossattn.evidence.scores import correlation, score_forecasts


def test_what_holds_no_numbers_or_has_another_shape_is_refused(refuse_input):
    words, odds = np.full((9, 3), "up"), [0.1, 0.2]
    flat, thirds = np.zeros((50, 2)), {"a": np.full((50, 2, 3), 1 / 3)}
    given, column = {"a": flat}, flat[:, 0]
    refuse_input(lambda: score_forecasts({"a": words}, flat), "forecasts: 'a' must hold numbers")
    refuse_input(lambda: score_forecasts([words], np.zeros((9, 3))), "forecasts must be a mapping")
    refuse_input(lambda: score_volatility([words], np.ones((9, 3))), "forecasts must be a mapping")
    refuse_input(lambda: to_signals(["up"], ["A"]), "predictions must hold numbers")
    refuse_input(lambda: reliability([0.1], [1], n_bins="all"), "n_bins must be an integer")
    refuse_input(lambda: benjamini_hochberg(["low"]), "p_values must hold numbers")
    refuse_input(lambda: pinball_loss(words, 0.0, [0.5]), "quantiles must hold numbers")
    refuse_input(lambda: correlation(np.ones((3, 2)), np.ones((2, 3))), "shape")
    refuse_input(lambda: score_forecasts({"a": np.ones((3, 1))}, np.ones((3, 2))), "'a' and actual")
    refuse_input(lambda: score_forecasts(given, flat, horizon="x"), "horizon must be an integer")
    refuse_input(lambda: live_coefficient(flat, flat, horizon="x"), "horizon must be an integer")
    refuse_input(lambda: calibration_error(flat, flat, horizon="x"), "horizon must be an integer")
    refuse_input(lambda: calibration_error(flat, flat, horizon=-5), "horizon must be an integer")
    refuse_input(lambda: to_signals([0.1], ["A"], band="x"), "band must be")
    refuse_input(lambda: up_probability(["a"], [0.1]), "forecast must hold numbers")
    refuse_input(lambda: up_probability([0.1], ["a"]), "volatility must hold numbers")
    refuse_input(lambda: up_probability([0.1], [0.0]), "volatility must be above 0")
    refuse_input(lambda: reliability(odds, [1, 3], n_bins=1), "happened must be 0 or 1.* 3")
    refuse_input(lambda: reliability(odds, [0.5, 1], n_bins=1), "happened must be 0 or 1.* 0.5")
    refuse_input(lambda: score_classes(thirds, flat + 5), "labels must be .* up to 2.* got 5")
    refuse_input(lambda: score_classes(thirds, flat + 0.5), "labels must be integers")
    refuse_input(lambda: robust_regression(column, column), "regressors must have shape")
    refuse_input(lambda: robust_regression(flat[:9, 0], flat), "regressors must have shape")
    refuse_input(lambda: robust_regression(column * np.nan, flat), "target must be finite")
    refuse_input(lambda: robust_regression(column, flat * np.nan), "regressors must be finite")
    refuse_input(lambda: robust_regression(column, flat, lags="x"), "lags must be an integer")


@pytest.mark.parametrize("kind", ["Float64", "float64[pyarrow]"])
def test_missing_cells_of_nullable_tables_are_unknown(kind, rng, refuse_input):
    forecast, actual = (pd.DataFrame(x) for x in rng.normal(size=(2, 60, 3)))
    forecast.iloc[4, 1] = actual.iloc[7, 2] = np.nan
    scores = score_forecasts({"a": forecast.astype(kind)}, actual.astype(kind))
    pd.testing.assert_frame_equal(scores, score_forecasts({"a": forecast}, actual))
    odds, happened = forecast[0].rank(pct=True), (actual[0] > 0) * 1.0
    found = reliability(odds.astype(kind), happened.astype(kind), n_bins=4)
    pd.testing.assert_frame_equal(found, reliability(odds, happened, n_bins=4))
    wrong = forecast.astype(str) + "x"
    refuse_input(lambda: score_forecasts({"a": wrong}, actual), "numbers, got DataFrame$")


def test_columns_go_by_symbol(rng):
    actual = pd.DataFrame(rng.normal(0, 0.01, (20, 3)), columns=list("ABC"))
    turned, volatility = actual[list("CAB")], actual.abs() + 1e-3
    scores = score_forecasts({"perfect": turned}, actual, oracle=turned)
    assert (scores[["r_squared", "information_coefficient", "fidelity"]] == 1).all(axis=None)
    assert correlation(turned, actual) == 1
    assert score_volatility({"perfect": volatility[list("CAB")]}, volatility)["qlike"].item() == 0
    with pytest.raises(InvalidInputError, match="symbols must be A, B, C"):
        score_forecasts({"wrong": actual.set_axis(list("ABD"), axis=1)}, actual)


def test_correlation_is_numpys_over_the_known_cells(rng):
    a, b = rng.normal(size=(2, 50, 3))
    a[4, 1] = b[7, 2] = np.nan
    known = np.isfinite(a) & np.isfinite(b)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a[known], b[known])[0, 1], abs=1e-11)


def test_scores_by_hand():
    actual = np.array([[0.02, -0.01, np.nan], [0.01, 0.03, -0.02]])
    forecast = np.array([[0.01, 0.01, 0.5], [0.0, 0.01, -0.01]])
    row = score_forecasts({"mine": forecast}, actual, oracle=forecast * 2).loc["mine"]
    squares = 0.02**2 + 0.01**2 + 0.01**2 + 0.03**2 + 0.02**2
    errors = 0.01**2 + 0.02**2 + 0.01**2 + 0.02**2 + 0.01**2
    assert row["r_squared"] == pytest.approx(1 - errors / squares)
    assert row["hit_rate"] == pytest.approx(3 / 4)  # the zero forecast takes no side
    assert row["fidelity"] == pytest.approx(1.0)


@pytest.mark.parametrize(("n", "horizon"), [(60, 1), (250, 5), (300, 21)])
def test_two_errors_hold_a_correlation_of_overlapping_returns(n, horizon, rng):
    outside = []
    for _ in range(300):
        returns = rng.normal(size=(n + horizon - 1, 5))
        actual = np.lib.stride_tricks.sliding_window_view(returns, horizon, axis=0).sum(axis=-1)
        forecast = lfilter([1.0], [1.0, -0.9], rng.normal(size=(n + 50, 5)), axis=0)[50:]
        row = score_forecasts({"a": forecast}, actual, horizon=horizon).loc["a"]
        outside.append(abs(row["information_coefficient"]) > 1.96 * row["ic_error"])
    assert np.mean(outside) < 0.12


@pytest.mark.parametrize("actual", [0.0, np.nan])
def test_returns_that_never_move_have_no_r_squared(actual):
    row = score_forecasts({"mine": np.ones((3, 2))}, np.full((3, 2), actual)).loc["mine"]
    assert np.isnan(row["r_squared"])
    assert np.isnan(row["hit_rate"])


def test_errors_of_the_correlation_and_of_equal_accuracy(refuse_input, rng):
    """The error is the spread over markets; t and p are those of diebold_mariano."""
    tables = []
    for _ in range(60):
        actual = rng.normal(size=(300, 4)) + rng.normal(size=(300, 1))
        forecasts = {"mine": 0.1 * actual + rng.normal(size=actual.shape) * 0.3, "zero": 0 * actual}
        tables.append(score_forecasts(forecasts, actual, reference="zero"))
    found = [table.loc["mine", "information_coefficient"] for table in tables]
    error = np.mean([table.loc["mine", "ic_error"] for table in tables])
    assert np.std(found) == pytest.approx(error, rel=0.25)
    test = diebold_mariano(actual**2, (actual - forecasts["mine"]) ** 2)
    row = tables[-1].loc["mine"]
    assert (row["t"], row["p_value"]) == (test.t, test.p_value) and row["t"] > 0
    assert tables[-1].loc["zero", ["t", "p_value", "ic_error"]].isna().all()
    refuse_input(lambda: score_forecasts(forecasts, actual, reference="other"), "reference")
