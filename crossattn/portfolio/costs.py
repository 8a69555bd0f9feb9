"""Trading costs: fees, spread, impact, borrowed stock, funding and idle cash.

Every cost here is money of the account's currency, computed from the *traded notional* of an order:
shares times price, always in absolute value.

Built in chapter: From paper to practice.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from crossattn._validation import INFINITY, check_float
from crossattn.errors import InvalidInputError
from crossattn.portfolio._inputs import reindex_like_prices

WINDOW = 20  # bars of the mean volume, and of the volatility where it is not given


@dataclass(frozen=True)
class Costs:
    """Everything that trading and holding cost beyond the proportional fee; all at least 0.

    Parameters
    ----------
    fixed : float
        Money per order, whatever its size.
    slippage : float
        Fraction of the traded notional lost to the spread: half of the quoted spread.
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

    Notes
    -----
    Rates accrue from bar to bar on the cash and the positions at the earlier bar, with the time
    between them in years of 365.25 days, and without compounding inside a bar.

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
            below = 1.0 if field.name == "slippage" else INFINITY
            value = check_float(field.name, getattr(self, field.name), at_least=0, below=below)
            object.__setattr__(self, field.name, value)


def impact_law(
    coefficient: float,
    marks: np.ndarray,
    prices: pd.DataFrame,
    volume: pd.DataFrame | None,
    volatility: pd.DataFrame | None,
) -> np.ndarray:
    """Cost (T, N) of an order of one unit of money to the power 3/2: Y volatility / sqrt(volume).

    ``marks`` are the last known prices (T, N), 0 before the first. NaN while the volatility or the
    volume, averaged over ``WINDOW`` bars, is unknown, or no money is traded.
    """
    if volume is None:
        raise InvalidInputError("volume must be given for market impact, got None")
    traded = reindex_like_prices(volume, prices, "volume")
    if (traded < 0).any():
        raise InvalidInputError(f"volume must not be negative, got {np.nanmin(traded)}")
    mean = pd.DataFrame(traded).rolling(WINDOW, min_periods=1).mean().to_numpy()
    if volatility is None:
        known = pd.DataFrame(np.where(marks > 0, marks, np.nan))
        moves = known.pct_change(fill_method=None)
        deviation = moves.rolling(WINDOW, min_periods=2).std().to_numpy()
    else:
        deviation = reindex_like_prices(volatility, prices, "volatility")
        if (deviation < 0).any():
            raise InvalidInputError(f"volatility must not be negative, got {np.nanmin(deviation)}")
    law = np.full(marks.shape, np.nan)
    return np.divide(coefficient * deviation, np.sqrt(mean), out=law, where=mean > 0)
