"""50,000 bars of 20 assets, rebalanced daily: beside vectorbt and bt on the same machine.

Run with ``make bench``. Ratios of CPU time, not seconds: both sides run warm, one thread, in turn.
"""

import time

import numpy as np
import pandas as pd
import pytest
from benchmarks.measure import seconds
from standin.backtesters import bt_equity, load, vectorbt_equity

from crossattn import backtest_weights

ROWS, ASSETS, FEE = 50_000, 20, 0.001

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(0)
    index = pd.date_range("2018-01-01", periods=ROWS, freq="h", tz="UTC")
    symbols = [f"S{k:02d}" for k in range(ASSETS)]
    walk = np.cumsum(rng.normal(0, 0.005, (ROWS, ASSETS)), axis=0)
    prices = pd.DataFrame(100 * np.exp(walk), index=index, columns=symbols)
    decisions = index[::24]
    weights = 0.95 * rng.dirichlet(np.ones(ASSETS), len(decisions))
    return pd.DataFrame(weights, index=decisions, columns=symbols), prices


def test_twenty_times_faster_than_vectorbt(market, compared):
    vbt = load("vectorbt")
    weights, prices = market
    result = backtest_weights(weights, prices, transaction_cost=FEE)
    amounts = result.positions.loc[weights.index]

    def ours():
        return backtest_weights(weights, prices, transaction_cost=FEE).equity

    def theirs():
        return vectorbt_equity(vbt, prices, amounts, "targetamount", FEE, "h")

    np.testing.assert_allclose(theirs(), result.equity, rtol=1e-9)
    taken = seconds({"ours": ours, "theirs": theirs}, 5)
    name = "backtest of 50,000 bars, 20 assets, daily"
    assert compared(name, **taken, beside="vectorbt", asked=269) >= 20


def test_a_thousand_times_faster_than_bt(market, compared):
    bt = load("bt")
    weights, prices = market
    start = time.process_time()
    theirs = bt_equity(bt, prices, weights, FEE)
    other = time.process_time() - start

    def ours():
        return backtest_weights(weights, prices, transaction_cost=FEE, sizing="bt").equity

    np.testing.assert_allclose(ours(), theirs, rtol=1e-9)
    mine = seconds({"ours": ours})["ours"]
    name = "backtest of 50,000 bars, 20 assets, daily, sizes as bt"
    assert compared(name, mine, other, beside="bt", asked=1900) >= 1000
