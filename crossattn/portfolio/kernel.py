"""The compiled twin of :mod:`crossattn.portfolio.ledger`: the same account, as one loop.

numba is imported with this file, and this file only when a backtest is long enough to be worth the
compilation, which is kept on disk between runs.

Built in chapter: Backtesting.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from crossattn.portfolio.ledger import ROUNDING, Account, Orders


def keep_account_compiled(orders: Orders) -> Account:
    """Do what :func:`crossattn.portfolio.ledger.keep_account` does, about a thousand times faster.

    Parameters
    ----------
    orders : Orders

    Returns
    -------
    Account
        Equal to the reference to the last few bits; sums run in another order.
    """
    room = np.count_nonzero(~np.isnan(orders.targets)) + 2 * orders.marks.shape[1]
    by_asset = (orders.marks, orders.tradable, orders.funding, orders.impact)
    marks, tradable, funding, impact = (_by_asset(table) for table in by_asset)
    *book, trades, count = _walk(
        marks,
        tradable,
        orders.settles,
        orders.arrival,
        np.ascontiguousarray(orders.targets),
        orders.years,
        funding,
        impact,
        orders.capital,
        orders.rate,
        orders.fixed,
        orders.borrow_rate,
        orders.cash_rate,
        orders.margin_rate,
        orders.band,
        orders.sizing,
        room,
    )
    row, column, kind = (trades[:count, k].astype(np.int64) for k in (0, 1, 4))
    return Account(*book, row, column, trades[:count, 2], trades[:count, 3], kind)


def compiled(function: Callable) -> Callable:
    """Compile, and keep the result on disk where there is a place to keep it."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:
        return njit(function)


def _by_asset(table: np.ndarray) -> np.ndarray:
    """Read-only C-contiguous view (N, T), so that one compiled version serves every input."""
    view = np.ascontiguousarray(table.T).view()
    view.flags.writeable = False
    return view


@compiled
def _book(trades, count, row, column, shares, cost, kind):
    trades[count, 0] = row
    trades[count, 1] = column
    trades[count, 2] = shares
    trades[count, 3] = cost
    trades[count, 4] = kind
    return count + 1


@compiled
def _value_after_costs(value, goal, held, active, rate, impact, fixed):
    budget = value
    for j in range(len(goal)):
        if active[j] and (goal[j] != 0.0 or held[j] != 0.0):
            budget -= fixed
    after = value
    for _ in range(100):
        excess = after - budget
        slope = 1.0
        for j in range(len(goal)):
            if active[j]:
                notional = goal[j] * after - held[j]
                root = math.sqrt(abs(notional))
                excess += rate * abs(notional) + impact[j] * abs(notional) * root
                sign = 1.0 if notional > 0.0 else (-1.0 if notional < 0.0 else 0.0)
                slope += sign * goal[j] * (rate + 1.5 * impact[j] * root)
        if slope <= 0.0:
            return 0.0
        step = excess / slope
        after -= step
        if after <= 0.0:
            return 0.0
        if abs(step) <= 2e-16 * value:
            break
    return after


@compiled
def _walk(
    marks,
    tradable,
    settles,
    arrival,
    targets,
    years,
    funding,
    impact,
    capital,
    rate,
    fixed,
    borrow_rate,
    cash_rate,
    margin_rate,
    band,
    sizing,
    room,
):
    n_assets, n_rows = marks.shape
    book_cash, book_equity = np.empty(n_rows), np.empty(n_rows)
    book_costs, book_turnover = np.zeros(n_rows), np.zeros(n_rows)
    book_financing = np.zeros(n_rows)
    trades, count = np.empty((room, 5)), 0
    cash, shares = capital, np.zeros(n_assets)
    waiting, n_waiting = np.full(n_assets, np.nan), 0
    held, law = np.zeros(n_assets), np.zeros(n_assets)
    active = np.zeros(n_assets, dtype=np.bool_)
    ruined, value, pays_out = False, capital, settles.min() < n_rows

    for row in range(n_rows):
        if not ruined:
            if row > 0:
                short, funded = 0.0, 0.0
                if borrow_rate > 0.0:
                    for j in range(n_assets):
                        short += max(-shares[j] * marks[j, row - 1], 0.0)
                if funding.shape[1] > 0:
                    for j in range(n_assets):
                        funded += shares[j] * marks[j, row] * funding[j, row]
                interest = cash_rate if cash > 0.0 else margin_rate
                paid = years[row] * (borrow_rate * short - interest * cash) + funded
                cash -= paid
                book_financing[row] = paid
            for j in range(n_assets if pays_out else 0):
                if settles[j] == row and shares[j] != 0.0:
                    cash += shares[j] * marks[j, row]
                    count = _book(trades, count, row, j, -shares[j], 0.0, 1)
                    shares[j] = 0.0
            if arrival[row] >= 0:
                n_waiting = 0
                for j in range(n_assets):
                    if not math.isnan(targets[arrival[row], j]):
                        waiting[j] = targets[arrival[row], j]
                    if not math.isnan(waiting[j]):
                        n_waiting += 1
            value = cash
            for j in range(n_assets):
                value += shares[j] * marks[j, row]
            if value > 0.0 and n_waiting > 0:
                moves = False
                for j in range(n_assets):
                    held[j] = shares[j] * marks[j, row]
                    ready = tradable[j, row] and not math.isnan(waiting[j])
                    apart = abs(waiting[j] * value - held[j]) if ready else 0.0
                    active[j] = ready and apart >= band * value
                    moves = moves or (active[j] and apart > ROUNDING * value)
                    law[j] = impact[j, row] if impact.shape[1] > 0 else 0.0
                if moves:
                    base = value
                    if sizing == 0:
                        base = _value_after_costs(value, waiting, held, active, rate, law, fixed)
                    traded, paid = 0.0, 0.0
                    for j in range(n_assets):
                        if not active[j]:
                            continue
                        notional = waiting[j] * base - held[j]
                        if sizing == 2 and waiting[j] != 0.0:
                            notional /= 1.0 + rate * (1.0 if notional > 0.0 else -1.0)
                        if abs(notional) <= ROUNDING * value:
                            continue
                        if waiting[j] == 0.0 or abs(held[j] + notional) <= ROUNDING * value:
                            notional = -held[j]
                            change = -shares[j]
                            shares[j] = 0.0
                        else:
                            change = notional / marks[j, row]
                            shares[j] += change
                        size = abs(notional)
                        cost = rate * size + law[j] * size * math.sqrt(size) + fixed
                        count = _book(trades, count, row, j, change, cost, 0)
                        cash -= notional
                        traded += size
                        paid += cost
                    cash -= paid
                    book_costs[row] = paid
                    book_turnover[row] = traded / value
                    value = cash
                    for j in range(n_assets):
                        value += shares[j] * marks[j, row]
                n_waiting = 0
                for j in range(n_assets):
                    if tradable[j, row]:
                        waiting[j] = np.nan
                    if not math.isnan(waiting[j]):
                        n_waiting += 1
            if value <= 0.0:
                ruined = True
                cash = value
                for j in range(n_assets):
                    if shares[j] != 0.0:
                        count = _book(trades, count, row, j, -shares[j], 0.0, 2)
                        shares[j] = 0.0
        book_cash[row], book_equity[row] = cash, value
    return (
        book_cash,
        book_equity,
        book_costs,
        book_turnover,
        book_financing,
        trades,
        count,
    )
