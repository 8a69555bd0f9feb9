"""What trading costs: fees, spread, impact, borrowed stock, funding and idle cash.

Every cost here is money of the account's currency, computed from the *traded notional* of an order:
shares times price, always in absolute value.

Built in chapter: From paper to practice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.portfolio.tables import spread_table

SIZINGS = ("after_cost", "before_cost", "bt")


@dataclass(frozen=True)
class Costs:
    """Everything that trading and holding cost beyond the proportional fee.

    A backtest that knows only a fee flatters fast strategies (impact grows faster than the order),
    small accounts (a fixed fee does not shrink) and short books (stock is borrowed, not given).

    Parameters
    ----------
    fixed : float
        Money per order, whatever its size.
    slippage : float
        Fraction of the traded notional lost to the spread: half of the quoted spread, as a
        fraction of the price. Filling a buy at ``p * (1 + slippage)`` costs the same.
    impact : float
        Coefficient ``Y`` of the square-root law: an order of notional ``q`` in an asset with
        volatility ``s`` per bar and traded money ``v`` per bar moves the price against itself by
        ``Y * s * sqrt(q / v)``, so it costs ``Y * s * q * sqrt(q / v)``.
    borrow_rate : float
        Rate per year on the value of short positions.
    cash_rate : float
        Rate per year that positive cash earns; the proceeds of short sales count as cash.
    margin_rate : float
        Rate per year that negative cash pays.

    Raises
    ------
    InvalidInputError
        A value is negative, infinite or NaN, or a fraction is 1 or more.

    Notes
    -----
    Rates accrue from bar to bar on the cash and the positions at the earlier bar, with the time
    between them in years of 365.25 days, and without compounding inside a bar.

    Built in chapter: From paper to practice.

    References
    ----------
    Almgren, Thum, Hauptmann, Li (2005), "Direct estimation of equity market impact".
    Tóth et al. (2011), "Anomalous price impact and the critical nature of liquidity".

    Examples
    --------
    >>> Costs(slippage=0.0005, borrow_rate=0.03).slippage
    0.0005
    """

    fixed: float = 0.0
    slippage: float = 0.0
    impact: float = 0.0
    borrow_rate: float = 0.0
    cash_rate: float = 0.0
    margin_rate: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = non_negative(getattr(self, field.name), field.name)
            object.__setattr__(self, field.name, value)
        if self.slippage >= 1:
            raise InvalidInputError(f"slippage must be below 1, got {self.slippage!r}")


def non_negative(value: float, name: str) -> float:
    """Return ``value`` as a float, or refuse it by ``name``: a finite number, zero or more."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, (bool, np.bool_)) or not 0 <= number < float("inf"):
        raise InvalidInputError(f"{name} must be a finite number, zero or more, got {value!r}")
    return number


def order_costs(notional: np.ndarray, rate: float, impact: np.ndarray, fixed: float) -> np.ndarray:
    """Cost of each order, in money.

    Parameters
    ----------
    notional : ndarray of shape (n_orders,)
        Signed traded notional; 0 is no order and costs nothing.
    rate : float
        Fee plus slippage, as a fraction of the notional.
    impact : ndarray of shape (n_orders,)
        ``Y * volatility / sqrt(traded money)`` of each asset, in 1 / sqrt(money).
    fixed : float
        Money per order.

    Returns
    -------
    ndarray of shape (n_orders,)

    Examples
    --------
    >>> order_costs(np.array([-100.0, 0.0]), 0.001, np.zeros(2), 1.0)
    array([1.1, 0. ])
    """
    size = np.abs(notional)
    return rate * size + impact * size * np.sqrt(size) + fixed * (size > 0)


def value_after_costs(
    value: float,
    weights: np.ndarray,
    held: np.ndarray,
    rate: float,
    impact: np.ndarray,
    fixed: float,
) -> float:
    """Account value V' that is left after trading to ``weights`` of V' itself.

    The costs depend on the orders, the orders on what is left after the costs: V' solves
    ``V' + costs(|w V' - held|) = value``. The left side is convex in V', so Newton's method from
    ``value`` walks down to the root without overshooting, and for purely proportional costs, where
    the function is piecewise linear, it arrives in finitely many steps.

    Parameters
    ----------
    value : float
        Account value before the trade, at the marks.
    weights, held : ndarray of shape (n_orders,)
        Target weights and money now held in the assets that trade.
    rate, impact, fixed
        As in :func:`order_costs`.

    Returns
    -------
    float
        V', or 0 where the costs exceed everything there is.

    Examples
    --------
    >>> round(value_after_costs(100.0, np.ones(1), np.zeros(1), 0.01, np.zeros(1), 0.0), 6)
    99.009901
    """
    orders = np.count_nonzero((weights != 0) | (held != 0))
    budget = value - fixed * orders
    after = value
    for _ in range(100):
        notional = weights * after - held
        size = np.abs(notional)
        excess = after + (rate * size + impact * size * np.sqrt(size)).sum() - budget
        slope = 1 + (np.sign(notional) * weights * (rate + 1.5 * impact * np.sqrt(size))).sum()
        if slope <= 0:
            return 0.0
        step = excess / slope
        after -= step
        if after <= 0:
            return 0.0
        if abs(step) <= 2e-16 * value:
            break
    return float(after)


def impact_law(
    coefficient: float,
    marks: np.ndarray,
    prices: pd.DataFrame,
    volume: pd.DataFrame | None,
    volatility: pd.DataFrame | None,
    window: int = 20,
) -> np.ndarray:
    """Cost of an order of one unit of money to the power 3/2, for every asset and row.

    Parameters
    ----------
    coefficient : float
        ``Y`` of the square-root law.
    marks : ndarray of shape (T, N)
        Last known prices, 0 before the first.
    prices : DataFrame of shape (T, N)
        For its index and columns.
    volume, volatility : DataFrame or None
        Traded money per bar, and standard deviation of a bar's return, known at the row.
    window : int
        Bars over which the volume is averaged, and the volatility measured where it is not given.

    Returns
    -------
    ndarray of shape (T, N)
        ``Y * volatility / sqrt(mean volume)``; NaN while either is unknown or no money is traded.

    Raises
    ------
    InvalidInputError
        There is no volume, or a value is negative.
    """
    if volume is None:
        raise InvalidInputError("volume must be given for market impact, got None")
    traded = spread_table(volume, prices, "volume")
    if (traded < 0).any():
        raise InvalidInputError(f"volume must not be negative, got {np.nanmin(traded)}")
    mean = pd.DataFrame(traded).rolling(window, min_periods=1).mean().to_numpy()
    if volatility is None:
        known = pd.DataFrame(np.where(marks > 0, marks, np.nan))
        moves = known.pct_change(fill_method=None)
        deviation = moves.rolling(window, min_periods=2).std().to_numpy()
    else:
        deviation = spread_table(volatility, prices, "volatility")
        if (deviation < 0).any():
            raise InvalidInputError(f"volatility must not be negative, got {np.nanmin(deviation)}")
    law = np.full(marks.shape, np.nan)
    return np.divide(coefficient * deviation, np.sqrt(mean), out=law, where=mean > 0)
