"""Windows of simulated markets, and bars of given closes, for tests of many folders."""

import numpy as np
import pandas as pd

from crossattn.simulate.market import simulate_market
from crossattn.windows.prepare import prepare_cross_attention_data


def simulated_windows(
    scenario="static", *, lookback, horizon=1, features=("log_return",), **options
):
    """Return a simulated market and the windows of its bars."""
    market = simulate_market(scenario, **options)
    return market, prepare_cross_attention_data(market.frames, lookback, horizon, features)


def flat_bars(closes, symbols, *, start="2024-01-01", freq="h"):
    """Return frames of bars whose four prices are a column of closes (T, N); a NaN is no bar."""
    table, fields = pd.DataFrame(closes, columns=symbols), ("open", "high", "low", "close")
    times = pd.date_range(start, periods=len(table), freq=freq, tz="UTC", name="time")
    return {
        symbol: pd.DataFrame(dict.fromkeys(fields, close) | {"volume": 1.0}).dropna()
        for symbol, close in table.set_axis(times).items()
    }


def coin_and_stock(n_hours, seed=0):
    """Return bars round the clock, and of seven hours a weekday: moves of 1 % a bar of each."""
    times = pd.date_range("2024-01-01", periods=n_hours, freq="h", tz="UTC")
    trades = (times.hour >= 14) & (times.hour < 21) & (times.day_of_week < 5)
    moves = np.random.default_rng(seed).normal(0, 0.01, (n_hours, 2)) * np.c_[trades | True, trades]
    closes = np.exp(moves.cumsum(axis=0))
    closes[~trades, 1] = np.nan
    return flat_bars(closes, ["COIN", "STOCK"])
