"""Benchmark strategies: equal weight, inverse volatility, momentum.

Each function gives target weights at every ``every``-th row, from prices up to that row, for
:func:`crossattn.backtest_weights`. Before there is enough history the account waits in cash.

Built in chapter: From paper to practice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crossattn._validation import check_int, check_mapping
from crossattn.errors import InvalidInputError
from crossattn.figures import Axes
from crossattn.portfolio._inputs import check_prices
from crossattn.portfolio.engine import BacktestResult, backtest_weights


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
    _, complete = _checked(prices, every, 1)
    return _decisions(complete * 1.0, complete, every, 1)


def inverse_volatility(prices: pd.DataFrame, *, every: int = 1, window: int = 60) -> pd.DataFrame:
    """Inverse-volatility weights, from the last ``window`` returns.

    Parameters
    ----------
    prices, every
        As in :func:`equal_weight`.
    window : int
        Returns that each decision looks back on.

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
    prices, complete = _checked(prices, every, check_int("window", window) + 1)
    deviation = np.log(prices).diff().rolling(window).std()
    return _decisions(1.0 / deviation.where(deviation > 1e-12), complete, every, window + 1)


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
    check_int("window", window)
    if check_int("skip", skip, at_least=0) >= window:
        raise InvalidInputError(f"skip must be below window={window}, got {skip}")
    prices, complete = _checked(prices, every, window + 1)
    risen = (prices.shift(skip) / prices.shift(window)).where(complete)
    rank, known = risen.rank(axis=1, method="first"), complete.sum(axis=1)
    third = (known // 3).clip(lower=1)
    chosen = rank.gt(known - third, axis=0) * 1.0
    if allow_short:
        chosen -= rank.le(third.where(known >= 2, 0), axis=0)
    return _decisions(chosen, complete, every, window + 1)


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

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> prices = pd.DataFrame({"A": [1.0, 1.1, 1.2], "B": 1.0}, index=times)
    >>> even = equal_weight(prices)
    >>> compare({"every bar": even, "once": even[:1]}, prices)["total_costs"].round(2).to_dict()
    {'every bar': 109.66, 'once': 99.9}
    """
    check_mapping("strategies", strategies)
    return pd.DataFrame(
        {
            name: backtest_weights(weights, prices, **options).metrics(periods_per_year)
            for name, weights in strategies.items()
        }
    ).T


def plot_equity(results: Mapping[str, BacktestResult], *, exposure: bool = False) -> Axes:
    """Plot equity over initial capital, and the drawdown below it, of several backtests.

    Parameters
    ----------
    results : mapping of name to BacktestResult
    exposure : bool
        Also gross exposure and turnover per bar, each as the mean of a fiftieth of the rows.

    Returns
    -------
    matplotlib Axes
        Of the equity, on a log scale; the other panels have axes of their own in the same figure.
    """
    for name, result in check_mapping("results", results).items():
        if not isinstance(result, BacktestResult):
            got = type(result).__name__
            raise InvalidInputError(f"results: {name!r} must be a BacktestResult, got {got}")
    import matplotlib.pyplot as plt
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    heights = (3, 1, 1, 1) if exposure else (3, 1)
    _, axes = plt.subplots(
        len(heights),
        sharex=True,
        figsize=(7.0, 6.4 if exposure else 4.6),
        height_ratios=heights,
        constrained_layout=True,
    )
    above, below, *others = axes
    for name, result in results.items():
        wealth = result.equity / result.initial_capital
        drawdown = wealth / wealth.cummax().clip(lower=1.0) - 1
        above.plot(wealth.index, wealth.to_numpy(), label=name)
        below.fill_between(drawdown.index, 100 * drawdown.to_numpy(), alpha=0.4, linewidth=0)
        held = result.weights.abs().sum(axis=1)
        for ax, rows in zip(others, (held, result.turnover), strict=False):  # none unless asked
            smooth = rows.rolling(max(1, len(rows) // 50)).mean()  # the first purchase is none
            ax.plot(smooth.index, smooth.to_numpy(), linewidth=1)
    above.set(ylabel="equity / initial capital", yscale="log")
    low, high = above.get_ylim()
    above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 4 * low else MaxNLocator(5))
    above.yaxis.set_major_formatter("{x:g}")
    above.yaxis.set_minor_formatter(NullFormatter())
    above.legend()
    below.set(ylabel="drawdown, %")
    for ax, label in zip(others, ("exposure", "turnover"), strict=False):
        ax.set(ylabel=label, ylim=(0, None))
    locator = AutoDateLocator()
    axes[-1].xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
    axes[-1].set(xlabel="time (UTC)")
    return above


def _checked(prices: pd.DataFrame, every: int, need: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices as floats, and whether the last ``need`` rows, this one included, all have one."""
    check_int("every", every)
    prices = pd.DataFrame(check_prices(prices), prices.index, prices.columns)
    return prices, prices.notna().rolling(need).sum() == need


def _decisions(sizes: pd.DataFrame, complete: pd.DataFrame, every: int, need: int) -> pd.DataFrame:
    """Every ``every``-th row of ``sizes`` with a complete history, at a gross weight of 1."""
    sizes, complete = sizes[need - 1 :: every], complete[need - 1 :: every]
    sizes = sizes[complete.any(axis=1)].where(complete, 0.0).fillna(0.0)
    gross = sizes.abs().sum(axis=1)
    return sizes.div(gross.where(gross > 0, 1.0), axis=0)
