"""When a symbol trades, and what that says about bars dated by an exchange's wall clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn.data.frame import TIME_UNIT, Frame
from crossattn.errors import CrossAttentionError
from crossattn.sources.calendar import session_times
from crossattn.sources.fetching import Gap

# Yahoo's name of an exchange -> its ISO 10383 code
_EXCHANGES = {
    **dict.fromkeys(("NYQ", "NMS", "NGM", "NCM", "ASE", "PCX", "BTS"), "XNYS"),
    **dict.fromkeys(("SNP", "DJI", "NIM", "WCB"), "XNYS"),
    **dict.fromkeys(("TOR", "VAN", "CNQ"), "XTSE"),
    **dict.fromkeys(("LSE", "FGI"), "XLON"),
    **dict.fromkeys(("PAR",), "XPAR"),
    **dict.fromkeys(("OSA", "JPX"), "XTKS"),
    **dict.fromkeys(("KSC", "KOE"), "XKRX"),
    **dict.fromkeys(("SHH", "SHZ"), "XSHG"),
    **dict.fromkeys(("NSI", "BSE"), "XBOM"),
    "GER": "XETR",
    "AMS": "XAMS",
    "BRU": "XBRU",
    "MIL": "XMIL",
    "MCE": "XMAD",
    "EBS": "XSWX",
    "VIE": "XWBO",
    "STO": "XSTO",
    "CPH": "XCSE",
    "HEL": "XHEL",
    "OSL": "XOSL",
    "HKG": "XHKG",
    "TAI": "XTAI",
    "ASX": "XASX",
    "SAO": "BVMF",
    "SES": "XSES",
}
_WITH_A_BREAK = {"XTKS", "XHKG", "XSHG", "XSES"}


@dataclass(frozen=True)
class Hours:
    """When a symbol trades.

    Parameters
    ----------
    zone : str
        Time zone of its exchange.
    exchange : str or None
        ISO code of the exchange whose sessions it keeps; None where that is not known.
    always : bool
        It trades around the clock, every day.
    """

    zone: str = "UTC"
    exchange: str | None = None
    always: bool = False

    @classmethod
    def from_metadata(cls, about: dict) -> Hours:
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


def place_bars(frame: pd.DataFrame, hours: Hours, step: str) -> Frame:
    """Date bars by their opens in UTC and say when each is known.

    Parameters
    ----------
    frame : DataFrame
        Bars with an index in the exchange's time zone: opens of intraday bars, midnights of days.
    hours : Hours
    step : str
        Length of a bar, as pandas writes it; ``"1D"`` for days.

    Returns
    -------
    DataFrame
        Index ``time`` and column ``close_time`` in UTC. Rows without a session, outside of it, or
        that begin before the bar before them has ended (a live quote) are left out.
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
            end = pd.DatetimeIndex(np.minimum(end.asi8, closed.as_unit(TIME_UNIT).asi8))
            end = pd.DatetimeIndex(end.asi8.astype(f"M8[{TIME_UNIT}]"), tz="UTC")
        opened, closed = start, end
    frame = frame[held]
    frame.index = opened[held].tz_convert("UTC").as_unit(TIME_UNIT).rename("time")
    frame = frame.assign(close_time=closed[held].tz_convert("UTC").as_unit(TIME_UNIT))
    overlaps = np.zeros(len(frame), bool)
    ends = pd.DatetimeIndex(frame["close_time"]).asi8
    overlaps[1:] = frame.index.asi8[1:] < ends[:-1]
    return frame[~overlaps]


def missing_bars(
    opens: pd.DatetimeIndex, hours: Hours, step: str, span, now: pd.Timestamp, symbol: str
) -> list[Gap]:
    """Return the bars that should have closed by ``now`` and are not there, where that is known."""
    expected = _expected_opens(hours, step, span, now)
    if expected is None or not len(expected):
        return []
    absent = ~expected.isin(opens)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], absent, [False]]).astype(int)))
    ms = expected.as_unit("ms").asi8
    return [
        Gap(symbol, int(ms[a]), int(ms[b - 1]), int(b - a))
        for a, b in edges.reshape(-1, 2).tolist()
    ]


def _expected_opens(hours: Hours, step: str, span, now: pd.Timestamp) -> pd.DatetimeIndex | None:
    length = pd.Timedelta(step)
    first, last = span
    if hours.always:
        opens = pd.date_range(first.ceil(step), last.floor(step), freq=step)
        return opens[opens + length <= now].as_unit(TIME_UNIT)
    local = pd.DatetimeIndex([first, min(last, now)]).tz_convert(hours.zone).tz_localize(None)
    if hours.exchange is None or (step != "1D" and hours.exchange in _WITH_A_BREAK):
        return None
    sessions = hours.sessions(pd.date_range(*local.normalize()))
    if sessions is None:
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
