"""Which assets, sectors and parts of a forecast made the money.

Built in chapter: From paper to practice.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.portfolio.result import BacktestResult
from crossattn.portfolio.tables import check_prices, check_weights, last_known


def attribute(result: BacktestResult, groups: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Split an account's gain by asset, or by groups of them.

    Parameters
    ----------
    result : BacktestResult
    groups : mapping of symbol to label, optional
        For example sectors; every symbol must have one.

    Returns
    -------
    DataFrame, a row an asset or a group
        Money: ``gain`` of the positions before costs, ``cost`` of their trades, ``net``; and
        ``turnover``, the traded notional over the mean equity. The gains less all costs and the
        account's financing add up to the change of its equity.

    Raises
    ------
    InvalidInputError
        A symbol has no group.

    Notes
    -----
    Interest, borrow and funding belong to the account and are in ``result.financing``.

    Built in chapter: From paper to practice.

    Examples
    --------
    >>> from crossattn import backtest_weights
    >>> times = pd.date_range("2024-01-01", periods=2, tz="UTC")
    >>> prices = pd.DataFrame({"A": [10.0, 11.0], "B": [10.0, 9.0]}, index=times)
    >>> weights = pd.DataFrame({"A": [0.5], "B": [-0.5]}, index=times[:1])
    >>> result = backtest_weights(weights, prices, transaction_cost=0.0)
    >>> attribute(result)["gain"].round(6).tolist()
    [5000.0, 5000.0]
    """
    account, marks = result.account, result.marks
    gain, cost, traded = np.zeros((3, marks.shape[1]))
    price = marks[account.trade_row, account.trade_column]
    last = marks[-1, account.trade_column]
    np.add.at(gain, account.trade_column, account.trade_shares * (last - price))
    np.add.at(cost, account.trade_column, account.trade_cost)
    np.add.at(traded, account.trade_column, np.abs(account.trade_shares) * price)
    equity = result.equity.mean()
    table = pd.DataFrame(
        {
            "gain": gain,
            "cost": cost,
            "net": gain - cost,
            "turnover": traded / equity if equity > 0 else np.nan,
        },
        index=result.symbols,
    )
    if groups is None:
        return table
    missing = [symbol for symbol in result.symbols if symbol not in groups]
    if missing:
        raise InvalidInputError(f"groups must name every symbol, got none for {missing}")
    return table.groupby([groups[symbol] for symbol in result.symbols], sort=True).sum()


def attribute_parts(parts: Mapping[str, pd.DataFrame], prices: pd.DataFrame) -> pd.Series:
    """Split the gain of a sum of weights by its parts, for example by attention head.

    Where the weights of a decision are a sum, one term a head, so is what they earn before costs.

    Parameters
    ----------
    parts : mapping of name to DataFrame of shape (M, N)
        Weights of each part, at the same rows of ``prices``; their sum is the target.
    prices : DataFrame of shape (T, N)
        Closing prices.

    Returns
    -------
    Series, an entry a part
        Sum over the decisions of weight times the return until the next one, before costs, as a
        fraction of the account (not compounded).

    Raises
    ------
    InvalidInputError
        No parts, different rows, or weights that do not fit the prices.

    Notes
    -----
    Costs have no such split: one head's order may cancel another's.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> prices = pd.DataFrame({"A": [10.0, 11.0, 11.0]}, index=times)
    >>> half = pd.DataFrame({"A": [0.5, 0.5]}, index=times[:2])
    >>> attribute_parts({"one": half, "two": -half}, prices).round(6).to_dict()
    {'one': 0.05, 'two': -0.05}
    """
    if not parts:
        raise InvalidInputError("parts must not be empty")
    marks = last_known(check_prices(prices))
    marks = np.where(marks > 0, marks, np.nan)
    earned, rows = {}, None
    for name, weights in parts.items():
        targets, at = check_weights(weights, prices)
        if rows is not None and not np.array_equal(at, rows):
            raise InvalidInputError(f"parts must be at the same times, got others for {name!r}")
        rows = at
        until = np.append(at[1:], len(marks) - 1)
        moves = np.nan_to_num(marks[until] / marks[at] - 1)
        earned[name] = float((np.nan_to_num(targets) * moves).sum())
    return pd.Series(earned, name="gain")
