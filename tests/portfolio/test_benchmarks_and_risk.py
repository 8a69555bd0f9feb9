"""Benchmark strategies, mean-variance weights, risk measures, attribution and capacity."""

import functools

import numpy as np
import pandas as pd
import pytest

from crossattn import backtest_weights
from crossattn.errors import InvalidInputError
from crossattn.portfolio import (
    Costs,
    Limits,
    break_even_cost,
    cap_weights,
    capacity_curve,
    compare,
    diversification_ratio,
    effective_number_of_bets,
    equal_weight,
    inverse_volatility,
    mean_variance_weights,
    momentum,
    plot_equity,
    probabilistic_sharpe,
    risk_by_asset,
    scale_to_volatility,
)


def walk(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 0.005, (rows, 1))
    steps = common + rng.normal(0, 1, (rows, 4)) * [0.01, 0.02, 0.03, 0.01]
    index = pd.date_range("2022-01-01", periods=rows, freq="D", tz="UTC")
    return pd.DataFrame(np.exp(steps.cumsum(0)), index=index, columns=list("ABCD"))


@pytest.fixture
def prices():
    return walk()


BENCHMARKS = {
    "equal": lambda p: equal_weight(p, every=10),
    "inverse volatility": lambda p: inverse_volatility(p, every=10, window=40),
    "momentum": lambda p: momentum(p, every=10, window=40),
    "long-short momentum": lambda p: momentum(p, every=10, window=40, allow_short=True),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_do_not_depend_on_the_future(name, prices):
    weights = BENCHMARKS[name](prices)
    np.testing.assert_allclose(weights.abs().sum(axis=1), 1.0, rtol=1e-9)
    changed = prices.copy()
    changed.iloc[201:] *= np.linspace(1, 3, 99)[:, None] ** np.array([1, -1, 2, 0])
    later = BENCHMARKS[name](changed)
    cut = prices.index[200]
    pd.testing.assert_frame_equal(weights[:cut], later[:cut])
    shuffled = BENCHMARKS[name](prices[list("CADB")])[list("ABCD")]
    np.testing.assert_allclose(shuffled, weights, atol=1e-4)
    backtest_weights(weights, prices)


BY_SYMBOL = {
    "diversification ratio": lambda w, r: diversification_ratio(w, r.cov()),
    "bets": lambda w, r: effective_number_of_bets(w, r.cov()),
    "risk by asset": lambda w, r: risk_by_asset(w, r)["volatility_share"],
    "volatility target": lambda w, r: scale_to_volatility(w, r.cov(), 0.01),
    "limits": lambda w, r: Limits(max_position={"C": 0.05}).nearest(
        pd.DataFrame([w]) if isinstance(w, pd.Series) else [w], list(r)
    ),
}


@pytest.mark.parametrize("name", BY_SYMBOL)
def test_labelled_weights_go_by_symbol(name, prices):
    returns = prices[["A", "B", "C"]].pct_change().dropna()
    weights = pd.Series({"C": 0.7, "B": 0.2, "A": 0.1})
    turned = BY_SYMBOL[name](weights, returns)
    np.testing.assert_allclose(turned, BY_SYMBOL[name](np.array([0.1, 0.2, 0.7]), returns))
    with pytest.raises(InvalidInputError, match="symbols must be A, B, C"):
        BY_SYMBOL[name](weights.rename({"A": "D"}), returns)


def test_inverse_volatility_by_hand(prices):
    row = inverse_volatility(prices, every=1, window=40).loc[prices.index[90]]
    deviation = np.log(prices).diff().iloc[51:91].std()
    np.testing.assert_allclose(row, (1 / deviation) / (1 / deviation).sum(), rtol=1e-9)


def test_momentum_buys_winners(prices):
    row = momentum(prices, every=1, window=40, skip=5, allow_short=True).loc[prices.index[90]]
    risen = prices.iloc[85] / prices.iloc[50]
    assert row.idxmax() == risen.idxmax()
    assert row.idxmin() == risen.idxmin()
    assert row.sum() == pytest.approx(0.0)


def test_assets_without_prices_are_left_out(prices):
    prices.iloc[:200, 1] = np.nan
    assert equal_weight(prices).iloc[0].tolist() == [1 / 3, 0, 1 / 3, 1 / 3]
    assert (inverse_volatility(prices, window=40)["B"].iloc[:150] == 0).all()


def test_mean_variance_by_hand():
    forecast, covariance = np.array([0.002, -0.001, 0.0005]), np.diag([0.01, 0.02, 0.01])
    free = mean_variance_weights(forecast, covariance, risk_aversion=2, allow_short=True)
    np.testing.assert_allclose(free, forecast / (2 * np.diag(covariance)), atol=1e-4)
    for cost, wanted in ((0.0, [0.1, 0.0, 0.025]), (0.001, [0.05, 0.0, 0.0])):
        long = mean_variance_weights(forecast, covariance, risk_aversion=2, transaction_cost=cost)
        np.testing.assert_allclose(long, wanted, atol=1e-4)
    held = np.array([0.1, 0.1, 0.02])
    stay = mean_variance_weights(
        forecast, covariance, held, risk_aversion=2, transaction_cost=0.006, allow_short=True
    )
    np.testing.assert_allclose(stay, held, atol=1e-9)
    greedy = mean_variance_weights(forecast * 1000, covariance, max_position=0.7, allow_short=True)
    assert np.abs(greedy).sum() <= 1 + 1e-6
    assert np.abs(greedy).max() <= 0.7


def test_mean_variance_of_assets_that_are_forecast_0_is_0():
    found = mean_variance_weights(np.array([0.02, 0.0]), np.diag([0.04, 0.01]))
    np.testing.assert_allclose(found, [0.1, 0.0], atol=1e-6)


def test_mean_variance_matches_series_by_symbol(refuse_input):
    forecast, held = pd.Series({"B": 0.02, "A": 0.01}), pd.Series({"B": 0.3, "A": 0.0})
    options = {"transaction_cost": 0.001}
    wanted = mean_variance_weights(forecast[::-1].array, COVARIANCE, held[::-1].array, **options)
    found = mean_variance_weights(forecast, COVARIANCE, held, **options)
    np.testing.assert_array_equal(found, wanted)
    words = "forecast: symbols must be A, B; 'A' differs"
    refuse_input(lambda: mean_variance_weights(forecast.rename({"A": "C"}), COVARIANCE), words)


@pytest.mark.parametrize("kind", [object, str])
def test_prices_of_other_types_count_as_numbers(kind):
    prices = walk(80)
    for made in (equal_weight, inverse_volatility, momentum):
        pd.testing.assert_frame_equal(made(prices.astype(kind)), made(prices))


def test_diversification_by_hand():
    covariance = np.diag([0.04, 0.04, 0.04])
    assert diversification_ratio(np.full(3, 1 / 3), covariance) == pytest.approx(np.sqrt(3))
    one_factor = np.full((3, 3), 0.04)
    assert diversification_ratio(np.full(3, 1 / 3), one_factor) == pytest.approx(1.0)
    pair = np.array([[0.04, 0.02], [0.02, 0.04]])  # principal portfolios (1, 1) and (1, -1)
    assert effective_number_of_bets(np.array([0.5, 0.5]), pair) == pytest.approx(1.0)
    shares = np.array([0.06 * 0.5, 0.02 * 0.5]) / (0.04)  # of w = (1, 0)
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert effective_number_of_bets(np.array([1.0, 0.0]), pair) == pytest.approx(expected)
    distinct = np.diag([0.04, 0.02, 0.01])
    even = 1 / np.sqrt(np.diag(distinct))
    assert effective_number_of_bets(even, distinct) == pytest.approx(3.0)
    assert effective_number_of_bets(np.zeros(3), distinct) == 0.0


def test_tail_risk_and_its_parts_add_up(rng):
    returns = pd.DataFrame(rng.standard_t(3, (997, 3)) * 0.01, columns=list("ABC"))
    weights = np.array([0.5, -0.3, 0.8])
    together = returns.to_numpy() @ weights
    table = risk_by_asset(weights, returns, level=0.9)
    assert table["volatility_share"].sum() == pytest.approx(together.std(ddof=1))
    assert table["shortfall_share"].sum() == pytest.approx(-np.sort(together)[:100].mean())
    alone = np.sort(0.8 * returns["C"])
    assert table.loc["C", "value_at_risk"] == -alone[99]
    assert table.loc["C", "expected_shortfall"] == pytest.approx(-alone[:100].mean())


def test_attribution_adds_up(prices):
    weights = momentum(prices, every=7, window=30, allow_short=True)
    result = backtest_weights(weights, prices, costs=Costs(borrow_rate=0.05))
    change = result.equity.iloc[-1] - result.initial_capital
    table = result.attribution()
    assert table["net"].sum() - result.financing.sum() == pytest.approx(change, rel=1e-9)
    assert table["cost"].sum() == pytest.approx(result.costs.sum())


def test_break_even_cost_leaves_nothing():
    prices = walk(seed=3) * np.exp(np.linspace(0, 1, 300))[:, None]
    weights = momentum(prices, every=5, window=20)
    cost = break_even_cost(weights, prices)
    assert 0 < cost < 0.1
    final = backtest_weights(weights, prices, transaction_cost=cost).equity.iloc[-1]
    assert final == pytest.approx(100_000, rel=1e-5)
    assert break_even_cost(weights, 1 / prices) == 0.0


def test_capacity_falls_with_size(prices):
    curve = capacity_curve(
        momentum(prices, every=5, window=20), prices, [1e4, 1e6, 1e8], volume=prices * 0 + 1e7
    )
    assert (np.diff(curve["annual_return"]) < 0).all()
    assert (np.diff(curve["cost_share"]) > 0).all()


def test_account_plot_shows_drawdown_exposure_and_turnover():
    import matplotlib.pyplot as plt

    prices = walk(rows=100)
    half = backtest_weights(0.5 * equal_weight(prices), prices, transaction_cost=0.0)
    figure = plot_equity({"half": half}, exposure=True).figure
    equity, drawdown, exposure, turnover = figure.axes
    assert np.allclose(equity.lines[0].get_ydata(), half.equity / half.initial_capital)
    assert np.isclose(exposure.lines[0].get_ydata()[50], 0.5, atol=0.01)
    assert np.isclose(turnover.lines[0].get_ydata()[50], half.turnover.iloc[49:51].mean())
    deepest = drawdown.collections[0].get_paths()[0].vertices[:, 1].min()
    assert np.isclose(deepest, 100 * half.metrics()["max_drawdown"])
    assert len(plot_equity({"half": half}).figure.axes) == 2
    plt.close("all")


def test_compare_puts_all_on_the_same_costs(prices):
    table = compare({"equal": equal_weight(prices), "idle": equal_weight(prices)[:0]}, prices)
    alone = backtest_weights(equal_weight(prices), prices).metrics()
    assert table.loc["equal"].to_dict() == pytest.approx(alone)


def test_bad_input_is_refused(prices, refuse_input):
    p = prices
    refuse_input(lambda: mean_variance_weights(np.array([]), np.zeros((0, 0))), "an asset or more")
    refuse_input(lambda: momentum(p, window=5, skip=6), "below window=5")
    refuse_input(lambda: compare({}, p), "strategies")
    refuse_input(lambda: equal_weight(p.tz_localize(None)), "must be UTC")
    refuse_input(lambda: mean_variance_weights(np.zeros(2), np.eye(3)), r"\(2, 2\)")
    refuse_input(lambda: mean_variance_weights(np.zeros(2), -np.eye(2)), "semi-definite")
    refuse_input(lambda: mean_variance_weights(np.zeros(2), [[1.0, 0.5], [0.0, 1.0]]), "symmetric")
    refuse_input(lambda: diversification_ratio(np.zeros(2), [[1.0, 2.0], [0.0, 1.0]]), "symmetric")
    refuse_input(lambda: risk_by_asset(np.ones(4), p.pct_change(), level=np.nan), "level")
    refuse_input(lambda: capacity_curve(equal_weight(p), p, [], volume=p), "not be empty")
    refuse_input(lambda: compare([equal_weight(p)], p), "strategies")
    refuse_input(lambda: plot_equity({}), "results")
    refuse_input(lambda: plot_equity({"mine": equal_weight(p)}), "'mine' must")
    refuse_input(lambda: probabilistic_sharpe(p["A"].pct_change().dropna(), "high"), "benchmark")
    refuse_input(lambda: cap_weights(["much", "little"]), "hold numbers")
    refuse_input(lambda: capacity_curve(equal_weight(p), p, 1e6, volume=p), "must have shape")
    refuse_input(lambda: capacity_curve(equal_weight(p), p, ["much"], volume=p), "hold numbers")
    given = equal_weight(p), p
    refuse_input(lambda: break_even_cost(*given, transaction_cost=0.1), "transaction_cost is what")
    capacity = functools.partial(capacity_curve, *given, [1.0], volume=p)
    refuse_input(lambda: capacity(initial_capital=5), "initial_capital is each of capitals")
    limited = functools.partial(mean_variance_weights, np.zeros(2), COVARIANCE, limits=Limits())
    for twice in ({"max_position": 0.1}, {"allow_short": True}):
        words = "limits hold allow_short and max_position"
        refuse_input(functools.partial(limited, **twice), words)


COVARIANCE = pd.DataFrame(np.diag([0.01, 0.02]), ["A", "B"], ["A", "B"])


def test_an_asset_that_cannot_be_weighted_is_refused_by_name(refuse):
    hole, still = COVARIANCE.copy(), COVARIANCE.copy()
    hole.loc["B"] = hole["B"] = np.nan
    still.loc["B", "B"] = 0.0
    walk = pd.DataFrame({"A": [0.1, -0.1, 0.1], "B": [np.nan] * 3})
    refuse(lambda: mean_variance_weights([0, 0], hole), "finite.*'B'")
    refuse(lambda: mean_variance_weights([0, 0], still), "variance above 0; leave out 'B'")
    words = "forecast and held must be finite; leave out 'B'"
    refuse(lambda: mean_variance_weights([0, np.nan], COVARIANCE), words)
    refuse(lambda: risk_by_asset(np.ones(2), walk), "none for B")
