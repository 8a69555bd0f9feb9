"""Accounts kept by vectorbt and bt, to compare ours with."""

import warnings

import pytest


def load(name: str):
    """Import a package without its warnings, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def vectorbt_equity(vbt, prices, size, size_type: str, fee: float, freq: str):
    """Return the equity of one vectorbt account that trades ``size`` at its rows."""
    orders = {"size": size.reindex(prices.index), "size_type": size_type, "fees": fee}
    shared = {"cash_sharing": True, "group_by": True, "call_seq": "auto"}
    account = vbt.Portfolio.from_orders(prices, **orders, **shared, init_cash=1e5, freq=freq)
    return account.value()


def bt_equity(bt, prices, weights, fee: float):
    """Return the equity of one bt account that trades to ``weights``; times have no zone there."""
    plain, targets = prices.tz_localize(None), weights.tz_localize(None)
    strategy = bt.Strategy("weights", [bt.algos.WeighTarget(targets), bt.algos.Rebalance()])
    settings = {"integer_positions": False, "progress_bar": False, "initial_capital": 1e5}
    costs = {"commissions": lambda quantity, price: fee * abs(quantity) * price}
    test = bt.Backtest(strategy, plain, **costs, **settings)
    test.run()
    return test.strategy.values.reindex(plain.index).to_numpy()
