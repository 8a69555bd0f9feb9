"""HTTP client of Bybit's candles: one page, retried until it comes, is refused, or time is up.

Three outcomes, and no fourth: a page; a final refusal, as VenueError; or a fault that may pass,
which is asked again after a wait, a bounded number of times within a bounded time.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from crossattn.errors import InvalidInputError, VenueError
from crossattn.sources._downloads import Deadline
from crossattn.sources._http import (
    TRANSFER_ERRORS,
    BoundedAdapter,
    Stopped,
    bound_reads,
    describe,
    read_body,
)
from crossattn.sources._intervals import Interval
from crossattn.sources._parsing import BadPage, Candles, Page, VenueCode, parse_page

PAGE_CANDLES = 1000
_PATH = "/v5/market/kline"
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "crossattn"}
_RATE_LIMITED, _PASSING = {10006, 10018}, {10000, 10016, 10019}
_REJECTED, _BANNED = {10001}, {10009, 10010, 10024, 10027}
# how much of the attempts a fault uses up: one whose answer is no page is less likely to pass
_BAD_CONTENT, _RATE_LIMIT = 2.0, 0.2


@dataclass(frozen=True)
class FetchLimits:
    """How patient and how fast a source is; all times in seconds."""

    give_up_s: float = 45.0  # a symbol without a valid new page for so long is given up
    attempts: int = 8  # for one page; half as many where what comes is no page
    first_wait_s: float = 0.5  # after the first fault; it doubles
    longest_wait_s: float = 8.0
    spacing_s: float = 0.02  # between two requests, all symbols together; allowed: 600 in 5 s
    workers: int = 6  # symbols under way at the same time
    max_body_bytes: int = 4 * 2**20  # of one answer, on the wire and unpacked
    asks: int = 40  # requests for one window before the venue counts as unusable
    bad_rows: int = 10  # impossible candles of a page left out by name; with more it is refused


class RateLimiter:
    """Spaces requests in time, for all symbols of a fetch together."""

    def __init__(self, spacing_s: float):
        self._spacing_s, self._next_at, self._lock = spacing_s, 0.0, threading.Lock()

    def hold(self, seconds: float) -> None:
        """Let no request start for the next ``seconds``."""
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


class _PassingFault(Exception):
    """A fault that may pass: the wait that the venue asked for, the weight among the attempts."""

    def __init__(self, problem: str, wait_s: float | None = None, *, weight: float = 1.0):
        super().__init__(problem)
        self.wait_s, self.weight = wait_s, weight


class KlineClient:
    """The candles of one server, for the length of one fetch.

    ``base_url`` is a scheme and host, perhaps a port and a path before ``/v5``; ``timeout`` holds
    for one whole request; ``session`` should carry the adapter of `bounded_session`.
    """

    def __init__(self, base_url, category, timeout, session, limits: FetchLimits):
        self.host, self._url = check_base_url(base_url)
        self.category, self._timeout, self.limits = category, timeout, limits
        self._session = session
        self._rate = RateLimiter(limits.spacing_s)
        self._banned: str | None = None
        self.stop = threading.Event()

    def get_page(
        self,
        symbol: str,
        interval: Interval,
        window: tuple[int, int] | None,
        deadline: Deadline,
        *,
        limit: int = PAGE_CANDLES,
        neighbours: Candles | None = None,
    ) -> Page:
        """Return the page that holds slots ``window`` (None: the newest), however often it takes.

        VenueError: a final refusal, or a fault that outlasted the attempts or the deadline.
        """
        params = {"category": self.category, "symbol": symbol, "interval": interval.code}
        if window is not None:
            # the millisecond before the next open: right whether a venue includes its end or not
            params["start"] = str(interval.open_of(window[0]))
            params["end"] = str(interval.open_of(window[1] + 1) - 1)
        params["limit"] = str(limit)
        tries, weight, problem, flawed = 0, 0.0, "", None
        while True:
            if self._banned is not None:
                raise VenueError(self._banned)
            if not self._rate.wait(deadline.ends_at, self.stop) or deadline.left() <= 0:
                reason = f"; last: {problem}" if problem else ""
                raise VenueError(
                    f"{symbol}: gave up after {deadline.seconds:g} s without a valid new "
                    f"page{reason}"
                )
            try:
                page = self._request(params, interval, window, neighbours, deadline.left())
                if not page.problems:
                    deadline.renew()
                    return page
                flawed = page
                raise _PassingFault(page.problems[0], weight=_BAD_CONTENT)
            except _PassingFault as fault:
                tries, weight, problem = tries + 1, weight + fault.weight, str(fault)
                if weight < self.limits.attempts:
                    self._wait(fault, tries, deadline, symbol)
                elif flawed is not None and self._is_usable(flawed, window):
                    deadline.renew()
                    return flawed
                else:
                    raise VenueError(
                        f"{symbol}: gave up after {tries} tries; last: {problem}"
                    ) from None

    def _request(self, params, interval, window, neighbours, left: float) -> Page:
        """Send one request; return its page, or raise what the answer means."""
        if self.stop.is_set():
            raise Stopped
        seconds = min(self._timeout, left)
        bound_reads(seconds, self.stop)
        try:
            options = {"timeout": seconds, "allow_redirects": False, "stream": True}
            with self._session.get(
                self._url, params=params, headers=_HEADERS, **options
            ) as response:
                body = read_body(response, self.limits.max_body_bytes)
        except TRANSFER_ERRORS as error:
            raise _PassingFault(describe(error)) from None
        symbol, category = params["symbol"], params["category"]
        self._check_status(response, body)
        try:
            page = parse_page(body, symbol, category, interval, window, neighbours)
        except BadPage as error:
            raise _PassingFault(str(error), weight=_BAD_CONTENT) from None
        except VenueCode as error:
            raise self._refusal(error, response, symbol) from None
        if response.headers.get("X-Bapi-Limit-Status") == "0":
            # the quota is spent: wait before the venue has to refuse
            wait = _reset_wait(response, page.clock_ms) or 0.0
            self._rate.hold(min(wait, self.limits.longest_wait_s))
        return page

    def _check_status(self, response: requests.Response, body: bytes) -> None:
        """Return for status 200; otherwise raise what the status means."""
        status = response.status_code
        if status == 200:
            return
        if status == 429:
            raise _PassingFault("HTTP 429", _retry_after(response), weight=_RATE_LIMIT)
        if status >= 500 or 200 < status < 300 or status == 408:
            raise _PassingFault(f"HTTP {status}", _retry_after(response))
        if status == 403:
            self._banned = f"{self.host} " + (
                "blocks requests from this region or network (HTTP 403 with a web page)"
                if body.lstrip()[:1] == b"<"
                else "has banned this address for asking too often (HTTP 403); ask again in "
                "10 minutes or later"
            )
            raise VenueError(self._banned)
        if 300 <= status < 400:
            raise VenueError(f"{self.host} redirects elsewhere (HTTP {status}), which is refused")
        raise VenueError(f"{self.host} refused the request with HTTP {status}")

    def _refusal(self, error: VenueCode, response: requests.Response, symbol: str) -> Exception:
        """Return the exception that a return code other than 0 means."""
        told = f"retCode {error.code}: {error.message}"
        if error.code in _RATE_LIMITED:
            wait = _reset_wait(response, error.clock_ms)
            return _PassingFault(told, wait, weight=_RATE_LIMIT)
        if error.code in _PASSING:
            return _PassingFault(told)
        if error.code in _BANNED:
            self._banned = f"{self.host} refuses this address ({told})"
            return VenueError(self._banned)
        if error.code in _REJECTED:
            return VenueError(
                f"{symbol}: {self.host} does not know this symbol, category or interval ({told})"
            )
        return _PassingFault(f"unknown {told}", weight=_BAD_CONTENT)

    def _wait(self, fault: _PassingFault, tries: int, deadline: Deadline, symbol: str) -> None:
        limits = self.limits
        backoff = min(limits.first_wait_s * 2 ** (tries - 1), limits.longest_wait_s)
        wait = backoff if fault.wait_s is None else max(fault.wait_s, limits.first_wait_s)
        if wait > deadline.left():
            raise VenueError(
                f"{symbol}: gave up: {fault}, and the next try would come after the "
                f"{deadline.seconds:g} s that a symbol may take without a valid new page"
            )
        if fault.weight == _RATE_LIMIT:
            self._rate.hold(wait)  # the limit is the address's: all symbols wait
        elif self.stop.wait(wait):
            raise Stopped

    def _is_usable(self, page: Page, window: tuple[int, int] | None) -> bool:
        """Whether a page that stayed faulty holds a few bad candles and is sound otherwise."""
        few = self.limits.bad_rows
        small = window is not None and window[1] - window[0] < few
        return len(page.problems) <= few and (len(page.candles) > 0 or small)


def bounded_session(session: requests.Session | None, base_url: str) -> requests.Session:
    """Return ``session``, or a new one, whose answers from ``base_url`` are read until a deadline.

    An adapter of the caller's own making stays: its reads are bounded one by one, by the timeout.
    """
    session = session if session is not None else requests.Session()
    adapter = session.get_adapter(base_url)
    if type(adapter) is HTTPAdapter:
        session.mount(base_url.lower(), BoundedAdapter(max_retries=adapter.max_retries))
    return session


def check_base_url(base_url: object) -> tuple[str, str]:
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
    return host, base_url.rstrip("/") + _PATH


def _reset_wait(response: requests.Response, clock_ms: int | None) -> float | None:
    """Return the seconds until the venue's limit resets, by the venue's own clock."""
    text = response.headers.get("X-Bapi-Limit-Reset-Timestamp", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        return None
    now_ms = clock_ms if clock_ms is not None else time.time() * 1000
    return max(0.0, (int(text) - now_ms) / 1000)


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        wait = parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return max(0.0, wait) if math.isfinite(wait) else None
