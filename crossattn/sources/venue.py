"""Asking a venue for one page of candles until it answers, refuses, or patience ends.

Three outcomes, and no fourth: a page; a final refusal, as :class:`VenueError`; or a fault that may
pass, which is asked again after a wait, a bounded number of times within a bounded time.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from crossattn.errors import InvalidInputError, VenueError
from crossattn.sources.http import MAX_BODY_BYTES, Reply, Stopped, TransferError, bounded_get
from crossattn.sources.intervals import Interval
from crossattn.sources.klines import BadPage, Candles, Page, VenueCode, parse_page

KLINE_PATH = "/v5/market/kline"
PAGE_CANDLES = 1000
RATE_LIMITED = {10006, 10018}
PASSING = {10000, 10016, 10019}
REJECTED = {10001: "does not know this symbol, category or interval"}
BANNED = {10009, 10010, 10024, 10027}


@dataclass(frozen=True)
class Limits:
    """How patient and how fast a loader is.

    Parameters
    ----------
    give_up_s : float
        A symbol without a valid new page for so long is given up.
    attempts : int
        How often one page is asked for before its fault counts as lasting; half as often where
        the server answers, but with something that is no page.
    first_wait_s, longest_wait_s : float
        The wait after the first fault; it doubles up to the longest.
    spacing_s : float
        Between two requests, all symbols together. The venue allows 600 in 5 s.
    workers : int
        Symbols under way at the same time.
    max_body_bytes : int
        Ceiling for one answer, on the wire and unpacked.
    asks : int
        Requests for one window of candles before its venue counts as unusable.
    bad_rows : int
        Impossible candles in a page that are left out by name; with more the page is refused.
    """

    give_up_s: float = 45.0
    attempts: int = 8
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    spacing_s: float = 0.02
    workers: int = 6
    max_body_bytes: int = MAX_BODY_BYTES
    asks: int = 40
    bad_rows: int = 10


class Pacer:
    """Spaces requests in time, for all symbols of a loader together."""

    def __init__(self, spacing_s: float):
        self._spacing_s = spacing_s
        self._next_at = 0.0
        self._lock = threading.Lock()

    def hold(self, seconds: float) -> None:
        """Let nobody ask for the next ``seconds``."""
        with self._lock:
            self._next_at = max(self._next_at, time.monotonic() + seconds)

    def wait(self, latest: float, stop: threading.Event) -> bool:
        """Wait for a turn; return False, at once, when none comes before ``latest``."""
        while True:
            with self._lock:
                now = time.monotonic()
                if self._next_at <= now:
                    self._next_at = now + self._spacing_s
                    return True
                turn = self._next_at
            if turn > latest:
                return False
            if stop.wait(turn - now):
                raise Stopped


class Patience:
    """Counts the time of one symbol since its last valid page."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self.ends_at = time.monotonic() + self._seconds

    def left(self) -> float:
        return self.ends_at - time.monotonic()


class _PassingFault(Exception):
    """A fault that may pass: the wait that the venue asked for, the weight among the attempts."""

    def __init__(self, problem: str, wait_s: float | None = None, *, weight: float = 1.0):
        super().__init__(problem)
        self.wait_s, self.weight = wait_s, weight


_CONTENT, _RATE_LIMIT = 2.0, 0.2


class KlineVenue:
    """The public candles of one server that speaks Bybit's v5 protocol.

    Parameters
    ----------
    base_url : str
        Scheme and host, perhaps a port and a path before ``/v5``.
    category : str
        ``"spot"``, ``"linear"`` or ``"inverse"``.
    timeout : float
        Seconds for one whole request.
    session : requests.Session or None
        None makes one.
    limits : Limits
    """

    def __init__(self, base_url, category, timeout, session, limits: Limits):
        self.host, self._url = _check_base_url(base_url)
        self._category, self._timeout, self.limits = category, timeout, limits
        self._session = session if session is not None else requests.Session()
        self._pacer = Pacer(limits.spacing_s)
        self.stop = threading.Event()
        self.banned: VenueError | None = None

    def ask(
        self,
        symbol: str,
        interval: Interval,
        window: tuple[int, int] | None,
        patience: Patience,
        *,
        limit: int = PAGE_CANDLES,
        neighbours: Candles | None = None,
    ) -> Page:
        """Return the page that holds slots ``window`` (None: the newest), however often it takes.

        ``neighbours`` are candles around it that are known, to tell a leap in price by.

        Raises
        ------
        VenueError
            A final refusal, or a fault that outlasted the attempts or the patience.
        Stopped
            ``self.stop`` was set.
        """
        params = {"category": self._category, "symbol": symbol, "interval": interval.code}
        if window is not None:
            # the millisecond before the next open: right whether a venue includes its end or not
            params["start"] = str(interval.open_of(window[0]))
            params["end"] = str(interval.open_of(window[1] + 1) - 1)
        params["limit"] = str(limit)
        question = {
            "symbol": symbol,
            "category": self._category,
            "interval": interval,
            "window": window,
            "neighbours": neighbours,
        }
        tries, weight, problem, tainted = 0, 0.0, "", None
        while True:
            self._refuse_if_banned()
            if not self._pacer.wait(patience.ends_at, self.stop) or patience.left() <= 0:
                reason = f"; last: {problem}" if problem else ""
                raise VenueError(
                    f"{symbol}: gave up after {self.limits.give_up_s:g} s without a valid new "
                    f"page{reason}"
                )
            try:
                page = self._once(params, question, min(self._timeout, patience.left()))
                if not page.problems:
                    patience.renew()
                    return page
                tainted = page
                raise _PassingFault(page.problems[0], weight=_CONTENT)
            except _PassingFault as fault:
                tries, weight, problem = tries + 1, weight + fault.weight, str(fault)
                if weight >= self.limits.attempts:
                    if tainted is not None and self._usable(tainted, window):
                        patience.renew()
                        return tainted
                    raise VenueError(
                        f"{symbol}: gave up after {tries} tries; last: {problem}"
                    ) from None
                self._wait(fault, tries, patience, symbol)

    def _once(self, params: dict, question: dict, seconds: float) -> Page:
        try:
            reply = bounded_get(
                self._session,
                self._url,
                params,
                seconds=seconds,
                max_bytes=self.limits.max_body_bytes,
                stop=self.stop,
            )
        except TransferError as error:
            raise _PassingFault(str(error)) from None
        self._judge_status(reply)
        try:
            page = parse_page(reply.body, **question)
        except BadPage as error:
            raise _PassingFault(str(error), weight=_CONTENT) from None
        except VenueCode as error:
            raise self._judge_code(error, reply, question["symbol"]) from None
        if reply.headers.get("X-Bapi-Limit-Status") == "0":
            wait = _reset_wait(reply, page.clock_ms)
            if wait is not None:
                self._pacer.hold(min(wait, self.limits.longest_wait_s))
        return page

    def _judge_status(self, reply: Reply) -> None:
        """Return for status 200; otherwise raise what the status means."""
        status = reply.status
        if status == 200:
            return
        if status == 429:
            raise _PassingFault("HTTP 429", _retry_after(reply), weight=_RATE_LIMIT)
        if status == 403:
            page = reply.body.lstrip()[:1] == b"<"
            self.banned = VenueError(
                f"{self.host} blocks requests from this region or network (HTTP 403 with a web "
                "page)"
                if page
                else f"{self.host} has banned this address for asking too often (HTTP 403); ask "
                "again in 10 minutes or later"
            )
            self._refuse_if_banned()
        if status >= 500 or 200 < status < 300 or status == 408:
            raise _PassingFault(f"HTTP {status}", _retry_after(reply))
        if 300 <= status < 400:
            raise VenueError(f"{self.host} redirects elsewhere (HTTP {status}), which is refused")
        raise VenueError(f"{self.host} refused the request with HTTP {status}")

    def _judge_code(self, error: VenueCode, reply: Reply, symbol: str) -> Exception:
        """Return the exception that a return code other than 0 means."""
        told = f"retCode {error.code}: {error.message}"
        if error.code in RATE_LIMITED:
            return _PassingFault(told, _reset_wait(reply, error.clock_ms), weight=_RATE_LIMIT)
        if error.code in BANNED:
            self.banned = VenueError(f"{self.host} refuses this address ({told})")
            return self.banned
        if error.code in REJECTED:
            return VenueError(f"{symbol}: {self.host} {REJECTED[error.code]} ({told})")
        if error.code in PASSING:
            return _PassingFault(told)
        return _PassingFault(f"unknown {told}", weight=_CONTENT)

    def _wait(self, fault: _PassingFault, count: int, patience: Patience, symbol: str) -> None:
        limits = self.limits
        backoff = min(limits.first_wait_s * 2 ** (count - 1), limits.longest_wait_s)
        wait = backoff if fault.wait_s is None else max(fault.wait_s, limits.first_wait_s)
        if wait > patience.left():
            raise VenueError(
                f"{symbol}: gave up: {fault}, and the next try would come after the "
                f"{limits.give_up_s:g} s that a symbol may take without a valid new page"
            )
        if fault.weight == _RATE_LIMIT:
            self._pacer.hold(wait)
        elif self.stop.wait(wait):
            raise Stopped

    def _usable(self, page: Page, window: tuple[int, int] | None) -> bool:
        """Whether a page that stayed faulty holds a few bad candles and is sound otherwise."""
        few = self.limits.bad_rows
        small = window is not None and window[1] - window[0] < few
        return len(page.problems) <= few and (len(page.candles) > 0 or small)

    def _refuse_if_banned(self) -> None:
        if self.stop.is_set():
            raise Stopped
        if self.banned is not None:
            raise VenueError(str(self.banned))


def _check_base_url(base_url: object) -> tuple[str, str]:
    """Return host and full address of the candles, or refuse what is no plain HTTP address."""
    wrong = InvalidInputError(f"base_url must be like https://api.bybit.com, got {base_url!r}")
    if not isinstance(base_url, str) or base_url != base_url.strip():
        raise wrong
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise wrong
    return host, base_url.rstrip("/") + KLINE_PATH


def _reset_wait(reply: Reply, clock_ms: int | None) -> float | None:
    """Return the seconds until the venue's limit resets, by the venue's own clock."""
    text = reply.headers.get("X-Bapi-Limit-Reset-Timestamp", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        return None
    now_ms = clock_ms if clock_ms is not None else time.time() * 1000
    return max(0.0, (int(text) - now_ms) / 1000)


def _retry_after(reply: Reply) -> float | None:
    text = reply.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        wait = parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(0.0, wait) if math.isfinite(wait) else None
