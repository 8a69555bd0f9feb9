"""Bars from Bybit's public v5 market data: closed, validated, with missing bars named."""

import os
from collections.abc import Iterable

import requests

from crossattn._validation import check_choice, check_float, check_int
from crossattn.data.frame import Frame, Frames
from crossattn.errors import InvalidInputError
from crossattn.sources._cache import BarCache
from crossattn.sources._client import FetchLimits, KlineClient, check_base_url, spelling_of_bybit
from crossattn.sources._downloads import Fetched, check_symbols, fetch_all
from crossattn.sources._http import bounded_session
from crossattn.sources._intervals import INTERVALS, Interval, format_time, parse_span
from crossattn.sources._paging import Pager

CATEGORIES = ("spot", "linear", "inverse")


class BybitDataLoader:
    """Download candles from Bybit, or from any server with its v5 protocol.

    Every bar has closed by the venue's own clock and was checked; bars that the venue does not have
    are named; a faulty server is refused in bounded time.

    Parameters
    ----------
    base_url : str
        Scheme and host of the server, http or https.
    category : {"linear", "spot", "inverse"}
        Linear perpetuals (USDT, USDC), spot pairs, or inverse perpetuals.
    cache_dir : path, optional
        Cache of downloaded bars (Parquet); later fetches request only what is missing.
    timeout : float
        Seconds for one request, from the connection to the last byte.
    session : requests.Session, optional
        For proxies or certificates. For ``base_url`` it gets an adapter that reads within a
        deadline, unless it carries one of your own.

    Notes
    -----
    Windows of at most 1000 candles are requested newest first, six symbols at a time, at most 50
    requests a second. Rate limits are honoured by the venue's reset time; passing faults are
    retried after waits that double; a symbol without a valid new page for 45 seconds is given up.

    References
    ----------
    Bybit, "Get Kline", V5 API documentation, https://bybit-exchange.github.io/docs/v5/market/kline

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> loader = BybitDataLoader(category="spot")
    >>> loader.fetch_klines("BTCUSDT", interval="7")
    Traceback (most recent call last):
    crossattn.errors.InvalidInputError: interval must be one of 1, 3, 5, ... D, W, M, got '7'
    """

    def __init__(
        self,
        *,
        base_url: str = "https://api.bybit.com",
        category: str = "linear",
        cache_dir: str | os.PathLike | None = None,
        timeout: float = 10.0,
        session: requests.Session | None = None,
        _limits: FetchLimits | None = None,
    ):
        self.category = check_choice("category", category, CATEGORIES)
        self.timeout = check_float("timeout", timeout, above=0)
        check_base_url(base_url)
        self.base_url = base_url
        self._session = bounded_session(session, base_url)
        self._limits = _limits or FetchLimits()
        self._cache = None if cache_dir is None else BarCache(cache_dir)

    def fetch_klines(
        self, symbol: str, interval: str | int = "60", start=None, end=None, limit: int = 1000
    ) -> Frame:
        """Return the closed bars of one symbol.

        Parameters
        ----------
        symbol : str
            Such as ``"BTCUSDT"``.
        interval : str
            Minutes ``1 3 5 15 30 60 120 240 360 720``, or ``D``, ``W`` (from Monday), ``M``.
        start, end : str or datetime, optional
            Every closed bar that opens in [start, end], both included; without zone UTC. Without
            ``end``, up to now; without ``start``, the newest ``limit`` bars up to ``end``.
        limit : int
            Number of bars where ``start`` is not given; any number.

        Returns
        -------
        DataFrame
            A Frame: index ``time`` (UTC open), ``open high low close volume`` in the units of the
            venue (float64), ``close_time`` (when the bar is known) and ``turnover``.

        Raises
        ------
        InvalidInputError
            An argument is wrong.
        VenueError
            The venue refused, misbehaved, could not be reached, or has no such bar.

        Warns
        -----
        CrossAttentionWarning
            ``missing: SYMBOL first..last COUNT bars`` for each gap, candles left out as impossible,
            a damaged cache file that was fetched anew.
        """
        return self.fetch([symbol], interval, start, end, limit).frames_or_raise()[symbol]

    def fetch_multi_asset(
        self, symbols: Iterable[str], interval: str | int = "60", start=None, end=None, limit=1000
    ) -> Frames:
        """Return the closed bars of several symbols, fetched side by side.

        Keyed by symbol in the order given. When a symbol fails, the others are fetched (and cached)
        before the error is raised. Ctrl-C stops within a moment; the cache keeps what was received.
        """
        return self.fetch(symbols, interval, start, end, limit).frames_or_raise()

    def fetch(
        self, symbols: Iterable[str], interval: str | int = "60", start=None, end=None, limit=1000
    ) -> Fetched:
        """Fetch like :meth:`fetch_multi_asset`, but return failures and gaps beside the frames."""
        symbols = check_symbols(symbols)
        for symbol in symbols:
            spelling = spelling_of_bybit(symbol)
            if spelling not in (None, symbol.upper()):
                raise InvalidInputError(f"symbol {symbol!r} is written {spelling!r} by Bybit")
        code = str(interval) if type(interval) is int else interval
        grid = INTERVALS[check_choice("interval", code, INTERVALS)]
        wanted = _requested_slots(grid, start, end, check_int("limit", limit))
        where = self.base_url, self.category, self.timeout
        client = KlineClient(*where, self._session, self._limits)
        pagers = [Pager(client, symbol, grid, wanted, self._cache) for symbol in symbols]
        return fetch_all(pagers, self._limits.workers, client.stop)


def _requested_slots(grid: Interval, start, end, limit: int) -> tuple[int | None, int, int]:
    begin, until = "1970-01-01" if start is None else start, "2200-01-01" if end is None else end
    first_ms, last_ms = parse_span(begin, until)
    first, last = grid.first_slot_from(first_ms), grid.slot_of(last_ms)
    if first > last:
        raise InvalidInputError(
            f"no bar of interval {grid.code} opens from {format_time(first_ms)} to "
            f"{format_time(last_ms)}"
        )
    return (None if start is None else first), last, limit
