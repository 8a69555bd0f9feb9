"""Times and intervals of candles: where each interval opens and closes.

A candle is named by an integer, its *slot*: candle 0 holds the epoch, and slots count up without
holes, so that ranges and pages are subtractions and months are as easy as minutes.
"""

import contextlib
import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn.data.frame import TIME_UNIT
from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class Interval:
    """One spacing of candles: its name at the venue, NumPy's datetime unit, the open of slot 0.

    The methods take an int or an array.

    Examples
    --------
    >>> hour = INTERVALS["60"]
    >>> hour.slot_of(7_200_001), hour.open_of(2)
    (2, 7200000)
    """

    code: str
    unit: str
    offset_ms: int = 0

    def slot_of(self, ms):
        """Return the slot of the candle that holds the moment ``ms`` (since the epoch)."""
        return _convert(ms - self.offset_ms, "M8[ms]", self.unit)

    def open_of(self, slot):
        """Return the open time of ``slot`` in milliseconds since the epoch."""
        return _convert(slot, self.unit, "M8[ms]") + self.offset_ms

    def first_slot_from(self, ms: int) -> int:
        """Return the first slot that opens at ``ms`` or later."""
        return self.slot_of(ms - 1) + 1

    def closed_before(self, now_ms: int) -> int:
        """Return the newest slot that has closed by ``now_ms``."""
        return self.slot_of(now_ms) - 1


def _convert(numbers, unit: str, to_unit: str):
    """Convert counts of one datetime unit since the epoch to counts of another, rounded down."""
    counts = np.asarray(numbers, np.int64).astype(unit).astype(to_unit).astype(np.int64)
    return counts if counts.ndim else int(counts)


_MINUTES = (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)
INTERVALS: dict[str, Interval] = {
    **{str(minutes): Interval(str(minutes), f"M8[{minutes}m]") for minutes in _MINUTES},
    "D": Interval("D", "M8[D]"),
    "W": Interval("W", "M8[W]", 4 * 86_400_000),  # 1 January 1970 was a Thursday
    "M": Interval("M", "M8[M]"),
}


def parse_span(start: object, end: object) -> tuple[int, int]:
    """Return two moments, in order, in milliseconds since the epoch."""
    first, last = _parse_time(start, "start"), _parse_time(end, "end")
    if first > last:
        raise InvalidInputError(
            f"start must not be later than end, got {format_time(first)} and {format_time(last)}"
        )
    return first, last


def _parse_time(value: object, name: str) -> int:
    """Return a moment in milliseconds since the epoch; a time without zone is UTC."""
    moment = pd.NaT
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        if isinstance(value, str):
            moment = pd.to_datetime(value.strip(), format="ISO8601")
        elif isinstance(value, (dt.date, np.datetime64)):
            moment = pd.Timestamp(value)
    if moment is pd.NaT:
        raise InvalidInputError(
            f"{name} must be an ISO 8601 time such as 2024-01-31T09:00 or a datetime, got {value!r}"
        )
    moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    if not 1970 <= moment.year <= 2200:
        raise InvalidInputError(f"{name} must lie in 1970 to 2200, got {moment.isoformat()}")
    return to_ms(moment)


def to_ms(times):
    """Return a Timestamp or DatetimeIndex in milliseconds since the epoch."""
    in_ms = times.as_unit("ms")
    return in_ms.asi8 if isinstance(times, pd.DatetimeIndex) else in_ms.value // 1_000_000


def from_ms(ms: np.ndarray) -> pd.DatetimeIndex:
    """Return milliseconds since the epoch as UTC times."""
    return pd.DatetimeIndex(ms.astype("M8[ms]"), tz="UTC").as_unit(TIME_UNIT)


def format_time(ms: int) -> str:
    """Return ``ms`` as ISO 8601 UTC, such as 1970-01-02T00:00:00Z."""
    return f"{np.datetime64(int(ms), 'ms').astype('M8[s]')}Z"
