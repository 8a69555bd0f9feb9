"""Orders of a live account: those that the backtest makes at the same bar."""

import functools

import numpy as np
import pandas as pd
import pytest
from standin.prices import at, table

from crossattn import backtest_weights
from crossattn.portfolio import rebalancing_orders

NAMES = ["A", "B", "C"]


@pytest.mark.parametrize("cost", [0.0, 0.001, 0.02])
def test_orders_are_the_trades_of_the_backtest(cost, rng):
    prices = table(100 * np.exp(rng.normal(0, 0.03, (30, 3)).cumsum(0)))
    weights = at(prices, range(30), rng.uniform(-0.3, 0.3, (30, 3)))
    result = backtest_weights(weights, prices, transaction_cost=cost)
    for row in (1, 12, 29):
        equity = result.equity.iloc[row] + result.costs.iloc[row]
        orders = rebalancing_orders(
            weights.iloc[row].sample(frac=1, random_state=row),  # by name, not by position
            prices.iloc[row],
            result.positions.iloc[row - 1],
            equity=equity,
            transaction_cost=cost,
        ).set_index("symbol")
        trades = result.trades[result.trades["time"] == prices.index[row]].set_index("symbol")
        for column in ("shares", "price", "value", "cost"):
            np.testing.assert_allclose(orders[column][NAMES], trades[column][NAMES], rtol=1e-9)


def test_holdings_without_forecast_stay_and_others_are_scaled_down():
    weights = pd.Series({"A": np.nan, "B": 0.6, "C": 0.4})
    prices = pd.Series({"A": 10.0, "B": 5.0, "C": 2.0})
    held = pd.Series({"A": 50.0})  # half of the account
    orders = rebalancing_orders(weights, prices, held, equity=1000.0, transaction_cost=0.0)
    assert list(orders["symbol"]) == ["B", "C"]
    np.testing.assert_allclose(orders["value"], [300.0, 200.0])
    assert not len(rebalancing_orders(weights * np.nan, prices, held, equity=1000.0))
    closed = rebalancing_orders(weights * 0, prices, pd.Series({"B": 7.0, "A": 1}), equity=1000.0)
    assert list(closed["shares"]) == [-7.0]


def test_bad_accounts_are_refused_by_name(refuse):
    good = {"weights": pd.Series(0.2, NAMES), "prices": pd.Series(5.0, NAMES), "equity": 100.0}
    orders = functools.partial(rebalancing_orders, **good)
    refuse(lambda: orders(equity=0.0), "equity must be a finite number above 0")
    refuse(lambda: orders(equity=np.inf), "equity")
    refuse(lambda: orders(holdings=pd.Series({"Z": 1.0})), "holdings hold 'Z'.*A, B, C")
    refuse(lambda: orders(holdings=pd.Series([1.0, 2.0], ["A", "A"])), "'A' twice")
    refuse(lambda: orders(holdings=pd.Series({"A": np.inf})), "holdings must be finite")
    refuse(lambda: orders(holdings=pd.Series({"A": "many"})), "holdings must be numbers")
    refuse(lambda: orders(holdings={"A": 1.0}), "holdings must be a Series")
    refuse(lambda: orders(prices=pd.Series([1.0, 2.0], ["A", "B"])), "must be positive.*'C'")
    refuse(lambda: orders(prices=pd.Series([1.0, -2.0, 1.0], NAMES)), "got -2.0 for 'B'")
    refuse(lambda: orders(transaction_cost=1.0), "transaction_cost")
