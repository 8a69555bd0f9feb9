"""Exchange calendars: open and close of sessions, and when a bar of a session is known.

A daily bar is dated by a day, but it is known at a moment. In New York that is 21:00 UTC in winter,
20:00 in summer, 18:00 on the day after Thanksgiving.
"""

import datetime as dt
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import pandas as pd

from crossattn._validation import check_type
from crossattn.data.frame import TIME_UNIT, Frame, check_frame
from crossattn.errors import CrossAttentionError, InvalidInputError, import_optional

# ISO 10383 code of an exchange -> Yahoo's names of it
_YAHOO_NAMES = {
    "XNYS": "NYQ NMS NGM NCM ASE PCX BTS SNP DJI NIM WCB",
    "XTSE": "TOR VAN CNQ",
    "XLON": "LSE FGI",
    "XPAR": "PAR",
    "XTKS": "OSA JPX",
    "XKRX": "KSC KOE",
    "XSHG": "SHH SHZ",
    "XBOM": "NSI BSE",
    "XETR": "GER",
    "XAMS": "AMS",
    "XBRU": "BRU",
    "XMIL": "MIL",
    "XMAD": "MCE",
    "XSWX": "EBS",
    "XWBO": "VIE",
    "XSTO": "STO",
    "XCSE": "CPH",
    "XHEL": "HEL",
    "XOSL": "OSL",
    "XHKG": "HKG",
    "XTAI": "TAI",
    "XASX": "ASX",
    "BVMF": "SAO",
    "XSES": "SES",
}
_EXCHANGES = {name: code for code, names in _YAHOO_NAMES.items() for name in names.split()}
_WITH_A_BREAK = {"XTKS", "XHKG", "XSHG", "XSES"}


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
    check_type("exchange", exchange, str, "a code such as XNYS")
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

    Examples
    --------
    >>> day = pd.DataFrame({"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 5.0},
    ...                    index=pd.to_datetime(["2024-07-03"]))
    >>> date_by_sessions(day)["close_time"].iloc[0]
    Timestamp('2024-07-03 17:00:00+0000', tz='UTC')
    """
    check_type(f"{symbol}: bars", daily, pd.DataFrame, "a DataFrame")
    times = session_times(daily.index, exchange)
    held = times["open"].notna().to_numpy()
    if not held.any():
        raise InvalidInputError(f"{symbol}: {exchange} held no session on any of these days")
    frame = daily[held].assign(close_time=times["close"].array[held])
    frame.index = pd.DatetimeIndex(times.loc[held, "open"])
    return check_frame(frame, symbol)


@cache
def _schedule(exchange: str, first: dt.date, last: dt.date) -> pd.DataFrame:
    exchange_calendars = import_optional("exchange_calendars", "session_times", "data")
    # a calendar refuses bounds that hold no session, so it gets a margin
    margin = dt.timedelta(days=14)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pandas, meant for its authors
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


@dataclass(frozen=True)
class TradingHours:
    """When a symbol trades: time zone, ISO code of its exchange if known, or around the clock."""

    zone: str = "UTC"
    exchange: str | None = None
    always: bool = False

    @classmethod
    def from_metadata(cls, about: dict) -> Self:
        """Read Yahoo's description of a symbol."""
        zone = str(about.get("exchangeTimezoneName") or "UTC")
        always = about.get("instrumentType") == "CRYPTOCURRENCY"
        stock_like = about.get("instrumentType") in ("EQUITY", "ETF", "INDEX", "MUTUALFUND")
        exchange = _EXCHANGES.get(str(about.get("exchangeName"))) if stock_like else None
        return cls(zone, exchange, always)

    def sessions(self, days: pd.DatetimeIndex) -> pd.DataFrame | None:
        """Return open and close of each of the calendar ``days``, None where they are unknown."""
        if self.exchange is None or not len(days):
            return None
        try:
            return session_times(days, self.exchange)
        except CrossAttentionError:
            return None


def place_bars(frame: pd.DataFrame, hours: TradingHours, step: str) -> Frame:
    """Return bars dated by their opens in UTC, with ``close_time``: when each is known.

    Bars come dated in the exchange's time zone: intraday by their opens, days by their midnights
    (``step`` is ``"1D"`` then). Left out are rows outside of any session, and those that begin
    before the bar before them has ended (a live quote).
    """
    frame = frame[~frame.index.duplicated(keep="last")].sort_index()
    days = frame.index.tz_convert(hours.zone).normalize()
    sessions = hours.sessions(pd.DatetimeIndex(days.tz_localize(None).unique()))
    if sessions is not None:
        sessions = sessions.loc[days.tz_localize(None)]
        opened = pd.DatetimeIndex(sessions["open"])
        closed = pd.DatetimeIndex(sessions["close"])
    if step == "1D":
        if sessions is None:
            opened, closed = days, days + pd.DateOffset(days=1)
        held = ~opened.isna()
    else:
        start = frame.index.tz_convert("UTC").as_unit(TIME_UNIT)
        end = start + pd.Timedelta(step)
        held = np.ones(len(frame), bool)
        if sessions is not None:
            held = np.asarray((start >= opened) & (start < closed))
            # the last bar of a session ends with it: in New York it lasts half an hour
            end = end.where(end <= closed, closed)
        opened, closed = start, end
    frame = frame[held]
    frame.index = opened[held].tz_convert("UTC").as_unit(TIME_UNIT).rename("time")
    frame = frame.assign(close_time=closed[held].tz_convert("UTC").as_unit(TIME_UNIT))
    ends = pd.DatetimeIndex(frame["close_time"])
    overlaps = np.append(False, frame.index[1:] < ends[:-1])[: len(frame)]
    return frame[~overlaps]


def expected_opens(
    hours: TradingHours, step: str, span, now: pd.Timestamp
) -> pd.DatetimeIndex | None:
    """Return the opens of the bars that should have closed by ``now``, None where not known."""
    length = pd.Timedelta(step)
    first, last = span
    if hours.always:
        opens = pd.date_range(first.ceil(step), last.floor(step), freq=step)
        return opens[opens + length <= now].as_unit(TIME_UNIT)
    local = pd.DatetimeIndex([first, min(last, now)]).tz_convert(hours.zone).tz_localize(None)
    if step != "1D" and hours.exchange in _WITH_A_BREAK:
        return None
    if (sessions := hours.sessions(pd.date_range(*local.normalize()))) is None:
        return None
    sessions = sessions.dropna()
    if step == "1D":
        known = pd.DatetimeIndex(sessions["close"]) <= now
        opens = pd.DatetimeIndex(sessions["open"])[known]
    else:
        each = [
            pd.date_range(opened, closed, freq=step, inclusive="left")
            for opened, closed in sessions.itertuples(index=False)
        ]
        opens = each[0].append(each[1:]) if each else pd.DatetimeIndex([], tz="UTC")
        opens = opens[opens + length <= now]
    opens = opens.as_unit(TIME_UNIT)
    return opens[(opens >= first) & (opens <= last)]
