"""The grid of a venue's candles: where each interval opens and closes.

A candle is named by an integer, its *slot*: candle 0 holds the epoch, slots count up without holes.
On slots a range is two integers, a page of 1000 candles is a subtraction, and months of different
lengths are as easy as minutes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError

_MINUTE_MS, _DAY_MS = 60_000, 86_400_000


@dataclass(frozen=True)
class Interval:
    """One spacing of candles: its name at the venue, its length, the open of slot 0.

    ``step_ms`` is None for calendar months. The methods take an int or an array.

    Examples
    --------
    >>> hour = INTERVALS["60"]
    >>> hour.slot_of(7_200_001), hour.open_of(2)
    (2, 7200000)
    """

    code: str
    step_ms: int | None
    offset_ms: int = 0

    def slot_of(self, ms):
        """Return the slot of the candle that holds the moment ``ms`` (since the epoch)."""
        if self.step_ms is not None:
            return (ms - self.offset_ms) // self.step_ms
        months = np.asarray(ms, np.int64).astype("M8[ms]").astype("M8[M]").astype(np.int64)
        return months if months.ndim else int(months)

    def open_of(self, slot):
        """Return the open time of ``slot`` in milliseconds since the epoch."""
        if self.step_ms is not None:
            return slot * self.step_ms + self.offset_ms
        opens = np.asarray(slot, np.int64).astype("M8[M]").astype("M8[ms]").astype(np.int64)
        return opens if opens.ndim else int(opens)

    def first_slot_from(self, ms: int) -> int:
        """Return the first slot that opens at ``ms`` or later."""
        slot = self.slot_of(ms)
        return slot if self.open_of(slot) == ms else slot + 1

    def closed_before(self, now_ms: int) -> int:
        """Return the newest slot that has closed by ``now_ms``."""
        return self.slot_of(now_ms) - 1


_MINUTES = (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)
INTERVALS: dict[str, Interval] = {
    **{str(minutes): Interval(str(minutes), minutes * _MINUTE_MS) for minutes in _MINUTES},
    "D": Interval("D", _DAY_MS),
    "W": Interval("W", 7 * _DAY_MS, 4 * _DAY_MS),  # 1 January 1970 was a Thursday
    "M": Interval("M", None),
}


def parse_time(value: object, name: str) -> int:
    """Return a moment in milliseconds since the epoch; a time without zone is UTC.

    Examples
    --------
    >>> parse_time("1970-01-02", "start"), parse_time("1970-01-01T01:00+01:00", "start")
    (86400000, 0)
    """
    moment = pd.NaT
    if isinstance(value, (str, dt.date, np.datetime64)):
        try:
            moment = pd.Timestamp(value)
            if isinstance(value, str):
                moment = pd.to_datetime(value.strip(), format="ISO8601")
        except (ValueError, TypeError, OverflowError):
            moment = pd.NaT
    if moment is pd.NaT:
        raise InvalidInputError(
            f"{name} must be an ISO 8601 time such as 2024-01-31T09:00 or a datetime, got {value!r}"
        )
    moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
    if not 1970 <= moment.year <= 2200:
        raise InvalidInputError(f"{name} must lie in the years 1970 to 2200, got {value!r}")
    return int(moment.as_unit("ns").value // 1_000_000)


def format_time(ms: int) -> str:
    """Return ``ms`` as ISO 8601 UTC.

    Examples
    --------
    >>> format_time(86_400_000)
    '1970-01-02T00:00:00Z'
    """
    return f"{np.datetime64(int(ms), 'ms').astype('M8[s]')}Z"
