"""The account loop: cash, shares and costs bar by bar, in plain Python that numba compiles.

Short histories run :func:`simulate_account` as it stands; long ones run the same statements
compiled by numba (:func:`compiled_account`), about a hundred times faster.

Built in chapter: Backtesting.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crossattn.runtime import compiled

ROUNDING = 1e-13  # an order below this fraction of the account is rounding, not trading

SIZINGS = ("after_cost", "before_cost", "bt")
AFTER_COST, BEFORE_COST, BT = range(3)

TRADE_KINDS = ("order", "delisting", "ruin")
ORDER, DELISTING, RUIN = range(3)
TRADE = np.dtype(
    [("row", "i8"), ("column", "i8"), ("shares", "f8"), ("cost", "f8"), ("kind", "i8")]
)


class BacktestInputs(NamedTuple):
    """Everything that :func:`simulate_account` reads, as plain arrays and numbers."""

    marks: np.ndarray  # (N, T) last known prices, 0 before the first; the payout once delisted
    tradable: np.ndarray  # bool (N, T): a price in this row, and still listed
    delisted_at: np.ndarray  # int (N,): row of the payout, T where never
    decision_at: np.ndarray  # int (T,): row of targets to trade from here on (lag included), or -1
    targets: np.ndarray  # (M, N) weights; NaN gives no instruction
    years: np.ndarray  # (T,) time since the row before; 0 in the first
    funding: np.ndarray  # (N, T) rate that a long pays at this row, or (N, 0)
    impact: np.ndarray  # (N, T) coefficient of the impact law, or (N, 0)
    capital: float
    rate: float  # proportional cost: fee plus slippage
    band: float  # no-trade band in weight
    sizing: int  # position in SIZINGS
    fixed: float = 0.0  # money per order
    borrow_rate: float = 0.0  # a year, like the two below
    cash_rate: float = 0.0
    margin_rate: float = 0.0


class Account(NamedTuple):
    """History of an account: five arrays with an entry a bar, and its trades (:data:`TRADE`)."""

    cash: np.ndarray
    equity: np.ndarray
    costs: np.ndarray
    turnover: np.ndarray
    financing: np.ndarray
    trades: np.ndarray


def simulate_account(inputs: BacktestInputs) -> Account:
    """Simulate cash, shares and costs of one account, bar by bar."""
    marks, targets, tradable = inputs.marks, inputs.targets, inputs.tradable
    delisted_at, decision_at = inputs.delisted_at, inputs.decision_at
    n_assets, n_rows = marks.shape
    cash, shares, value, ruined = inputs.capital, np.zeros(n_assets), inputs.capital, False
    cash_after, equity = np.empty(n_rows), np.empty(n_rows)
    costs, turnover, financing = np.zeros(n_rows), np.zeros(n_rows), np.zeros(n_rows)
    # A target is traded once, and an asset is paid out or liquidated once, so these rows suffice.
    trades, count = np.empty(targets.size + 2 * n_assets, TRADE), 0
    # Targets that have not been traded yet: they wait for their asset's next price. NaN is none.
    waiting, any_waits = np.full(n_assets, np.nan), False
    any_delisted = delisted_at.min() < n_rows
    rates = max(inputs.borrow_rate, inputs.cash_rate, inputs.margin_rate)
    any_financing = rates > 0.0 or inputs.funding.shape[1] > 0

    for row in range(n_rows):
        if ruined:  # what is lost stays lost: no recovery on prices that come later
            cash_after[row], equity[row] = value, value
            continue
        if row > 0 and any_financing:
            financing[row] = _financing(inputs, row, cash, shares)
            cash -= financing[row]
        if any_delisted:  # before the trades, which may already use the money
            for j in range(n_assets):
                if delisted_at[j] == row and shares[j] != 0.0:
                    cash += shares[j] * marks[j, row]
                    count = _record(trades, count, row, j, -shares[j], 0.0, DELISTING)
                    shares[j] = 0.0
        decision = decision_at[row]  # taken execution_lag rows ago; it trades at today's price
        if decision >= 0:
            for j in range(n_assets):
                if not math.isnan(targets[decision, j]):  # else an older one keeps waiting
                    waiting[j] = targets[decision, j]
                    any_waits = True
        value = _value(marks, row, cash, shares)
        if any_waits and value > 0.0:
            cash, costs[row], traded, count = trade_to_targets(
                inputs, row, value, cash, shares, waiting, trades, count
            )
            turnover[row] = traded / value
            any_waits = False
            for j in range(n_assets):
                if tradable[j, row]:
                    waiting[j] = np.nan  # done, also where the band left it alone
                elif not math.isnan(waiting[j]):
                    any_waits = True
            # Summed again, not lowered by the costs: cash plus positions is equity to the last bit.
            value = _value(marks, row, cash, shares)
        if value <= 0.0:
            ruined = True
            for j in range(n_assets):
                if shares[j] != 0.0:
                    count = _record(trades, count, row, j, -shares[j], 0.0, RUIN)
            cash = value
        cash_after[row], equity[row] = cash, value
    return Account(cash_after, equity, costs, turnover, financing, trades[:count])


def _value(marks, row, cash, shares):
    """Cash plus positions at this row's marks."""
    value = cash
    for j in range(len(shares)):
        value += shares[j] * marks[j, row]
    return value


def _financing(inputs, row, cash, shares):
    """Money paid for holding since the row before: borrowed stock, interest, funding."""
    short, funding = 0.0, 0.0
    if inputs.borrow_rate > 0.0:
        for j in range(len(shares)):  # at the earlier marks: what was owed during the bar
            short += max(-shares[j] * inputs.marks[j, row - 1], 0.0)
    if inputs.funding.shape[1] > 0:
        for j in range(len(shares)):
            funding += shares[j] * inputs.marks[j, row] * inputs.funding[j, row]
    interest = inputs.cash_rate if cash > 0.0 else inputs.margin_rate
    return inputs.years[row] * (inputs.borrow_rate * short - interest * cash) + funding


def trade_to_targets(inputs, row, value, cash, shares, waiting, trades, count):
    """Bring assets to their waiting targets: changes ``shares`` and ``trades``.

    Returns the new cash, the costs, the traded notional and the number of trades so far.
    """
    n_assets = len(shares)
    held, impact = np.empty(n_assets), np.zeros(n_assets)
    active = np.zeros(n_assets, np.bool_)
    smallest, moves = ROUNDING * value, False
    for j in range(n_assets):
        held[j] = shares[j] * inputs.marks[j, row]
        if inputs.impact.shape[1] > 0:
            impact[j] = inputs.impact[j, row]
        distance = abs(waiting[j] * value - held[j])  # NaN, and so never active, without a target
        active[j] = inputs.tradable[j, row] and distance >= inputs.band * value
        moves = moves or (active[j] and distance > smallest)
    costs, traded = 0.0, 0.0
    if not moves:  # all are at their targets; sizing anew would only trade rounding errors
        return cash, costs, traded, count

    # A target is a fraction of what is left after this row's costs; but the costs depend on the
    # orders and the orders on what is left, so that value is solved for. The other two sizings
    # take the fraction of the value before costs.
    base = value
    if inputs.sizing == AFTER_COST:
        base = value_after_costs(value, waiting, held, active, inputs.rate, impact, inputs.fixed)
    for j in range(n_assets):
        if not active[j]:
            continue
        notional = waiting[j] * base - held[j]
        if inputs.sizing == BT and waiting[j] != 0.0:
            notional /= 1.0 + math.copysign(inputs.rate, notional)  # outlay with its fee
        if abs(notional) <= smallest:
            continue
        if waiting[j] == 0.0 or abs(held[j] + notional) <= smallest:
            # Closed means exactly 0 shares; a remainder of 1e-12 would be marked for ever.
            notional, change = -held[j], -shares[j]
            shares[j] = 0.0
        else:
            change = notional / inputs.marks[j, row]
            shares[j] += change
        cost = order_cost(abs(notional), inputs.rate, impact[j]) + inputs.fixed
        count = _record(trades, count, row, j, change, cost, ORDER)
        cash -= notional
        traded += abs(notional)
        costs += cost
    return cash - costs, costs, traded, count


def order_cost(size, rate, impact):
    """Proportional cost and market impact of an order of ``size`` money, without its fixed fee."""
    return rate * size + impact * size * math.sqrt(size)


def value_after_costs(value, targets, held, active, rate, impact, fixed):
    """Account value V' that is left after trading to ``targets`` of V' itself; 0 where none is.

    The costs depend on the orders, the orders on what is left after the costs: V' solves
    ``V' + costs(|targets V' - held|) = value``, summed over the active assets. The left side is
    convex in V', so Newton's method from ``value`` walks down to the root without overshooting;
    with proportional costs alone it is piecewise linear, and the root is met in a few steps.
    """
    budget = value
    for j in range(len(targets)):
        if active[j] and (targets[j] != 0.0 or held[j] != 0.0):
            budget -= fixed
    after = value
    for _ in range(100):  # a handful of steps; the bound only guards against a cycle of rounding
        excess, slope = after - budget, 1.0
        for j in range(len(targets)):
            if active[j]:
                notional = targets[j] * after - held[j]
                size = abs(notional)
                excess += order_cost(size, rate, impact[j])
                if notional != 0.0:
                    marginal = rate + 1.5 * impact[j] * math.sqrt(size)
                    slope += targets[j] * math.copysign(marginal, notional)
        if slope <= 0.0:
            return 0.0
        step = excess / slope
        after -= step
        if after <= 0.0:
            return 0.0
        if abs(step) <= 2e-16 * value:
            break
    return after


def _record(trades, count, row, column, shares, cost, kind):
    """Write one trade and return how many there are."""
    trades["row"][count] = row
    trades["column"][count] = column
    trades["shares"][count] = shares
    trades["cost"][count] = cost
    trades["kind"][count] = kind
    return count + 1


@functools.cache
def compiled_account() -> Callable[[BacktestInputs], Account]:
    """:func:`simulate_account` compiled by numba; the result is kept on disk between runs."""
    from numba.extending import register_jitable

    for function in (_value, _financing, trade_to_targets, order_cost, value_after_costs, _record):
        register_jitable(function)
    return compiled(simulate_account)
