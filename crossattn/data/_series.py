"""One asset's bars as arrays, for the checks of :mod:`crossattn.data.doctor`."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from crossattn.data.durations import span_text
from crossattn.data.frame import PRICE_COLUMNS, Frame, close_times

GAP_BARS = 20
GAP_CLOSURES = 3.0
CLOSURE_QUANTILE = 0.995


class Series:
    """Bars of one asset that have a close; prices are logarithms.

    Attributes
    ----------
    opens : DatetimeIndex of shape (n_bars,)
    known : ndarray of shape (n_bars,), int64
        Close times in the unit of ``opens``.
    open, high, low, close, volume : ndarray of shape (n_bars,)
        An open, high or low that is missing is the close.
    spacing : int or None
        Most frequent distance between opens, or the shortest of irregular ones; None of one bar.
    """

    def __init__(self, symbol: str, frame: Frame):
        self.symbol = symbol
        has_close = frame["close"].notna().to_numpy()
        single = len(frame) == 1 and "close_time" not in frame.columns
        known = frame.index if single else close_times(frame, symbol)
        self.opens, self.known = frame.index[has_close], known.asi8[has_close]
        self.volume = frame["volume"].to_numpy()[has_close]
        prices = np.log(frame[list(PRICE_COLUMNS)].to_numpy()[has_close])
        gap = np.isnan(prices)
        prices[gap] = np.broadcast_to(prices[:, 3:], prices.shape)[gap]
        self.open, self.high, self.low, self.close = np.ascontiguousarray(prices.T)

    def __len__(self) -> int:
        return len(self.close)

    @cached_property
    def steps(self) -> np.ndarray:
        """Distances between neighbouring opens."""
        return np.diff(self.opens.asi8)

    @cached_property
    def spacing(self) -> int | None:
        if len(self) < 2:
            return None
        # where most bars are missing the shortest step tells more than the most frequent one
        return int(pd.Series(self.steps).mode()[0] if self.is_regular else self.steps.min())

    @cached_property
    def is_regular(self) -> bool:
        """Whether at least half of the steps are the most frequent one."""
        return 2 * np.unique(self.steps, return_counts=True)[1].max() >= len(self.steps)

    @cached_property
    def longest_closure(self) -> float:
        """A step beyond which bars are missing: longer than nights, weekends and holidays."""
        closure = np.quantile(self.steps, CLOSURE_QUANTILE)
        return max(GAP_BARS * self.spacing, GAP_CLOSURES * closure)

    @cached_property
    def returns(self) -> np.ndarray:
        """Log return of every bar but the first, over the asset's own bar before."""
        return np.diff(self.close)

    def duration(self, ticks: int) -> str:
        """Return a length of time as a text."""
        return span_text(pd.Timedelta(int(ticks), unit=self.opens.unit))

    def time(self, row: int) -> str:
        """Return the open time of a bar as a text in UTC, without seconds where they are zero."""
        text = self.opens[row].tz_localize(None).isoformat(sep=" ")
        return text[:-3] if text.endswith(":00") and len(text) == 19 else text

    def deviation(self, row: int, around: int) -> float:
        """Robust standard deviation of the returns near a bar, without those next to it."""
        before = self.returns[max(0, row - 1 - around) : max(0, row - 2)]
        near = np.concatenate([before, self.returns[row + 2 : row + 2 + around]])
        near = np.abs(near[near != 0])
        return float(1.4826 * np.median(near)) if len(near) else 0.0


@dataclass(frozen=True, eq=False)
class Fault:
    """Something suspicious: its kind, the bar at which it begins, its size, and a sentence."""

    asset: Series
    kind: str
    row: int
    figure: float
    text: str


def times_of(asset: Series, first: int, last: int) -> str:
    """Return the open times of two bars as "from .. to .."."""
    return f"{asset.time(first)} to {asset.time(last)}"


def shown(symbol: str) -> str:
    """Return a symbol on one line: characters that do not print are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in symbol)
