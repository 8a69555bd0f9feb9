"""Bars of stocks, indices, currencies and coins from Yahoo, through yfinance, with its traps shut.

yfinance answers many a failure with an empty frame, dates bars by the exchange's wall clock, and
hands over the bar that is still open. Here a failure is an error that says what it was, a bar has
a UTC open and the moment at which it was known, and an open bar is left out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn.data.frame import FRAME_COLUMNS, TIME_UNIT, Frame, Frames, check_frame
from crossattn.errors import (
    CrossAttentionError,
    DamagedFileError,
    InvalidInputError,
    MissingDependencyError,
    VenueError,
)
from crossattn.sources.cache import BarCache, Table
from crossattn.sources.fetching import Fetched, check_symbols
from crossattn.sources.http import TransferError, printable, run_bounded
from crossattn.sources.intervals import parse_time
from crossattn.sources.trading_hours import Hours, missing_bars, place_bars

INTERVALS = {
    "1m": ("1min", "30 days"),
    "2m": ("2min", "60 days"),
    "5m": ("5min", "60 days"),
    "15m": ("15min", "60 days"),
    "30m": ("30min", "60 days"),
    "60m": ("60min", "730 days"),
    "90m": ("90min", "60 days"),
    "1h": ("60min", "730 days"),
    "1d": ("1D", ""),
}
_ROUNDING = 1e-9


@dataclass(frozen=True)
class YahooLimits:
    """How patient the source is: seconds for one symbol, tries, and the wait after the first."""

    give_up_s: float = 45.0
    attempts: int = 4
    first_wait_s: float = 2.0


def fetch_stock_data(
    symbols: Iterable[str],
    start: object,
    end: object,
    interval: str = "1h",
    *,
    cache_dir: str | os.PathLike | None = None,
    session: object = None,
) -> Frames:
    """Return the closed bars of several symbols from Yahoo, adjusted for splits and dividends.

    Parameters
    ----------
    symbols : list of str
        Yahoo's names: ``"AAPL"``, ``"^GSPC"``, ``"EURUSD=X"``, ``"BTC-USD"``.
    start, end : str or datetime
        Every closed bar that opens in [start, end], both included; without zone UTC.
    interval : str
        ``1m 2m 5m 15m 30m 60m 90m 1h 1d``. Yahoo's hourly bars reach back 730 days, those of
        minutes 30 or 60.
    cache_dir : path, optional
        Keep what came. Prices are adjusted as of the day they were fetched, so cached ranges are
        never stitched together: a request within the range kept is served from it, any other is
        fetched whole and replaces it.
    session : requests.Session or curl_cffi session, optional
        Handed to yfinance, which keeps it for its later calls.

    Returns
    -------
    dict of str to DataFrame
        Frames with ``close_time``: the end of the bar, or of the session where that is earlier (the
        last hourly bar of New York lasts half an hour; a half-day's daily bar ends at 13:00). Where
        the exchange is unknown, a daily bar is known when its day is over. Volume is NaN where
        Yahoo publishes none.

    Raises
    ------
    InvalidInputError
        An argument is wrong.
    VenueError
        Yahoo refused, limits the rate, could not be reached, or has no such bars: by symbol, after
        the others were fetched.
    MissingDependencyError
        yfinance is not installed.

    Warns
    -----
    CrossAttentionWarning
        ``missing: SYMBOL first..last COUNT bars``; rows left out as impossible; a damaged cache.

    Notes
    -----
    Which bars are still open is told by this machine's clock: Yahoo's answer carries none.

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> fetch_stock_data(["AAPL"], "2024-01-02", "2024-01-01")
    Traceback (most recent call last):
    crossattn.errors.InvalidInputError: start must not be later than end, ...
    """
    fetched = YahooSource(cache_dir=cache_dir, session=session).fetch(symbols, start, end, interval)
    fetched.raise_failures()
    fetched.notices += [str(gap) for gap in fetched.gaps]
    fetched.warn()
    return fetched.frames


class YahooSource:
    """Yahoo's chart data; :func:`fetch_stock_data` is its plain face.

    Parameters
    ----------
    cache_dir : path, optional
    session : optional
        See :func:`fetch_stock_data`.
    timeout : float
        Seconds for one request.
    """

    def __init__(
        self,
        *,
        cache_dir: str | os.PathLike | None = None,
        session: object = None,
        timeout: float = 10.0,
        _limits: YahooLimits | None = None,
        _now=lambda: pd.Timestamp.now("UTC"),
    ):
        self._cache = None if cache_dir is None else BarCache(cache_dir)
        self._session, self._timeout = session, timeout
        self._limits, self._now = _limits or YahooLimits(), _now

    def fetch(
        self, symbols: Iterable[str], start: object, end: object, interval: str = "1h"
    ) -> Fetched:
        """Fetch like :func:`fetch_stock_data`, but return failures and gaps beside the frames."""
        symbols = check_symbols(symbols)
        if not isinstance(interval, str) or interval not in INTERVALS:
            raise InvalidInputError(
                f"interval must be one of {', '.join(INTERVALS)}, got {interval!r}"
            )
        first, last = parse_time(start, "start"), parse_time(end, "end")
        if first > last:
            raise InvalidInputError(f"start must not be later than end, got {start!r} and {end!r}")
        span = tuple(pd.Timestamp(ms, unit="ms", tz="UTC") for ms in (first, last))
        fetched = Fetched()
        try:
            for symbol in symbols:
                try:
                    self._fetch_symbol(symbol, span, interval, fetched)
                except CrossAttentionError as error:
                    if isinstance(error, MissingDependencyError):
                        raise
                    fetched.failures[symbol] = error
        except KeyboardInterrupt:
            fetched.interrupted = True
        return fetched

    def _fetch_symbol(self, symbol: str, span, interval: str, fetched: Fetched) -> None:
        kept = self._kept(symbol, span, interval, fetched)
        if kept is None:
            raw, hours = self._ask(symbol, span, interval)
            frame, notices = self._to_frame(raw, hours, symbol, interval, span)
            fetched.notices += notices
            self._keep(symbol, frame, hours, span, interval)
        else:
            frame, hours = kept
        frame = frame[(frame.index >= span[0]) & (frame.index <= span[1])]
        if not len(frame):
            reach = INTERVALS[interval][1]
            hint = f"; its {interval} bars reach back {reach}" if reach else ""
            raise VenueError(f"{symbol}: Yahoo has no closed bar in the range asked for{hint}")
        fetched.frames[symbol] = check_frame(frame, symbol)
        step = INTERVALS[interval][0]
        fetched.gaps += missing_bars(frame.index, hours, step, span, self._now(), symbol)

    def _ask(self, symbol: str, span, interval: str) -> tuple[pd.DataFrame, Hours]:
        """Return yfinance's frame and the symbol's hours; ask again after a fault that may pass."""
        deadline = time.monotonic() + self._limits.give_up_s
        problem = ""
        for attempt in range(self._limits.attempts):
            if attempt:
                wait = self._limits.first_wait_s * 2 ** (attempt - 1)
                if time.monotonic() + wait > deadline:
                    break
                time.sleep(wait)
            try:
                return run_bounded(
                    lambda: _ask_yfinance(symbol, span, interval, self._session, self._timeout),
                    max(0.01, deadline - time.monotonic()),
                )
            except (_Passing, TransferError) as error:
                problem = str(error)
        raise VenueError(f"{symbol}: gave up on Yahoo; last: {problem}")

    def _to_frame(self, raw, hours: Hours, symbol: str, interval: str, span) -> tuple[Frame, list]:
        """Return closed, sound bars with their close times, and what was left out."""
        wanted = {name: name.capitalize() for name in FRAME_COLUMNS}
        absent = [column for column in wanted.values() if column not in raw.columns]
        if absent or not isinstance(raw.index, pd.DatetimeIndex) or raw.index.tz is None:
            raise VenueError(f"{symbol}: yfinance returned a frame of another shape")
        frame = pd.DataFrame({name: raw[column] for name, column in wanted.items()}, dtype=float)
        if not (frame["volume"] > 0).any():
            frame["volume"] = np.nan
        frame = place_bars(frame, hours, INTERVALS[interval][0])
        frame = frame[(frame["close_time"] <= self._now()).to_numpy()]
        frame, impossible = _sound(frame)
        notices = [f"{symbol}: left out, the bar of {t} is impossible" for t in impossible]
        return frame, notices

    def _kept(self, symbol: str, span, interval: str, fetched: Fetched):
        """Return the cached frame and hours where they cover ``span``, else None."""
        if self._cache is None:
            return None
        path = self._cache.path("yahoo", "adjusted", interval, symbol)
        try:
            table = self._cache.read(path)
        except DamagedFileError as error:
            fetched.notices.append(f"{symbol}: cache file fetched anew: {printable(error, 300)}")
            return None
        if (
            table is None
            or not table.notes["from"] <= _ms(span[0]) <= _ms(span[1]) <= table.notes["to"]
        ):
            return None
        frame = pd.DataFrame({name: table.columns[name] for name in FRAME_COLUMNS})
        frame.index = _times(table.keys).rename("time")
        frame["close_time"] = _times(table.columns["close_time"])
        return frame, Hours(**table.notes["hours"])

    def _keep(self, symbol: str, frame: Frame, hours: Hours, span, interval: str) -> None:
        if self._cache is None or not len(frame):
            return
        path = self._cache.path("yahoo", "adjusted", interval, symbol)
        columns = {name: frame[name].to_numpy() for name in FRAME_COLUMNS}
        columns["close_time"] = _ms(pd.DatetimeIndex(frame["close_time"]))
        known_to = min(_ms(span[1]), _ms(frame.index[-1]))
        notes = {"from": _ms(span[0]), "to": known_to, "hours": vars(hours)}
        if _ms(span[1]) < _ms(self._now() - pd.Timedelta("7D")):
            notes["to"] = _ms(span[1])
        self._cache.replace(path, Table(_ms(frame.index), columns, notes))


class _Passing(Exception):
    """A fault that may pass."""


def _ask_yfinance(symbol: str, span, interval: str, session, timeout: float):
    """Return yfinance's own frame and the trading hours; errors are ours."""
    try:
        import yfinance
        from yfinance import exceptions
    except ImportError:
        raise MissingDependencyError(
            "Yahoo needs yfinance: pip install 'crossattn[data]'"
        ) from None
    # yfinance's end is exclusive, and it dates a day by its midnight, before the session opens
    margin = pd.Timedelta("1D") if interval == "1d" else pd.Timedelta(0)
    step = pd.Timedelta(INTERVALS[interval][0])
    try:
        with _speaking_up(yfinance):
            ticker = yfinance.Ticker(symbol, session=session)
            raw = ticker.history(
                start=(span[0] - margin).to_pydatetime(),
                end=(span[1] + margin + step).to_pydatetime(),
                interval=interval,
                auto_adjust=True,
                actions=False,
                timeout=timeout,
            )
            about = dict(ticker.history_metadata) if len(raw) else {}
    except exceptions.YFRateLimitError:
        raise _Passing("Yahoo limits the rate of requests") from None
    except exceptions.YFTickerMissingError as error:
        raise VenueError(f"{symbol}: Yahoo refuses: {printable(error)}") from None
    except Exception as error:
        # yfinance reads pages that change without notice: whatever it trips over is the venue's
        raise _Passing(f"{type(error).__name__}: {printable(error, 120)}") from None
    return raw, Hours.from_metadata(about)


@contextlib.contextmanager
def _speaking_up(yfinance) -> Iterator[None]:
    """Let yfinance raise instead of logging, and forget answers that it would repeat."""
    logger, config = logging.getLogger("yfinance"), yfinance.config.debug
    before = config.hide_exceptions, logger.level
    # it remembers answers about the past, failures included
    forget = getattr(getattr(yfinance.data.YfData, "cache_get", None), "cache_clear", None)
    if callable(forget):
        forget()
    config.hide_exceptions = False
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            # what yfinance uses of pandas is its own affair
            warnings.filterwarnings("ignore", module="yfinance")
            yield
    finally:
        config.hide_exceptions = before[0]
        logger.setLevel(before[1])


def _sound(frame: Frame) -> tuple[Frame, pd.DatetimeIndex]:
    """Return the possible bars, and the opens of the others; bars without a price are no bars."""
    prices = ["open", "high", "low", "close"]
    frame = frame[frame[prices].notna().all(axis=1)].copy()
    # adjusting multiplies each price: a high may end a rounding error below its close
    top, bottom = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    near_top = (frame["high"] < top) & (frame["high"] >= top * (1 - _ROUNDING))
    near_bottom = (frame["low"] > bottom) & (frame["low"] <= bottom * (1 + _ROUNDING))
    frame["high"] = frame["high"].mask(near_top, top)
    frame["low"] = frame["low"].mask(near_bottom, bottom)
    good = (frame[prices] > 0).all(axis=1) & np.isfinite(frame[prices]).all(axis=1)
    good &= (frame["high"] >= top) & (frame["low"] <= bottom) & ~(frame["volume"] < 0)
    return frame[good], frame.index[~good]


def _times(ms: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(ms.astype("M8[ms]"), tz="UTC").as_unit(TIME_UNIT)


def _ms(moment):
    """Return milliseconds since the epoch: an int of a Timestamp, an int64 array of an index."""
    if isinstance(moment, pd.Timestamp):
        return int(moment.as_unit("ns").value // 1_000_000)
    return moment.as_unit("ms").asi8
