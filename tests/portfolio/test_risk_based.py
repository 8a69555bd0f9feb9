"""Risk-based weights against cvxpy, skfolio and arithmetic by hand."""

import numpy as np
import pandas as pd
import pytest
from standin.windows import flat_bars

from crossattn import prepare_cross_attention_data
from crossattn.portfolio import (
    Limits,
    inverse_volatility_weights,
    mean_variance_weights,
    minimum_variance_weights,
    portfolio_bars,
    risk_parity_weights,
    scale_to_volatility,
)


@pytest.fixture(scope="module")
def covariances():
    """Six covariances (M, N, N) whose assets differ in volatility by a factor of ten."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(6, 7, 12)) + 0.6
    scale = np.exp(rng.uniform(-1.2, 1.2, size=(6, 7))) / 100
    return scale[:, :, None] * (roots @ roots.transpose(0, 2, 1)) / 12 * scale[:, None]


def test_minimum_variance_has_no_better_portfolio_near_it(covariances, rng):
    for allow_short in (True, False):
        weights = minimum_variance_weights(covariances, allow_short=allow_short)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        best = np.einsum("mi,mij,mj->m", weights, covariances, weights)
        for _ in range(200):
            other = weights + 0.02 * rng.normal(size=weights.shape)
            other = other if allow_short else np.maximum(other, 0)
            other /= other.sum(axis=1, keepdims=True)
            assert (np.einsum("mi,mij,mj->m", other, covariances, other) >= best).all()
    assert (weights >= 0).all() and (weights == 0).any()


def test_minimum_variance_is_mean_variance_without_a_forecast(covariances):
    limits = Limits(linear={"invested": (1, 1, 1)})
    wanted = mean_variance_weights(np.zeros(7), covariances[0], limits=limits)
    np.testing.assert_allclose(minimum_variance_weights(covariances[0]), wanted, atol=1e-5)


def test_risk_parity_shares_the_variance_and_agrees_with_skfolio(covariances):
    from skfolio.moments import EmpiricalCovariance
    from skfolio.optimization import RiskBudgeting
    from skfolio.prior import EmpiricalPrior

    weights = risk_parity_weights(covariances)
    shares = weights * np.einsum("mij,mj->mi", covariances, weights)
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, 1 / 7, rtol=1e-8)
    returns = np.random.default_rng(2).multivariate_normal(np.zeros(7), covariances[0], size=300)
    prior = EmpiricalPrior(covariance_estimator=EmpiricalCovariance())
    model = RiskBudgeting(prior_estimator=prior).fit(returns)
    mine = risk_parity_weights(np.cov(returns.T))
    np.testing.assert_allclose(mine, model.weights_, atol=1e-4)


@pytest.mark.parametrize(
    "allocate",
    [
        minimum_variance_weights,
        lambda c: minimum_variance_weights(c, allow_short=True),
        risk_parity_weights,
        inverse_volatility_weights,
    ],
)
def test_unknown_assets_are_not_held_and_one_matrix_is_one_row(allocate, covariances):
    whole = allocate(covariances)
    np.testing.assert_allclose(allocate(covariances[2]), whole[2], rtol=1e-9)
    holed = covariances.copy()
    holed[2, 4] = holed[2, :, 4] = np.nan
    holed[3] = np.nan
    weights, kept = allocate(holed), [0, 1, 2, 3, 5, 6]
    assert weights[2, 4] == 0 and (weights[3] == 0).all()
    np.testing.assert_allclose(weights[2, kept], allocate(covariances[2][np.ix_(kept, kept)]))
    np.testing.assert_allclose(weights[[0, 1, 4, 5]], whole[[0, 1, 4, 5]], rtol=1e-9)
    table = pd.DataFrame(covariances[0])
    np.testing.assert_allclose(allocate(table), whole[0], rtol=1e-9)
    assert allocate(covariances[:0]).shape == (0, 7), "no covariance has no weights"


def test_a_scaled_portfolio_has_the_target_or_the_most_gross_weight(covariances):
    weights = minimum_variance_weights(covariances, allow_short=True)
    scaled = scale_to_volatility(weights, covariances, 0.004, max_gross=3.0)
    risk = np.sqrt(np.einsum("mi,mij,mj->m", scaled, covariances, scaled))
    gross = np.abs(scaled).sum(axis=1)
    full = np.isclose(gross, 3.0)
    np.testing.assert_allclose(risk[~full], 0.004)
    assert full.any() and (~full).any() and (risk[full] <= 0.004).all()
    np.testing.assert_allclose(scaled / gross[:, None], weights / abs(weights).sum(1)[:, None])
    np.testing.assert_array_equal(scale_to_volatility([0, np.nan], np.eye(2), 0.1), [0, np.nan])


PATHS = {"A": [10.0, 11.0, np.nan, 12.1], "B": [5.0, 5.0, 6.0, 6.0], "C": [1.0, 2.0, 4.0, 8.0]}
FRAMES = flat_bars(PATHS, list("ABC"), freq="D")


def test_bars_of_a_portfolio_by_hand():
    bars = portfolio_bars(FRAMES, {"A": 3.0, "B": 1.0})
    # 3/4 of 10 %; B alone; 3/4 of 10 % over A's two days
    wanted = 100 * np.cumprod([1.0, 1.075, 1.2, 1.075])
    np.testing.assert_allclose(bars["close"], wanted)
    assert (bars.index == FRAMES["B"].index).all()
    beside = {"B": FRAMES["B"], "P": bars}
    assert prepare_cross_attention_data(beside, 1, 1, ["log_return"]).symbols == ("B", "P")
    in_columns = {symbol: frame.reset_index() for symbol, frame in FRAMES.items()}
    pd.testing.assert_frame_equal(portfolio_bars(in_columns, {"A": 3.0, "B": 1.0}), bars)
    even = portfolio_bars(FRAMES)["close"].iloc[1] / 100
    assert even == pytest.approx(1 + (0.1 + 0.0 + 1.0) / 3)


def test_wrong_input_is_named(refuse_input):
    refuse_input(lambda: minimum_variance_weights(np.ones((2, 2))), "positive definite, matrix 0")
    refuse_input(lambda: risk_parity_weights([[1.0, 0.5], [0.2, 1.0]]), "symmetric")
    refuse_input(lambda: risk_parity_weights(np.ones(3)), "shape")
    refuse_input(lambda: risk_parity_weights(np.ones((2, 3))), "square")
    refuse_input(lambda: risk_parity_weights("abc"), "numbers")
    refuse_input(lambda: inverse_volatility_weights([[1.0, np.inf], [np.inf, 1.0]]), "finite")
    refuse_input(lambda: inverse_volatility_weights(-np.eye(2)), "positive definite")
    refuse_input(lambda: minimum_variance_weights(np.eye(2), allow_short="no"), "allow_short")
    refuse_input(lambda: scale_to_volatility([1.0, 0.0], np.eye(2), 0.0), "target")
    refuse_input(lambda: scale_to_volatility([1.0], np.eye(2), 0.1), "weights must have shape")
    refuse_input(lambda: scale_to_volatility([0, 1.0], np.diag([1, np.nan]), 0.1), "unknown")
    refuse_input(lambda: scale_to_volatility([0, np.inf], np.eye(2), 0.1), "finite")
    refuse_input(lambda: portfolio_bars(FRAMES, [1, 2, 3]), "weights must be a mapping")
    refuse_input(lambda: portfolio_bars(FRAMES, {"Z": 1.0}), "symbols of frames, got 'Z'")
    refuse_input(lambda: portfolio_bars(FRAMES, {"A": -1.0}), "weight of 'A'")
    refuse_input(lambda: portfolio_bars(FRAMES, {"A": 0}), "all be 0")
