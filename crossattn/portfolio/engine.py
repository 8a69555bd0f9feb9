"""Backtest target weights on prices.

Built in chapter: Backtesting.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crossattn._validation import check_choice, check_float, check_int, check_type
from crossattn.errors import InvalidInputError
from crossattn.portfolio._account import SIZINGS, BacktestInputs, compiled_account, simulate_account
from crossattn.portfolio._inputs import check_prices, check_weights, last_known, reindex_like_prices
from crossattn.portfolio._result import BacktestResult
from crossattn.portfolio.costs import Costs, impact_law

__all__ = ["BacktestResult", "backtest_weights"]

YEAR = pd.Timedelta(days=365.25)
COMPILED_FROM = 500_000  # cells of the prices, and twelve times those that trade: half a second


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
    funding: pd.DataFrame | None = None,
    volume: pd.DataFrame | None = None,
    volatility: pd.DataFrame | None = None,
    delistings: Mapping[str, pd.Timestamp] | None = None,
    delisting_return: float = 0.0,
) -> BacktestResult:
    """Backtest target weights on prices, net of costs.

    Between trades nothing is touched, so the weights drift with the prices; at a row with targets
    the shares are brought to them, and every order is paid for.

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
    funding : DataFrame, optional
        Funding rates of perpetual futures at rows of ``prices``: a long pays its value times the
        rate at that row, a short receives it. NaN or absent: none.
    volume, volatility : DataFrame, optional
        What market impact needs: traded money per bar, and the standard deviation of a bar's
        return (None: of the last 20). A row holds what is known at its time. While either is
        unknown, a target waits.
    delistings : mapping of symbol to time, optional
        From the first row at or after that time, the position is paid out in cash at the last
        price up to that time, times ``1 + delisting_return``, without a fee, and the asset is not
        traded any more.
    delisting_return : float
        At least -1; for example -0.3 where a bankruptcy leaves 70 % of the last price.

    Returns
    -------
    BacktestResult

    Raises
    ------
    InvalidInputError
        Unsorted, duplicate or tz-naive times; weights at times or for symbols that ``prices``
        lacks; infinite weights; prices that are not positive and finite; an asset with no price
        at all; costs or capital out of range.

    Notes
    -----
    * The order of things within a row: interest, borrow and funding for the time since the row
      before; delistings; new targets; trades; marks.
    * A missing price: no trade in that asset; its target waits for the next price unless a newer
      one replaces it; the last price marks the position.
    * Ruin is a result: when the account's value is not positive, everything is closed at the
      marks, and equity stays there for good. It is never NaN.

    Built in chapter: Backtesting.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> prices = pd.DataFrame({"A": [100.0, 110.0, 121.0]}, index=times)
    >>> weights = pd.DataFrame({"A": [1.0]}, index=times[:1])
    >>> backtest_weights(weights, prices, transaction_cost=0.0).equity.round(6).tolist()
    [100000.0, 110000.0, 121000.0]
    """
    table = check_prices(prices)
    targets, rows = check_weights(weights, prices)
    costs = costs if costs is not None else Costs()
    check_type("costs", costs, Costs, "Costs")
    delistings = check_delistings(delistings)
    rate = _check_rate(transaction_cost, targets, costs, sizing)
    capital = check_float("initial_capital", initial_capital, above=0)

    n_rows, n_assets = table.shape
    ticks = prices.index.asi8
    marks, tradable = last_known(table), ~np.isnan(table)
    marks = marks.copy(order="F") if len(delistings) else marks
    delisted_at = _delist(prices, marks, tradable, delistings, delisting_return)
    funding_rates = impact = np.empty((0, n_assets))
    if funding is not None:
        funding_rates = np.nan_to_num(reindex_like_prices(funding, prices, "funding"))
    if costs.impact:
        impact = impact_law(costs.impact, marks, prices, volume, volatility)
        tradable &= np.isfinite(impact)
    inputs = BacktestInputs(
        marks=_by_asset(marks),
        tradable=_by_asset(tradable),
        delisted_at=delisted_at,
        decision_at=_decision_at(rows, execution_lag, n_rows),
        targets=np.ascontiguousarray(targets),
        years=np.diff(ticks, prepend=ticks[:1]) / (YEAR / pd.Timedelta(1, prices.index.unit)),
        funding=_by_asset(funding_rates),
        impact=_by_asset(impact),
        capital=capital,
        rate=rate,
        fixed=costs.fixed,
        borrow_rate=costs.borrow_rate,
        cash_rate=costs.cash_rate,
        margin_rate=costs.margin_rate,
        band=check_float("no_trade_band", no_trade_band, at_least=0),
        sizing=SIZINGS.index(sizing),
    )
    # numba takes longer to load than a short history to simulate
    work = inputs.marks.size + 12 * inputs.targets.size
    account = (simulate_account if work < COMPILED_FROM else compiled_account())(inputs)
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
        marks=marks,
        symbols=prices.columns,
        _trades=account.trades,
    )


def _by_asset(table: np.ndarray) -> np.ndarray:
    """Read-only C-contiguous (N, T), so that numba compiles one version for every input."""
    view = np.ascontiguousarray(table.T).view()
    view.flags.writeable = False
    return view


def _check_rate(fee: float, targets: np.ndarray, costs: Costs, sizing: str) -> float:
    """Fee plus slippage, refused where no trade could ever pay it."""
    rate = check_float("transaction_cost", fee, at_least=0) + costs.slippage
    gross = np.nansum(np.abs(targets), axis=1).max(initial=0.0)
    if rate >= 1 or rate * gross >= 1:
        raise InvalidInputError(
            "transaction_cost plus slippage must be below 1 and below 1 / gross weight "
            f"({gross:g}), got {rate!r}"
        )
    check_choice("sizing", sizing, SIZINGS)
    if sizing == "bt" and (costs.fixed or costs.impact):
        raise InvalidInputError('sizing "bt" allows proportional costs only, got fixed or impact')
    return rate


def _decision_at(rows: np.ndarray, execution_lag: int, n_rows: int) -> np.ndarray:
    """For each row of the prices, the row of targets that may be traded from then on, or -1."""
    rows = rows + check_int("execution_lag", execution_lag, at_least=0)
    decision_at = np.full(n_rows, -1, dtype=np.int64)
    inside = np.flatnonzero(rows < n_rows)  # what would be traded after the end never is
    decision_at[rows[inside]] = inside
    return decision_at


def check_delistings(delistings: Mapping | pd.Series | None) -> dict[str, pd.Timestamp]:
    """Return the time of each delisting, or refuse what has no time zone."""
    check_type("delistings", delistings, Mapping | pd.Series | None, "a mapping")
    times = {}
    for symbol, time in () if delistings is None else delistings.items():
        try:
            times[symbol] = pd.Timestamp(time)
        except (TypeError, ValueError):
            times[symbol] = pd.NaT
        if times[symbol] is pd.NaT or times[symbol].tz is None:
            raise InvalidInputError(f"delistings must have UTC times, got {time!r} for {symbol!r}")
    return times


def _delist(
    prices: pd.DataFrame,
    marks: np.ndarray,
    tradable: np.ndarray,
    delistings: Mapping[str, pd.Timestamp],
    delisting_return: float,
) -> np.ndarray:
    """Row at which each asset is paid out, (N,), T for never; changes ``marks``, ``tradable``."""
    factor = 1 + check_float("delisting_return", delisting_return, at_least=-1)
    delisted_at = np.full(prices.shape[1], len(prices), dtype=np.int64)
    for symbol, when in delistings.items():
        if symbol not in prices.columns:
            raise InvalidInputError(f"delistings must be for symbols of prices, got {symbol!r}")
        column, row = prices.columns.get_loc(symbol), prices.index.searchsorted(when)
        if row < len(prices):
            delisted_at[column] = row
            last = prices.index.searchsorted(when, side="right") - 1
            marks[row:, column] = marks[max(last, 0), column] * factor
            tradable[row:, column] = False
    return delisted_at
