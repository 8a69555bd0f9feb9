"""When an exchange opens and closes: holidays, half-days and daylight saving time included.

A daily bar is dated by a day, but it is known at a moment. In New York that is 21:00 UTC in winter,
20:00 in summer, 18:00 on the day after Thanksgiving.
"""

from __future__ import annotations

import datetime as dt
import warnings
from functools import cache

import pandas as pd

from crossattn.data.frame import TIME_UNIT, Frame, check_frame
from crossattn.errors import InvalidInputError, MissingDependencyError


def session_times(days: pd.DatetimeIndex, exchange: str = "XNYS") -> pd.DataFrame:
    """Return when the exchange opened and closed on each of ``days``.

    Parameters
    ----------
    days : DatetimeIndex of shape (n_days,)
        Dates without a time zone (the exchange's own calendar days).
    exchange : str
        Its ISO 10383 code, as ``exchange_calendars`` knows it: "XNYS", "XLON", "XTKS", ...

    Returns
    -------
    DataFrame of shape (n_days, 2)
        Index ``days``; columns ``open`` and ``close``, in UTC, NaT where there was no session.

    Raises
    ------
    InvalidInputError
        The exchange is unknown, or ``days`` are no dates.
    MissingDependencyError
        ``exchange_calendars`` is not installed.

    Notes
    -----
    Built in chapter: Data and clocks.

    Examples
    --------
    >>> days = pd.to_datetime(["2024-03-08", "2024-03-10", "2024-03-11", "2024-11-29"])
    >>> session_times(days)["close"].dt.strftime("%H:%M").tolist()
    ['21:00', nan, '20:00', '18:00']
    """
    if not isinstance(days, pd.DatetimeIndex) or days.tz is not None or days.hasnans:
        raise InvalidInputError("days must be a DatetimeIndex of dates without a time zone")
    if not isinstance(exchange, str):
        raise InvalidInputError(f"exchange must be a code such as XNYS, got {exchange!r}")
    if len(days) == 0:
        raise InvalidInputError("days must hold at least one date, got none")
    days = days.normalize()
    first, last = days.min().date(), days.max().date()
    schedule = _schedule(exchange, first, last).reindex(days)
    return schedule.apply(lambda column: column.dt.as_unit(TIME_UNIT))


def date_by_sessions(daily: pd.DataFrame, exchange: str = "XNYS", symbol: str = "frame") -> Frame:
    """Turn bars dated by day into a Frame: open time and close time of each day's session.

    Parameters
    ----------
    daily : DataFrame
        Columns ``open high low close volume``; index: calendar days of the exchange, without a time
        zone. Days without a session are left out.
    exchange : str
        See :func:`session_times`.
    symbol : str
        How messages call the frame.

    Returns
    -------
    DataFrame
        A Frame with ``close_time``: the bar is known when the session ends, not at midnight.

    Raises
    ------
    InvalidInputError
        The bars are wrong, or no day has a session.

    Examples
    --------
    >>> day = pd.DataFrame({"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 5.0},
    ...                    index=pd.to_datetime(["2024-07-03"]))
    >>> date_by_sessions(day)["close_time"].iloc[0]
    Timestamp('2024-07-03 17:00:00+0000', tz='UTC')
    """
    if not isinstance(daily, pd.DataFrame):
        raise InvalidInputError(f"{symbol}: bars must be a DataFrame, got {type(daily).__name__}")
    times = session_times(daily.index, exchange)
    held = times["open"].notna().to_numpy()
    if not held.any():
        raise InvalidInputError(f"{symbol}: {exchange} held no session on any of these days")
    frame = daily[held].assign(close_time=times["close"].array[held])
    frame.index = pd.DatetimeIndex(times.loc[held, "open"])
    return check_frame(frame, symbol)


@cache
def _schedule(exchange: str, first: dt.date, last: dt.date) -> pd.DataFrame:
    try:
        import exchange_calendars
    except ImportError:
        raise MissingDependencyError(
            "session times need exchange_calendars: pip install 'crossattn[data]'"
        ) from None
    # a calendar refuses bounds that hold no session, so it gets a margin
    margin = dt.timedelta(days=14)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it uses of pandas is its own affair
            calendar = exchange_calendars.get_calendar(
                exchange, start=str(first - margin), end=str(last + margin)
            )
    except exchange_calendars.errors.InvalidCalendarName:
        raise InvalidInputError(
            f"exchange must be a code such as XNYS, XLON or XTKS, got {exchange!r}"
        ) from None
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{exchange} has no calendar for these days: {error}") from None
    return calendar.schedule[["open", "close"]]
