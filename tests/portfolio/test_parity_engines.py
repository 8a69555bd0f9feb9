"""Equity beside vectorbt, bt and quantstats, which were written by others."""

import numpy as np
import pandas as pd
import pytest
from standin.backtesters import bt_equity, load, vectorbt_equity
from standin.prices import at, table
from standin.windows import simulated_windows

from crossattn import CrossAttentionBacktest, backtest_weights

FEE = 0.002


def market(kind, seed=0):
    rng = np.random.default_rng(seed)
    prices = table(100 * np.exp(rng.normal(0, 0.02, (120, 4)).cumsum(axis=0)))
    weights = rng.dirichlet(np.ones(4), 18)
    if kind == "5 % slack":
        weights = 0.95 * weights
    if kind == "long-short":
        weights = rng.normal(0, 1, (18, 4))
        weights /= np.abs(weights).sum(axis=1, keepdims=True)
    return at(prices, np.arange(0, 120, 7), weights), prices


KINDS = ("5 % slack", "fully invested", "long-short")


@pytest.mark.parametrize("kind", KINDS)
def test_equity_equals_vectorbt_on_target_amounts(kind):
    """vectorbt trades the share counts that the engine holds after each decision."""
    weights, prices = market(kind)
    ours = backtest_weights(weights, prices, transaction_cost=FEE)
    amounts = ours.positions.loc[weights.index]
    theirs = vectorbt_equity(load("vectorbt"), prices, amounts, "targetamount", FEE, "D")
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)


def test_equity_equals_vectorbt_on_target_percentages_of_the_value_before_costs():
    weights, prices = market("5 % slack", seed=3)
    theirs = vectorbt_equity(load("vectorbt"), prices, weights, "targetpercent", FEE, "D")
    ours = backtest_weights(weights, prices, transaction_cost=FEE, sizing="before_cost")
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equity_equals_bt_by_its_own_rule(kind):
    weights, prices = market(kind, seed=1)
    weights.iloc[3, 2] = weights.iloc[5, 0] = 0.0  # positions that are closed
    theirs = bt_equity(load("bt"), prices, weights, FEE)
    ours = backtest_weights(weights, prices, transaction_cost=FEE, sizing="bt")
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)


@pytest.fixture(scope="module")
def ran():
    data = simulated_windows(lookback=8, n_assets=4, n_steps=600, seed=2)[1]
    model = lambda data: data.X[:, :, -1, 0] * 0.3  # noqa: E731
    backtest = CrossAttentionBacktest(model, 1e5, 0.001, 6, allow_short=True)
    return data, backtest, backtest.run(data)


def test_vectorbt_takes_the_positions_as_they_are(ran):
    vbt = load("vectorbt")
    data, backtest, results = ran
    prices = pd.DataFrame(data.closes[data.ends], data.timestamps, data.symbols)
    scaled = prices / prices.iloc[0]  # shares count prices that start at 1
    # the two lines
    shares = results.attrs["positions"].loc[prices.index]
    theirs = vectorbt_equity(vbt, scaled, shares, "targetamount", 0.001, "1h")
    ours = backtest.result_.equity.loc[prices.index]
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)


def test_quantstats_takes_the_returns_as_they_are(ran):
    quantstats = pytest.importorskip("quantstats")
    _, backtest, results = ran
    # the two lines
    returns = results.set_index("timestamp")["return"]
    theirs = quantstats.stats.sharpe(returns, periods=8760)
    metrics = backtest.compute_metrics(results, periods_per_year=8760)
    assert theirs == pytest.approx(metrics["sharpe_ratio"], rel=1e-9)
    assert quantstats.stats.max_drawdown(returns) == pytest.approx(metrics["max_drawdown"])
