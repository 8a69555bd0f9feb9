"""QLIKE, means of squared returns and the log-linear fit, against hand, loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import GammaRegressor

from crossattn.windows.variance import fit_log_linear, mean_variances, qlike


def test_qlike_by_hand_and_a_zero_counts_as_the_smallest_move():
    forecast, realised = np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0, 0.0, 3.0, 1.0])
    wanted = [4 - np.log(4) - 1, 0.25 - np.log(0.25) - 1, 0.0, np.nan]
    np.testing.assert_allclose(qlike(forecast, realised), wanted)


def test_qlike_is_least_at_the_true_variance_although_the_proxy_is_noisy():
    realised = np.abs(np.random.default_rng(0).normal(size=20_000))
    losses = [qlike(np.full_like(realised, s), realised).mean() for s in (0.9, 1.0, 1.1)]
    assert np.argmin(losses) == 1


@pytest.mark.parametrize(("forecast", "realised"), [([0.0], [1.0]), ([1.0], [-1.0]), ([1], [1, 2])])
def test_qlike_refuses_what_is_no_volatility(forecast, realised, refuse_input):
    refuse_input(lambda: qlike(forecast, realised), "volatilities must be|must have one shape")


@pytest.mark.parametrize("exponential", [False, True])
def test_mean_variances_equal_a_loop_over_known_rows(exponential):
    squares = np.random.default_rng(1).normal(size=(40, 2)) ** 2
    squares[5:9, 0] = np.nan
    found = mean_variances(squares, 4, exponential=exponential)
    for i, t in [(0, 3), (0, 7), (0, 30), (1, 30)]:
        if exponential:
            past = squares[: t + 1, i][np.isfinite(squares[: t + 1, i])][::-1]
            wanted = np.average(past, weights=0.5 ** (np.arange(len(past)) / 4))
        elif np.isfinite(squares[t - 3 : t + 1, i]).any():
            wanted = np.nanmean(squares[max(0, t - 3) : t + 1, i])
        np.testing.assert_allclose(found[t, i], wanted)
    assert mean_variances(np.zeros((3, 1)), 2).tolist() == [[1.0]] * 3


def test_log_linear_fit_is_scikit_learns_gamma_regression():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(800, 3))
    y = rng.gamma(0.5, np.exp(x @ [0.5, -0.3, 0.0]))
    wanted = GammaRegressor(alpha=0.05, tol=1e-8).fit(x, y)
    found = fit_log_linear(np.c_[np.ones(800), x], y, penalty=np.array([0, 0.05, 0.05, 0.05]))
    np.testing.assert_allclose(found, [wanted.intercept_, *wanted.coef_], atol=1e-5)
