"""Benchmark strategies: equal weight, buy and hold, inverse volatility, momentum.

Each function turns closing prices into target weights at every ``every``-th row, from prices up to
that row only, ready for :func:`crossattn.backtest_weights`. A row before there is enough history is
left out: the account waits in cash.

Built in chapter: From paper to practice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crossattn._validation import check_int
from crossattn.errors import InvalidInputError
from crossattn.portfolio._inputs import check_prices
from crossattn.portfolio.engine import backtest_weights


def equal_weight(prices: pd.DataFrame, *, every: int = 1) -> pd.DataFrame:
    """Equal weights in the assets that have a price in the row.

    Parameters
    ----------
    prices : DataFrame of shape (T, N)
        Closing prices, index UTC times.
    every : int
        Rows between decisions.

    Returns
    -------
    DataFrame of shape (M, N)
        Target weights that sum to 1.

    References
    ----------
    DeMiguel, Garlappi, Uppal (2009), "Optimal versus naive diversification".

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=2, tz="UTC")
    >>> equal_weight(pd.DataFrame({"A": [1.0, 2.0], "B": [1.0, np.nan]}, index=times)).to_numpy()
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return _decide(prices, every, 1, lambda history: ~np.isnan(history[-1]) * 1.0)


def buy_and_hold(prices: pd.DataFrame) -> pd.DataFrame:
    """Buy and hold: equal weights once, at the first row at which every asset has had a price.

    Returns
    -------
    DataFrame of shape (1, N)

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=2, tz="UTC")
    >>> prices = pd.DataFrame({"A": [1.0, 2.0], "B": [np.nan, 1.0]}, index=times)
    >>> buy_and_hold(prices).index[0] == times[1]
    True
    """
    listed = check_prices(prices)
    first = int(np.argmax(~np.isnan(listed), axis=0).max())
    even = np.full((1, prices.shape[1]), 1 / prices.shape[1])
    return pd.DataFrame(even, index=prices.index[[first]], columns=prices.columns)


def inverse_volatility(prices: pd.DataFrame, *, every: int = 1, window: int = 60) -> pd.DataFrame:
    """Inverse-volatility weights, from the last ``window`` returns.

    Parameters
    ----------
    prices : DataFrame of shape (T, N)
    every, window : int
        Rows between decisions, and returns that each looks back on.

    Returns
    -------
    DataFrame of shape (M, N)
        Sum to 1; an asset without a complete, moving history has 0.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> prices = pd.DataFrame({"A": [1.0, 1.1, 1.0], "B": [1.0, 1.21, 1.0]}, index=times)
    >>> inverse_volatility(prices, window=2).round(3).to_numpy()
    array([[0.667, 0.333]])
    """

    def decide(history: np.ndarray) -> np.ndarray:
        deviation = np.diff(np.log(history), axis=0).std(axis=0, ddof=1)
        return np.divide(1.0, deviation, out=np.zeros(len(deviation)), where=deviation > 1e-12)

    return _decide(prices, every, check_int("window", window) + 1, decide)


def momentum(
    prices: pd.DataFrame,
    *,
    every: int = 1,
    window: int = 60,
    skip: int = 0,
    allow_short: bool = False,
) -> pd.DataFrame:
    """Momentum: equal weights in the third that has risen most over ``window`` rows.

    Parameters
    ----------
    prices : DataFrame of shape (T, N)
    every, window : int
        Rows between decisions, and rows that each looks back on.
    skip : int
        Newest rows that are left out of the comparison, fewer than ``window``.
    allow_short : bool
        Also short the worst third, each side with half of the account.

    Returns
    -------
    DataFrame of shape (M, N)

    References
    ----------
    Jegadeesh and Titman (1993), "Returns to buying winners and selling losers".

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=2, tz="UTC")
    >>> prices = pd.DataFrame({"A": [1.0, 1.1], "B": [1.0, 1.2]}, index=times)
    >>> momentum(prices, window=1, allow_short=True).to_numpy()
    array([[-0.5,  0.5]])
    """
    if check_int("skip", skip, at_least=0) >= check_int("window", window):
        raise InvalidInputError(f"skip must be below window={window}, got {skip!r}")

    def decide(history: np.ndarray) -> np.ndarray:
        risen = history[len(history) - 1 - skip] / history[0]
        order = np.argsort(np.where(np.isnan(risen), -np.inf, risen), kind="stable")
        known = int(np.isfinite(risen).sum())
        count = max(1, known // 3) if known else 0
        weights = np.zeros(len(risen))
        weights[order[len(risen) - count :]] = 1.0
        if allow_short and known >= 2:
            worst = order[len(risen) - known :][:count]
            weights[worst] -= 1.0
        return weights

    return _decide(prices, every, check_int("window", window) + 1, decide)


def compare(
    strategies: Mapping[str, pd.DataFrame],
    prices: pd.DataFrame,
    *,
    periods_per_year: float | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compare strategies: backtest metrics of several sets of weights, at the same costs.

    Parameters
    ----------
    strategies : mapping of name to DataFrame
        Target weights each.
    prices : DataFrame of shape (T, N)
        Closing prices.
    periods_per_year : float, optional
        Inferred from the prices' index when None.
    **options
        Of :func:`crossattn.backtest_weights`, the same for all.

    Returns
    -------
    DataFrame, a row a strategy
        The metrics of :meth:`crossattn.BacktestResult.metrics`.

    Raises
    ------
    InvalidInputError
        As :func:`crossattn.backtest_weights`, or there is no strategy.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> prices = pd.DataFrame({"A": [1.0, 1.1, 1.2], "B": [1.0, 1.0, 1.0]}, index=times)
    >>> table = compare({"equal": equal_weight(prices), "hold": buy_and_hold(prices)}, prices)
    >>> table["total_costs"].round(2).to_dict()
    {'equal': 109.66, 'hold': 99.9}
    """
    if not strategies:
        raise InvalidInputError("strategies must not be empty")
    figures = {
        name: backtest_weights(weights, prices, **options).metrics(periods_per_year)
        for name, weights in strategies.items()
    }
    return pd.DataFrame.from_dict(figures, orient="index")


def _decide(
    prices: pd.DataFrame, every: int, need: int, decide: Callable[[np.ndarray], np.ndarray]
) -> pd.DataFrame:
    """Weights at every ``every``-th row that has ``need`` rows of history, its own included.

    ``decide`` is given the assets with a price in the last row; its weights are scaled to a gross
    weight of 1.
    """
    check_int("every", every)
    table = check_prices(prices)
    rows, weights = [], []
    for row in range(need - 1, len(table), every):
        history = table[row - need + 1 : row + 1]
        complete = ~np.isnan(history).any(axis=0)
        if not complete.any():
            continue
        chosen = np.zeros(table.shape[1])
        chosen[complete] = decide(history[:, complete])
        gross = np.abs(chosen).sum()
        rows.append(row)
        weights.append(chosen / gross if gross > 0 else chosen)
    values = np.array(weights).reshape(len(rows), table.shape[1])
    return pd.DataFrame(values, index=prices.index[rows], columns=prices.columns)
