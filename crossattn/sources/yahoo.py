"""Bars of stocks, indices, currencies and coins from Yahoo, through yfinance.

yfinance returns an empty frame for many a failure, dates bars by wall clock, and includes the open
bar. Here a failure raises, a bar has a UTC open and the moment it was known, open bars are left
out.
"""

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from crossattn._validation import check_choice
from crossattn.data.frame import (
    FRAME_COLUMNS,
    PRICE_COLUMNS,
    Frame,
    Frames,
    absorb_rounding,
    check_frame,
)
from crossattn.data.gaps import missing_bars
from crossattn.errors import DamagedFileError, VenueError, import_optional
from crossattn.sources._cache import BarCache
from crossattn.sources._client import FetchLimits
from crossattn.sources._downloads import Download, Fetched, Gap, check_symbols, fetch_all
from crossattn.sources._http import PassingFault, Stopped, printable
from crossattn.sources._intervals import from_ms, parse_span, to_ms
from crossattn.sources.calendar import TradingHours, expected_opens, place_bars

# Yahoo's name of an interval -> its length, how far back its bars reach
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
        Cache of downloaded bars. Prices are adjusted as of the day they were fetched, so cached
        ranges are never stitched together: a request within the range kept is served from it, any
        other is fetched whole and replaces it.
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
    source = YahooSource(cache_dir=cache_dir, session=session)
    return source.fetch(symbols, start, end, interval).frames_or_raise()


class YahooSource:
    """Bars from Yahoo, as :func:`crossattn.fetch_stock_data`, with failures and gaps reported.

    ``timeout`` holds for one request, in seconds.
    """

    def __init__(
        self,
        *,
        cache_dir: str | os.PathLike | None = None,
        session: object = None,
        timeout: float = 10.0,
        _limits: FetchLimits | None = None,
        _now=lambda: pd.Timestamp.now("UTC"),
    ):
        self.cache = None if cache_dir is None else BarCache(cache_dir)
        self.session, self.timeout, self.now = session, timeout, _now
        self.limits = _limits or FetchLimits(attempts=4, first_wait_s=2.0)

    def fetch(
        self, symbols: Iterable[str], start: object, end: object, interval: str = "1h"
    ) -> Fetched:
        """Fetch as :func:`crossattn.fetch_stock_data`, and report failures and gaps."""
        symbols = check_symbols(symbols)
        check_choice("interval", interval, INTERVALS)
        span = from_ms(np.array(parse_span(start, end)))
        stop = threading.Event()
        downloads = [_YahooDownload(self, symbol, span, interval, stop) for symbol in symbols]
        # one at a time: yfinance keeps its settings in globals
        return fetch_all(downloads, 1, stop)


class _YahooDownload(Download):
    """The bars of one symbol, from the cache or from Yahoo."""

    def __init__(self, source: YahooSource, symbol: str, span, interval: str, stop):
        super().__init__(symbol, source.limits.give_up_s)
        self._source, self._span, self._interval, self._stop = source, span, interval, stop
        self._step, self._reach = INTERVALS[interval]
        self._result: tuple[Frame | None, list[Gap]] = None, []
        if source.cache is not None:
            self._path = source.cache.path("yahoo", "adjusted", interval, symbol)

    def run(self) -> None:
        frame, hours = self._load() or self._ask()
        frame = frame[(frame.index >= self._span[0]) & (frame.index <= self._span[1])]
        if not len(frame):
            hint = f"; its {self._interval} bars reach back {self._reach}" if self._reach else ""
            raise VenueError(f"{self.symbol}: Yahoo has no closed bar in the range asked for{hint}")
        frame, gaps = check_frame(frame, self.symbol), []
        expected = expected_opens(hours, self._step, self._span, self._source.now())
        if expected is not None and len(expected):
            missing = missing_bars({self.symbol: frame}, expected)
            gaps = [
                Gap(symbol, to_ms(first), to_ms(last), int(count))
                for symbol, first, last, count in missing.itertuples(index=False)
            ]
        self._result = frame, gaps

    def result(self) -> tuple[Frame | None, list[Gap]]:
        """Return what :meth:`run` found."""
        return self._result

    def _ask(self) -> tuple[Frame, TradingHours]:
        """Return closed, possible bars and the symbol's hours; retry what may pass."""
        limits, problem = self._source.limits, ""
        for attempt in range(limits.attempts):
            wait = limits.first_wait_s * 2 ** (attempt - 1) if attempt else 0.0
            if wait > self.seconds_left():
                break
            if self._stop.wait(wait):
                raise Stopped
            try:
                raw, hours = self._call_yfinance()
            except PassingFault as fault:
                problem = str(fault)
                continue
            frame = self._to_frame(raw, hours)
            self._save(frame, hours)
            return frame, hours
        raise VenueError(f"{self.symbol}: gave up on Yahoo; last: {problem}")

    def _call_yfinance(self) -> tuple[pd.DataFrame, TradingHours]:
        """Return yfinance's own frame and the trading hours; its errors become ours."""
        yfinance = import_optional("yfinance", "Yahoo", "data")
        exceptions = import_optional("yfinance.exceptions", "Yahoo", "data")
        # yfinance's end is exclusive, and it dates a day by its midnight, before the session opens
        margin = pd.Timedelta("1D") if self._interval == "1d" else pd.Timedelta(0)
        try:
            with _raise_instead_of_log(yfinance):
                ticker = yfinance.Ticker(self.symbol, session=self._source.session)
                raw = ticker.history(
                    start=(self._span[0] - margin).to_pydatetime(),
                    end=(self._span[1] + margin + pd.Timedelta(self._step)).to_pydatetime(),
                    interval=self._interval,
                    auto_adjust=True,
                    actions=False,
                    timeout=self._source.timeout,
                )
                about = dict(ticker.history_metadata) if len(raw) else {}
        except exceptions.YFRateLimitError:
            raise PassingFault("Yahoo limits the rate of requests") from None
        except exceptions.YFTickerMissingError as error:
            raise VenueError(f"{self.symbol}: Yahoo refuses: {printable(error)}") from None
        except Exception as error:
            # yfinance parses pages that change without notice: any error in it is the venue's
            raise PassingFault(f"{type(error).__name__}: {printable(error, 120)}") from None
        self._check_answer(about, ticker.ticker)
        return raw, TradingHours.from_metadata(about)

    def _check_answer(self, about: dict, ticker: str) -> None:
        """Refuse bars that Yahoo itself says are of another symbol or another length."""
        symbol = str(about.get("symbol") or ticker)
        if symbol.upper() != ticker.upper():
            raise VenueError(f"{self.symbol}: Yahoo answered for {printable(symbol)}")
        length = str(about.get("dataGranularity") or self._interval)
        # yfinance makes bars of half an hour from those of a quarter
        fitting = {self._step, "15min"} if self._interval == "30m" else {self._step}
        if INTERVALS.get(length, ("",))[0] not in fitting:
            answered = f"{printable(length)} bars for {self._interval}"
            raise VenueError(f"{self.symbol}: Yahoo answered with {answered}")

    def _to_frame(self, raw: pd.DataFrame, hours: TradingHours) -> Frame:
        """Return closed, possible bars with their close times; name those that are impossible."""
        wanted = {name: name.capitalize() for name in FRAME_COLUMNS}
        absent = [column for column in wanted.values() if column not in raw.columns]
        if absent or not isinstance(raw.index, pd.DatetimeIndex) or raw.index.tz is None:
            raise VenueError(f"{self.symbol}: yfinance returned a frame of another shape")
        frame = pd.DataFrame({name: raw[column] for name, column in wanted.items()}, dtype=float)
        if not (frame["volume"] > 0).any():
            frame["volume"] = np.nan
        frame = place_bars(frame, hours, self._step)
        frame = frame[(frame["close_time"] <= self._source.now()).to_numpy()]
        prices = list(PRICE_COLUMNS)
        frame = frame[frame[prices].notna().all(axis=1)].copy()
        # adjusting multiplies each price: a high may end a rounding error below its close
        open_, high, low, close = (frame[name].to_numpy() for name in prices)
        frame["high"], frame["low"] = absorb_rounding(open_, high, low, close)
        good = ((frame[prices] > 0) & np.isfinite(frame[prices])).all(axis=1)
        good &= (frame["high"] == frame[prices].max(axis=1)) & ~(frame["volume"] < 0)
        good &= frame["low"] == frame[prices].min(axis=1)
        self.notices += [
            f"{self.symbol}: left out, the bar of {t} is impossible" for t in frame.index[~good]
        ]
        return frame[good]

    def _load(self) -> tuple[Frame, TradingHours] | None:
        """Return the cached frame and hours where they cover the span, else None."""
        if self._source.cache is None:
            return None
        try:
            frame = self._source.cache.read(self._path)
        except DamagedFileError as error:
            self.notices.append(f"{self.symbol}: cache file fetched anew: {printable(error, 300)}")
            return None
        first, last = map(to_ms, self._span)
        if frame is None or not frame.attrs["from"] <= first <= last <= frame.attrs["to"]:
            return None
        hours = TradingHours(**frame.attrs["hours"])
        frame.attrs = {}
        return frame, hours

    def _save(self, frame: Frame, hours: TradingHours) -> None:
        if self._source.cache is None or not len(frame):
            return
        # Yahoo may still add bars of the last days: what lies behind the newest bar is not known
        settled = self._span[1] < self._source.now() - pd.Timedelta("7D")
        known_to = self._span[1] if settled else min(self._span[1], frame.index[-1])
        kept = frame.copy()
        kept.attrs = {"from": to_ms(self._span[0]), "to": to_ms(known_to), "hours": vars(hours)}
        self._source.cache.write(self._path, kept, merge=False)


@contextlib.contextmanager
def _raise_instead_of_log(yfinance) -> Iterator[None]:
    """Make yfinance raise its errors, and forget answers that it would repeat."""
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
            # about pandas, meant for yfinance's authors
            warnings.filterwarnings("ignore", module="yfinance")
            yield
    finally:
        config.hide_exceptions = before[0]
        logger.setLevel(before[1])
