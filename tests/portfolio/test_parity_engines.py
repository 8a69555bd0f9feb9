"""Equity beside vectorbt and bt, which were written by others."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from crossattn import backtest_weights

FEE = 0.002


@pytest.fixture(scope="module")
def vbt():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("vectorbt")


@pytest.fixture(scope="module")
def bt():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("bt")


def market(kind, seed=0, rows=120, assets=5):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC")
    symbols = [f"S{k}" for k in range(assets)]
    walk = np.cumsum(rng.normal(0, 0.02, (rows, assets)), axis=0)
    prices = pd.DataFrame(100 * np.exp(walk), index=index, columns=symbols)
    decisions = index[::7]
    weights = rng.dirichlet(np.ones(assets), len(decisions))
    if kind == "5 % slack":
        weights = 0.95 * weights
    if kind == "long-short":
        weights = rng.normal(0, 1, (len(decisions), assets))
        weights /= np.abs(weights).sum(axis=1, keepdims=True)
    return pd.DataFrame(weights, index=decisions, columns=symbols), prices


KINDS = ("5 % slack", "fully invested", "long-short")


def from_orders(vbt, prices, size, size_type):
    return vbt.Portfolio.from_orders(
        prices,
        size=size.reindex(prices.index),
        size_type=size_type,
        fees=FEE,
        init_cash=100_000.0,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        freq="D",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_equity_equals_vectorbt_on_target_amounts(vbt, kind):
    """vectorbt trades the share counts that the fixed point V' = V - c sum|w V' - h| asks for."""
    weights, prices = market(kind)
    cash, shares, wanted = 100_000.0, np.zeros(prices.shape[1]), {}
    for time, target in weights.iterrows():
        price = prices.loc[time].to_numpy()
        value = cash + shares @ price
        base = value
        for _ in range(200):  # plain fixed-point iteration; the engine uses Newton's method
            base = value - FEE * np.abs(target.to_numpy() * base - shares * price).sum()
        new = target.to_numpy() * base / price
        cash -= (new - shares) @ price + FEE * np.abs((new - shares) * price).sum()
        shares = new
        wanted[time] = new
    amounts = pd.DataFrame.from_dict(wanted, orient="index", columns=prices.columns)
    theirs = from_orders(vbt, prices, amounts, "targetamount").value()
    ours = backtest_weights(weights, prices, transaction_cost=FEE)
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)
    np.testing.assert_allclose(
        ours.positions.loc[amounts.index], amounts, rtol=1e-9, atol=1e-9 * 100_000
    )


def test_equity_equals_vectorbt_on_target_percentages_of_the_value_before_costs(vbt):
    weights, prices = market("5 % slack", seed=3)
    theirs = from_orders(vbt, prices, weights, "targetpercent").value()
    ours = backtest_weights(weights, prices, transaction_cost=FEE, sizing="before_cost")
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equity_equals_bt_by_its_own_rule(bt, kind):
    weights, prices = market(kind, seed=1)
    weights.iloc[3, 2] = weights.iloc[5, 0] = 0.0  # positions that are closed
    weights.index = weights.index.tz_localize(None)
    strategy = bt.Strategy("weights", [bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
    plain = prices.tz_localize(None)
    test = bt.Backtest(
        strategy,
        plain,
        initial_capital=100_000.0,
        commissions=lambda quantity, price: FEE * abs(quantity) * price,
        integer_positions=False,
        progress_bar=False,
    )
    bt.run(test)
    theirs = test.strategy.values.reindex(plain.index).to_numpy()
    weights.index = weights.index.tz_localize("UTC")
    ours = backtest_weights(weights, prices, transaction_cost=FEE, sizing="bt")
    np.testing.assert_allclose(ours.equity, theirs, rtol=1e-9)
