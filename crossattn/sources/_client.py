"""HTTP client of Bybit's candles: one page, retried until it comes, is refused, or time is up.

Three outcomes: a page; a final refusal (VenueError); or a fault that may pass, asked again a
bounded number of times within a bounded time.
"""

import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import pandas as pd
import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from crossattn.errors import InvalidInputError, VenueError
from crossattn.sources._downloads import Download
from crossattn.sources._http import PassingFault, Stopped, bounded_get
from crossattn.sources._intervals import Interval
from crossattn.sources._parsing import NO_CANDLES, BadPage, Page, VenueCode, parse_page

PAGE_CANDLES = 1000
_PATH = "/v5/market/kline"
_PAIR = re.compile(
    r"([A-Z0-9]+?)[/_-]?(USDT|USDC|USD|EUR|BTC|ETH)(?::\w+|\.P)?", re.IGNORECASE | re.ASCII
)
_RATE_LIMITED, _PASSING = {10006, 10018}, {10000, 10016, 10019}
_REJECTED, _BANNED = {10001}, {10009, 10010, 10024, 10027}


@dataclass(frozen=True)
class FetchLimits:
    """Time limits and request rate of a source; all times in seconds."""

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
        with self._lock:
            turn = max(self._next_at, time.monotonic())
            if turn >= latest:
                return False
            self._next_at = turn + self._spacing_s
        if stop.wait(turn - time.monotonic()):
            raise Stopped
        return True


class _RateLimited(PassingFault):
    weight = 0  # only time ends it


class KlineClient:
    """The candles of one server, for the length of one fetch.

    ``base_url`` is a scheme and host, perhaps a port and a path before ``/v5``; ``timeout`` holds
    for one whole request; ``session`` should come from `bounded_session`.
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
        download: Download,
        interval: Interval,
        window: tuple[int, int] | None,
        *,
        limit: int = PAGE_CANDLES,
        neighbours: pd.DataFrame = NO_CANDLES,
    ) -> Page:
        """Return the page that holds slots ``window`` (None: the newest), however often it takes.

        VenueError: a final refusal, or a fault that outlasted the attempts or the time.
        """
        params = {"category": self.category, "symbol": download.symbol, "interval": interval.code}
        if window is not None:
            # the millisecond before the next open: right whether a venue includes its end or not
            params["start"] = str(interval.open_of(window[0]))
            params["end"] = str(interval.open_of(window[1] + 1) - 1)
        params["limit"] = str(limit)
        tries, spent, problem, flawed = 0, 0, "", None
        while True:
            if self._banned is not None:
                raise VenueError(self._banned)
            if not self._rate.wait(download.ends_at, self.stop):
                raise download.gave_up(problem)
            try:
                page = self._request(params, interval, window, neighbours, download.seconds_left())
                if page.problems:
                    flawed = page
                    raise BadPage(page.problems[0])
                download.renew()
                return page
            except PassingFault as fault:
                tries, spent, problem = tries + 1, spent + fault.weight, str(fault)
                if spent < self.limits.attempts:
                    self._wait(fault, tries, download)
                elif flawed is not None and self._is_usable(flawed, window):
                    download.renew()
                    return flawed
                else:
                    text = f"{download.symbol}: gave up after {tries} tries; last: {problem}"
                    raise VenueError(text) from None

    def _request(self, params, interval, window, neighbours, left: float) -> Page:
        """Send one request; return its page, or raise what the answer means."""
        if self.stop.is_set():
            raise Stopped
        seconds = max(min(self._timeout, left), 1e-3)
        bounds = {"seconds": seconds, "max_bytes": self.limits.max_body_bytes, "stop": self.stop}
        response, body = bounded_get(self._session, self._url, params, **bounds)
        if response.status_code != 200:
            raise self._meaning_of_status(response, body)
        symbol, category = params["symbol"], params["category"]
        try:
            page = parse_page(body, symbol, category, interval, window, neighbours)
        except VenueCode as error:
            raise self._meaning_of_code(error, response, symbol) from None
        if response.headers.get("X-Bapi-Limit-Status") == "0":
            # the quota is spent: wait before the venue has to refuse
            wait = _reset_wait(response, page.clock_ms) or 0.0
            self._rate.hold(min(wait, self.limits.longest_wait_s))
        return page

    def _meaning_of_status(self, response: requests.Response, body: bytes) -> Exception:
        status = response.status_code
        if status >= 500 or 200 < status < 300 or status in (408, 429):
            kind = _RateLimited if status == 429 else PassingFault
            return kind(f"HTTP {status}", _retry_after(response))
        if status == 403 and body.lstrip()[:1] == b"<":
            return self._ban("blocks requests from this region or network (HTTP 403, a web page)")
        if status == 403:
            return self._ban(
                "has banned this address for asking too often (HTTP 403); ask again in 10 minutes"
            )
        if 300 <= status < 400:
            return VenueError(f"{self.host} redirects elsewhere (HTTP {status}), which is refused")
        return VenueError(f"{self.host} refused the request with HTTP {status}")

    def _meaning_of_code(self, error: VenueCode, response, symbol: str) -> Exception:
        if error.code in _RATE_LIMITED:
            return _RateLimited(str(error), _reset_wait(response, error.clock_ms))
        if error.code in _PASSING:
            return PassingFault(str(error))
        if error.code in _BANNED:
            return self._ban(f"refuses this address ({error})")
        if error.code in _REJECTED:
            spelling = spelling_of_bybit(symbol)
            hint = f"; is it {spelling!r}?" if spelling not in (None, symbol) else ""
            return VenueError(
                f"{symbol}: {self.host} does not know this symbol, category or interval "
                f"({error}){hint}"
            )
        return BadPage(f"unknown {error}")

    def _ban(self, text: str) -> VenueError:
        """Refuse this and every later request of the fetch."""
        self._banned = f"{self.host} {text}"
        return VenueError(self._banned)

    def _wait(self, fault: PassingFault, tries: int, download: Download) -> None:
        limits = self.limits
        wait = min(limits.first_wait_s * 2 ** min(tries - 1, 30), limits.longest_wait_s)
        if fault.wait_s is not None:
            wait = max(fault.wait_s, limits.first_wait_s)
        if wait > download.seconds_left():
            raise download.gave_up(f"{fault}, to be asked again too late")
        if isinstance(fault, _RateLimited):
            self._rate.hold(wait)  # the limit is the address's: all symbols wait
        elif self.stop.wait(wait):
            raise Stopped

    def _is_usable(self, page: Page, window: tuple[int, int] | None) -> bool:
        """Whether a page that stayed faulty holds a few bad candles and is sound otherwise."""
        few = self.limits.bad_rows
        small = window is not None and window[1] - window[0] < few
        return len(page.problems) <= few and (len(page.candles) > 0 or small)


def spelling_of_bybit(symbol: str) -> str | None:
    """Return how Bybit writes a pair that others write BTC/USDT:USDT or btcusdt; None: no pair."""
    pair = _PAIR.fullmatch(symbol)
    return f"{pair[1]}{pair[2]}".upper() if pair else None


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
    """Return the seconds of a Retry-After header, a number or a date; None for anything else."""
    try:
        return Retry().parse_retry_after(response.headers["Retry-After"])
    except (KeyError, InvalidHeader, ValueError, OverflowError):
        return None
