"""Break-even transaction cost and capacity of a strategy.

Built in chapter: From paper to practice.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from scipy.optimize import brentq

from crossattn._validation import check_array
from crossattn.errors import InvalidInputError
from crossattn.portfolio.costs import Costs
from crossattn.portfolio.engine import backtest_weights


def break_even_cost(
    weights: pd.DataFrame, prices: pd.DataFrame, *, highest: float = 0.1, **options: Any
) -> float:
    """Break-even transaction cost: at which the account ends where it began.

    Parameters
    ----------
    weights, prices : DataFrame
        As in :func:`crossattn.backtest_weights`.
    highest : float
        Costs above this are not looked at.
    **options
        Of :func:`crossattn.backtest_weights`, without ``transaction_cost``.

    Returns
    -------
    float
        Fraction of the traded notional; 0 where the strategy loses even without costs, ``inf``
        where it gains at ``highest``.

    Notes
    -----
    Found to 1e-7 over whole backtests, so compounding is counted.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=2, tz="UTC")
    >>> prices = pd.DataFrame({"A": [1.0, 1.02]}, index=times)
    >>> weights = pd.DataFrame({"A": [1.0, 0.0]}, index=times)
    >>> round(break_even_cost(weights, prices), 5)  # 1.02 (1 - c) / (1 + c) = 1
    0.0099
    """
    if "transaction_cost" in options:
        raise InvalidInputError("transaction_cost is what is looked for: leave it out")

    def gain(cost: float) -> float:
        result = backtest_weights(weights, prices, transaction_cost=cost, **options)
        return result.equity.iloc[-1] / result.initial_capital - 1

    if gain(0.0) <= 0:
        return 0.0
    if gain(highest) > 0:
        return float("inf")
    return float(brentq(gain, 0.0, highest, xtol=1e-7))


def capacity_curve(
    weights: pd.DataFrame,
    prices: pd.DataFrame,
    capitals: Sequence[float],
    *,
    volume: pd.DataFrame,
    periods_per_year: float | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Returns and costs of a strategy by account size, with market impact.

    Parameters
    ----------
    weights, prices, volume : DataFrame
        As in :func:`crossattn.backtest_weights`; ``volume`` in money per bar.
    capitals : sequence of float
        Account sizes, in the currency of ``volume``.
    periods_per_year : float, optional
        Inferred from the prices' index when None.
    **options
        Of :func:`crossattn.backtest_weights`, without ``initial_capital``; ``costs`` is
        ``Costs(impact=1)`` by default, about the square-root law's coefficient in most
        measurements.

    Returns
    -------
    DataFrame, a row an account size
        ``annual_return``, ``sharpe_ratio``, ``total_costs`` and ``cost_share`` (costs over the
        initial capital). The capacity is where the return you need is crossed.
    """
    capitals = check_array("capitals", capitals, (None,))
    if not len(capitals):
        raise InvalidInputError("capitals must not be empty")
    if "initial_capital" in options:
        raise InvalidInputError("initial_capital is each of capitals: leave it out")
    options = {"costs": Costs(impact=1.0), "volume": volume} | options
    rows = {}
    for capital in capitals.tolist():
        result = backtest_weights(weights, prices, initial_capital=capital, **options)
        rows[capital] = result.metrics(periods_per_year)
    table = pd.DataFrame(rows).T.rename_axis("capital")
    table["cost_share"] = table["total_costs"] / table.index
    return table[["annual_return", "sharpe_ratio", "total_costs", "cost_share"]]
