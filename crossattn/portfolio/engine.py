"""From target weights and prices to an account whose money adds up to the last digit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.portfolio.costs import SIZINGS, Costs, non_negative
from crossattn.portfolio.ledger import Orders, keep_account
from crossattn.portfolio.result import BacktestResult

__all__ = ["BacktestResult", "backtest_weights"]

YEAR = pd.Timedelta(days=365.25)


def backtest_weights(
    weights: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    transaction_cost: float = 0.001,
    initial_capital: float = 100_000.0,
    execution_lag: int = 0,
    sizing: str = "after_cost",
    costs: Costs | None = None,
    no_trade_band: float = 0.0,
) -> BacktestResult:
    """Trade target weights through prices and keep the account.

    The account holds shares and cash. Between trades nothing is touched, so the weights drift with
    the prices; at a row with targets the shares are brought to them, and every order is paid for.

    Parameters
    ----------
    weights : DataFrame of shape (M, N)
        Target weights, fractions of the account, decided with what is known at the row's time. The
        index is a subset of that of ``prices``. An absent or all-NaN row trades nothing; a NaN
        cell leaves that asset as it is; negative weights are shorts; what is not allocated is cash.
        Symbols of ``prices`` that have no column are never held.
    prices : DataFrame of shape (T, N)
        Closing prices, columns are symbols, index the UTC time at which each is known. NaN where
        there is none.
    transaction_cost : float
        Fraction of the traded notional paid for every order, buys and sells alike.
    initial_capital : float
        Money at the start, before the first row's trades.
    execution_lag : int
        Rows between the decision and the trade; 0 trades at the price of the decision's own row.
    sizing : {"after_cost", "before_cost", "bt"}
        What a weight is a fraction of. ``after_cost``: of the account after this row's costs, so
        that the weights hold exactly afterwards. ``before_cost``: of the account before them; the
        costs come out of cash. ``bt``: the rule of the package bt, each order's outlay *with* its
        fee is the difference to the target before costs.
    costs : Costs, optional
        Slippage, fixed fees, market impact, borrow, cash and margin rates.
    no_trade_band : float
        An asset whose weight is closer than this to its target is left alone.

    Returns
    -------
    BacktestResult
        ``equity``, ``returns``, ``positions``, ``turnover``, ``costs``, ``trades`` and
        ``metrics()``.

    Raises
    ------
    InvalidInputError
        Unsorted, duplicate or tz-naive times; weights at times or for symbols that ``prices``
        lacks; infinite weights; prices that are not positive and finite; an asset with no price
        at all; costs or capital out of range.

    Notes
    -----
    * A missing price: no trade in that asset; its target waits for the next price unless a newer
      one replaces it; the last price marks the position.
    * Ruin is a result: when the account's value is not positive, everything is closed at the
      marks, and equity stays there for good. It is never NaN.
    * Cost: O(T N) time and memory.

    Built in chapter: Backtesting.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> prices = pd.DataFrame({"A": [100.0, 110.0, 121.0]}, index=times)
    >>> weights = pd.DataFrame({"A": [1.0]}, index=times[:1])
    >>> backtest_weights(weights, prices, transaction_cost=0.0).equity.round(6).tolist()
    [100000.0, 110000.0, 121000.0]
    """
    table = _check_prices(prices)
    targets, rows = _check_weights(weights, prices)
    capital = non_negative(initial_capital, "initial_capital")
    if capital == 0:
        raise InvalidInputError("initial_capital must be positive, got 0")
    fee = non_negative(transaction_cost, "transaction_cost")
    costs = costs if costs is not None else Costs()
    rate = fee + costs.slippage
    gross = np.nansum(np.abs(targets), axis=1).max(initial=0.0)
    if rate >= 1 or rate * gross >= 1:
        raise InvalidInputError(
            f"transaction_cost plus slippage must be below 1, and below 1 / gross weight "
            f"({gross:g}), got {rate!r}"
        )
    if sizing not in SIZINGS:
        raise InvalidInputError(f"sizing must be one of {', '.join(SIZINGS)}, got {sizing!r}")
    if sizing == "bt" and (costs.fixed or costs.impact):
        raise InvalidInputError('sizing "bt" knows proportional costs only, got fixed or impact')
    lag = _check_lag(execution_lag)

    n_rows, n_assets = table.shape
    arrival = np.full(n_rows, -1, dtype=np.int64)
    inside = rows + lag < n_rows
    arrival[rows[inside] + lag] = np.flatnonzero(inside)
    years = np.diff(prices.index, prepend=prices.index[:1]) / YEAR
    orders = Orders(
        marks=_last_known(table),
        tradable=~np.isnan(table),
        settles=np.full(n_assets, n_rows, dtype=np.int64),
        arrival=arrival,
        targets=targets,
        years=np.asarray(years, dtype=float),
        funding=np.empty((0, n_assets)),
        impact=np.empty((0, n_assets)),
        capital=capital,
        rate=rate,
        fixed=costs.fixed,
        borrow_rate=costs.borrow_rate,
        cash_rate=costs.cash_rate,
        margin_rate=costs.margin_rate,
        band=non_negative(no_trade_band, "no_trade_band"),
        sizing=SIZINGS.index(sizing),
    )
    account = keep_account(orders)
    before = np.concatenate([[capital], account.equity[:-1]])
    gain = account.equity - before
    returns = np.divide(gain, before, out=np.zeros_like(gain), where=before > 0)

    def series(values: np.ndarray, name: str) -> pd.Series:
        return pd.Series(values, prices.index, name=name)

    return BacktestResult(
        equity=series(account.equity, "equity"),
        returns=series(returns, "return"),
        turnover=series(account.turnover, "turnover"),
        costs=series(account.costs, "cost"),
        financing=series(account.financing, "financing"),
        cash=series(account.cash, "cash"),
        initial_capital=capital,
        account=account,
        marks=orders.marks,
        symbols=prices.columns,
    )


def _check_index(index: pd.Index, name: str) -> None:
    if not isinstance(index, pd.DatetimeIndex):
        raise InvalidInputError(f"{name} must be indexed by time, got {type(index).__name__}")
    if index.tz is None:
        raise InvalidInputError(f"{name} must have UTC times, got tz-naive ones")
    if index.hasnans:
        raise InvalidInputError(f"{name} has a missing time (NaT) in its index")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise InvalidInputError(f"{name} must have unique times, got {twice} twice")
    if not index.is_monotonic_increasing:
        raise InvalidInputError(f"{name} must be sorted by time, got unsorted times")


def _check_table(table: pd.DataFrame, name: str) -> np.ndarray:
    if not isinstance(table, pd.DataFrame):
        raise InvalidInputError(f"{name} must be a DataFrame, got {type(table).__name__}")
    _check_index(table.index, name)
    if table.columns.nlevels > 1:
        raise InvalidInputError(f"{name} must have one column a symbol, got a MultiIndex")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InvalidInputError(f"{name} must have unique symbols, got {twice!r} twice")
    try:
        return np.ascontiguousarray(table.to_numpy(dtype=float, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must hold numbers, got {error}") from None


def _check_prices(prices: pd.DataFrame) -> np.ndarray:
    table = _check_table(prices, "prices")
    if not table.size:
        raise InvalidInputError(f"prices must have rows and columns, got shape {table.shape}")
    wrong = ~np.isnan(table) & ~((table > 0) & (table < np.inf))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InvalidInputError(
            f"prices must be positive and finite, got {table[row, column]} for "
            f"{prices.columns[column]!r} at {prices.index[row]}"
        )
    empty = np.isnan(table).all(axis=0)
    if empty.any():
        raise InvalidInputError(
            f"prices must have a price for every asset, got only NaN for "
            f"{list(prices.columns[empty])}"
        )
    return table


def _check_weights(weights: pd.DataFrame, prices: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Targets in the order of the prices' columns, and the row of the prices that each is at."""
    table = _check_table(weights, "weights")
    if np.isinf(table).any():
        row, column = np.argwhere(np.isinf(table))[0]
        raise InvalidInputError(
            f"weights must be finite or NaN, got {table[row, column]} for "
            f"{weights.columns[column]!r} at {weights.index[row]}"
        )
    columns = prices.columns.get_indexer(weights.columns)
    if (columns < 0).any():
        unknown = list(weights.columns[columns < 0])
        raise InvalidInputError(f"weights must be for symbols of prices, got also {unknown}")
    rows = prices.index.get_indexer(weights.index)
    if (rows < 0).any():
        first = weights.index[rows < 0][0]
        raise InvalidInputError(
            f"weights must be at times of prices, got {(rows < 0).sum()} others, first {first}"
        )
    targets = np.full((len(weights), prices.shape[1]), np.nan)
    targets[:, columns] = table
    return targets, rows


def _check_lag(execution_lag: int) -> int:
    whole = isinstance(execution_lag, (int, np.integer)) and not isinstance(execution_lag, bool)
    if not whole or execution_lag < 0:
        raise InvalidInputError(
            f"execution_lag must be a whole number of rows, zero or more, got {execution_lag!r}"
        )
    return int(execution_lag)


def _last_known(table: np.ndarray) -> np.ndarray:
    """Carry each asset's last price forward; 0 before its first."""
    if not np.isnan(table).any():
        return table
    rows = np.where(np.isnan(table), 0, np.arange(len(table))[:, None])
    np.maximum.accumulate(rows, axis=0, out=rows)
    marks = np.take_along_axis(table, rows, axis=0)
    return np.nan_to_num(marks, nan=0.0)
