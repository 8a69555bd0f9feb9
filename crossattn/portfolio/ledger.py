"""The account, bar by bar: the readable NumPy reference of the engine.

The compiled twin in :mod:`crossattn.portfolio.kernel` does the same, number for number; this file
is the one to read, and the tests hold the two together.

Built in chapter: Backtesting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossattn.portfolio.costs import SIZINGS, order_costs, value_after_costs

# An order below this fraction of the account is rounding, not trading.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Orders:
    """Everything that the account needs to know, as plain arrays.

    Attributes
    ----------
    marks : ndarray of shape (T, N)
        Last known price; 0 before the first.
    tradable : ndarray of bool, shape (T, N)
        There is a price in this row, and the asset is still listed.
    settles : ndarray of int, shape (N,)
        Row at which a delisted asset is paid out, T where never.
    arrival : ndarray of int, shape (T,)
        Row of ``targets`` that is to be executed from this row on, -1 where none.
    targets : ndarray of shape (M, N)
        Target weights; NaN gives no instruction.
    years : ndarray of shape (T,)
        Time since the row before, in years.
    funding : ndarray of shape (T, N) or (0, N)
        Funding rate that a long pays at this row, as a fraction of its value; empty for none.
    impact : ndarray of shape (T, N) or (0, N)
        Impact coefficient of each asset, empty for none.
    capital, rate, fixed, borrow_rate, cash_rate, margin_rate, band : float
        Money at the start, proportional cost (fee plus slippage), money per order, the three
        yearly rates, and the no-trade band in weight.
    sizing : int
        Position in :data:`crossattn.portfolio.costs.SIZINGS`.
    """

    marks: np.ndarray
    tradable: np.ndarray
    settles: np.ndarray
    arrival: np.ndarray
    targets: np.ndarray
    years: np.ndarray
    funding: np.ndarray
    impact: np.ndarray
    capital: float
    rate: float
    fixed: float
    borrow_rate: float
    cash_rate: float
    margin_rate: float
    band: float
    sizing: int


@dataclass(frozen=True)
class Account:
    """What happened: one row a bar, and one entry a trade.

    ``trade_*`` are parallel arrays of length n_trades: row, column, signed shares, cost in money,
    and kind (0 order, 1 settlement of a delisted asset, 2 liquidation at ruin).
    """

    cash: np.ndarray  # (T,)
    equity: np.ndarray  # (T,)
    costs: np.ndarray  # (T,)
    turnover: np.ndarray  # (T,)
    financing: np.ndarray  # (T,)
    trade_row: np.ndarray
    trade_column: np.ndarray
    trade_shares: np.ndarray
    trade_cost: np.ndarray
    trade_kind: np.ndarray


def keep_account(orders: Orders) -> Account:
    """Walk through the bars once and book everything that happens.

    Each bar, in this order: cash earns or pays interest, shorts pay for their stock, funding
    changes hands; delisted assets are paid out; new targets replace the waiting ones; where there
    is a price, waiting targets are traded; the account is written down at the marks. An account
    whose value is not positive is ruined: its positions are closed at the marks, and nothing
    happens to it any more.
    """
    n_rows, n_assets = orders.marks.shape
    cash, shares = orders.capital, np.zeros(n_assets)
    waiting = np.full(n_assets, np.nan)
    ruined = False
    before = np.zeros(n_assets)
    trades: list[tuple[int, int, float, float, int]] = []
    book_cash, book_equity = np.empty(n_rows), np.empty(n_rows)
    book_costs, book_turnover, book_financing = np.zeros((3, n_rows))

    for row in range(n_rows):
        marks = orders.marks[row]
        if not ruined:
            if row:
                paid = _financing(orders, row, cash, shares, before)
                cash -= paid
                book_financing[row] = paid
            for column in np.flatnonzero((orders.settles == row) & (shares != 0)):
                cash += shares[column] * marks[column]
                trades.append((row, column, -shares[column], 0.0, 1))
                shares[column] = 0.0
            if orders.arrival[row] >= 0:
                new = orders.targets[orders.arrival[row]]
                waiting = np.where(np.isnan(new), waiting, new)
            value = cash + (shares * marks).sum()
            if value > 0:
                ready = ~np.isnan(waiting) & orders.tradable[row]
                if ready.any():
                    notional, costs = _orders_of_row(orders, row, value, shares, waiting, ready)
                    closing = notional == -shares * marks
                    change = np.divide(notional, marks, out=-shares, where=(marks > 0) & ~closing)
                    change[notional == 0] = 0.0
                    for column in np.flatnonzero(change):
                        trades.append((row, column, change[column], costs[column], 0))
                    cash -= notional.sum() + costs.sum()
                    shares = shares + change
                    book_costs[row] = costs.sum()
                    book_turnover[row] = np.abs(notional).sum() / value
                    waiting = np.where(ready, np.nan, waiting)
                    value = cash + (shares * marks).sum()
            if value <= 0:
                ruined = True
                for column in np.flatnonzero(shares):
                    trades.append((row, column, -shares[column], 0.0, 2))
                cash, shares = value, np.zeros(n_assets)
        book_cash[row], book_equity[row] = cash, value
        before = marks

    columns = list(zip(*trades, strict=True)) or [()] * 5
    kinds = (np.int64, np.int64, np.float64, np.float64, np.int64)
    return Account(
        book_cash,
        book_equity,
        book_costs,
        book_turnover,
        book_financing,
        *(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)),
    )


def _financing(
    orders: Orders, row: int, cash: float, shares: np.ndarray, before: np.ndarray
) -> float:
    """Money paid since the row before: interest, borrowed stock and funding."""
    rate = orders.cash_rate if cash > 0 else orders.margin_rate
    short = np.maximum(-shares * before, 0.0).sum()
    paid = orders.years[row] * (orders.borrow_rate * short - rate * cash)
    if len(orders.funding):
        paid += (shares * orders.marks[row] * orders.funding[row]).sum()
    return paid


def _orders_of_row(
    orders: Orders,
    row: int,
    value: float,
    shares: np.ndarray,
    waiting: np.ndarray,
    ready: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Signed notional of this row's orders, and what each costs, in money, (N,)."""
    marks = orders.marks[row]
    held = shares * marks
    rounding = ROUNDING * value
    apart = np.abs(np.where(ready, waiting * value - held, 0.0))
    active = ready & (apart >= orders.band * value)
    notional, costs = np.zeros_like(shares), np.zeros_like(shares)
    if not (apart[active] > rounding).any():
        return notional, costs
    impact = orders.impact[row] if len(orders.impact) else np.zeros_like(shares)
    target, owned, law = waiting[active], held[active], impact[active]
    base = value
    if SIZINGS[orders.sizing] == "after_cost":
        base = value_after_costs(value, target, owned, orders.rate, law, orders.fixed)
    order = target * base - owned
    if SIZINGS[orders.sizing] == "bt":
        outlay = 1 + orders.rate * np.sign(order)
        order = np.where(target != 0, order / outlay, order)
    order[np.abs(owned + order) <= rounding] = -owned[np.abs(owned + order) <= rounding]
    order[np.abs(order) <= rounding] = 0.0
    notional[active] = order
    costs[active] = order_costs(order, orders.rate, law, orders.fixed)
    return notional, costs
