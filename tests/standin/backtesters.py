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
    portfolio = vbt.Portfolio.from_orders(
        prices,
        size=size.reindex(prices.index),
        size_type=size_type,
        fees=fee,
        init_cash=100_000.0,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        freq=freq,
    )
    return portfolio.value()


def bt_equity(bt, prices, weights, fee: float):
    """Return the equity of one bt account that trades to ``weights``; times have no zone there."""
    plain, targets = prices.tz_localize(None), weights.tz_localize(None)
    strategy = bt.Strategy("weights", [bt.algos.WeighTarget(targets), bt.algos.Rebalance()])
    test = bt.Backtest(
        strategy,
        plain,
        initial_capital=100_000.0,
        commissions=lambda quantity, price: fee * abs(quantity) * price,
        integer_positions=False,
        progress_bar=False,
    )
    test.run()
    return test.strategy.values.reindex(plain.index).to_numpy()
