"""Money adds up: random markets with every cost, gap, delisting and leverage there is."""

import functools

import numpy as np
import pandas as pd
import pytest

from crossattn import backtest_weights
from crossattn.portfolio import Costs, engine
from crossattn.portfolio._account import SIZINGS, compiled_account, simulate_account


def random_case(seed):
    """Weights, prices and options of one market, with anything that can happen to it."""
    rng = np.random.default_rng(seed)
    rows, assets = int(rng.integers(2, 40)), int(rng.integers(1, 6))
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC")
    symbols = [f"S{k}" for k in range(assets)]
    table = functools.partial(pd.DataFrame, index=index, columns=symbols)
    walk = np.cumsum(rng.standard_t(4, (rows, assets)) * 0.04, axis=0)
    prices = table(np.exp(walk + rng.normal(0, 3, assets)))
    gaps = rng.random(prices.shape) < rng.choice([0.0, 0.2])
    gaps[rng.integers(rows), :] = False
    prices = prices.mask(gaps)
    chosen = np.flatnonzero(rng.random(rows) < 0.5)
    values = rng.normal(0.1, rng.choice([0.2, 1.0, 3.0]), (len(chosen), assets))
    values[rng.random(values.shape) < 0.15] = np.nan
    sizing = SIZINGS[seed % 3]
    rates = {"slippage": 0.001, "borrow_rate": 0.5, "cash_rate": 0.1, "margin_rate": 0.2}
    rates |= {} if sizing == "bt" else {"fixed": 5.0, "impact": 1.0}
    costs = Costs(**{name: rng.choice([0.0, rate]) for name, rate in rates.items()})
    money = table(rng.lognormal(12, 1, prices.shape))
    options = {
        "transaction_cost": rng.choice([0.0, 0.001, 0.02]),
        "execution_lag": int(rng.integers(0, 3)),
        "sizing": sizing,
        "costs": costs,
        "no_trade_band": rng.choice([0.0, 0.05]),
        "volume": money,
        "volatility": None if seed % 2 else money * 0 + 0.04,
    }
    if rng.random() < 0.3:
        options["funding"] = table(rng.normal(0, 1e-3, prices.shape))
    if rng.random() < 0.3:
        options["delistings"] = {symbols[0]: index[int(rng.integers(rows))]}
        options["delisting_return"] = rng.choice([-1.0, -0.3, 0.0])
    return pd.DataFrame(values, index=index[chosen], columns=symbols), prices, options


@pytest.mark.parametrize("block", range(2))
def test_a_thousand_markets_add_up(block):
    ruined = traded = 0
    for seed in range(500 * block, 500 * (block + 1)):
        weights, prices, options = random_case(seed)
        result = backtest_weights(weights, prices, **options)
        equity, trades = result.equity.to_numpy(), result.trades
        scale = 100_000 + np.abs(trades["value"]).sum()
        assert np.isfinite(equity).all() and np.isfinite(result.returns).all(), seed

        held = (result.positions.to_numpy() * result.marks).sum(axis=1)
        gap = np.abs(result.cash.to_numpy() + held - equity).max()
        assert gap <= 1e-10 * scale, f"market {seed}: cash + positions miss equity by {gap}"

        change = equity[-1] - 100_000
        booked = trades["result"].sum() - trades["cost"].sum() - result.financing.sum()
        assert abs(booked - change) <= 1e-10 * scale, f"market {seed}: {booked} is not {change}"

        assert result.costs.sum() == pytest.approx(trades["cost"].sum(), rel=1e-12, abs=1e-9)
        before = np.concatenate([[100_000], equity[:-1]])
        after, alive = before * (1 + result.returns.to_numpy()), before > 0
        np.testing.assert_allclose(after[alive], equity[alive], atol=1e-9 * scale)
        unpriced = prices.isna().to_numpy()
        rows = prices.index.get_indexer(trades["time"])
        columns = prices.columns.get_indexer(trades["symbol"])
        orders = (trades["kind"] == "order").to_numpy()
        assert not unpriced[rows, columns][orders].any(), f"market {seed}: traded without a price"
        ruined += equity.min() <= 0
        traded += len(trades)
    assert traded > 5_000
    assert ruined > 5, "some of these accounts must be ruined, or the test is too tame"


def test_the_compiled_loop_is_the_readable_one(monkeypatch):
    assert compiled_account().py_func is simulate_account
    for seed in range(0, 360, 3):
        weights, prices, options = random_case(seed + seed // 3 % 3)
        monkeypatch.setattr(engine, "COMPILED_FROM", 10**9)
        slow = backtest_weights(weights, prices, **options)
        monkeypatch.setattr(engine, "COMPILED_FROM", 0)
        fast = backtest_weights(weights, prices, **options)
        for name in ("equity", "cash", "costs", "financing", "turnover"):
            pd.testing.assert_series_equal(getattr(slow, name), getattr(fast, name), rtol=1e-12)
        pd.testing.assert_frame_equal(slow.trades, fast.trades, rtol=1e-9, obj=f"market {seed}")
