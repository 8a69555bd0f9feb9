"""A server on loopback that implements Bybit's v5 candle protocol, faithfully or with one fault.

Its candles are a function of category, symbol, interval and open time, so that any test can say
what is true without asking the server. It shares no line with the package: the grid is computed
with ``datetime``, the candles are made of integers and written with two decimals, as texts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit

from standin.loopback import Loopback, send_plain

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
MINUTES = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")
DAYS = {"D": 1, "W": 7, "M": 32}  # enough of them to reach the next candle
DAY_MS = 86_400_000
INTERVALS = (*MINUTES, *DAYS)
CATEGORIES = ("spot", "linear", "inverse")


def to_ms(text: str) -> int:
    """Return an ISO time (UTC) in milliseconds."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def floor(interval: str, ms: int) -> int:
    """Return the open of the candle that holds ``ms``."""
    if interval not in DAYS:
        return ms - ms % (int(interval) * 60_000)
    moment = EPOCH + dt.timedelta(milliseconds=ms)
    days_in = {"D": 0, "W": moment.weekday(), "M": moment.day - 1}[interval]
    return ms - ms % DAY_MS - days_in * DAY_MS


def following(interval: str, open_ms: int) -> int:
    """Return the open of the next candle, which is the close of this one."""
    if interval in DAYS:
        return floor(interval, open_ms + DAYS[interval] * DAY_MS)
    return open_ms + int(interval) * 60_000


def opens(interval: str, first_ms: int, last_ms: int) -> list[int]:
    """Return every open in ``first_ms``..``last_ms``, both included."""
    at, found = floor(interval, first_ms), []
    while at <= last_ms:
        if at >= first_ms:
            found.append(at)
        at = following(interval, at)
    return found


@lru_cache(2**16)
def candle(category: str, symbol: str, interval: str, open_ms: int) -> tuple[str, ...]:
    """Return the one true row of a candle: start, open, high, low, close, volume, turnover."""
    name = f"{category}/{symbol}/{interval}/{open_ms}".encode()
    a, b, c, d, volume, turnover = struct.unpack("<4H2I", hashlib.md5(name).digest())
    middle = 500_000 + int(60_000 * math.sin(open_ms / 5e9)) + a % 500
    opened, closed = middle + b % 700, middle + c % 700
    high, low = max(opened, closed) + d % 90, min(opened, closed) - d % 77
    cents = [opened, high, low, closed, volume % 10_000_000, turnover]
    return (str(open_ms), *(f"{n // 100}.{n % 100:02d}" for n in cents))


@dataclass
class Ask:
    """One question that reached the server."""

    category: str
    symbol: str
    interval: str
    start: int | None
    end: int | None
    limit: int
    number: int


def send_whole(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    limits = {"X-Bapi-Limit": "600", "X-Bapi-Limit-Status": "599"}
    send_plain(handler, answer.status, answer.payload(), **limits | answer.headers)


@dataclass
class Answer:
    """The response that the server is about to send; a fault changes it."""

    envelope: dict = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    send: Callable[[BaseHTTPRequestHandler, Answer], None] = send_whole

    @property
    def rows(self) -> list:
        return self.envelope["result"]["list"]

    @rows.setter
    def rows(self, rows: list) -> None:
        self.envelope["result"]["list"] = rows

    def payload(self) -> bytes:
        return json.dumps(self.envelope).encode() if self.body is None else self.body


class BybitStandIn(Loopback):
    """The server; a context manager that listens while it is entered.

    Parameters
    ----------
    symbols : dict of str to (listed_ms, delisted_ms)
        What is traded, and when.
    now_ms : int
        The server's clock; it stands still unless a test moves it.
    act : callable, optional
        Changes each answer before it is sent, given this server, the Ask and the Answer.
    holes : set of int
        Opens of candles that do not exist.
    wide : {"newest", "oldest"}
        Which rows come when more than ``limit`` fit.
    before_listing : {"clip", "empty", "first"}
        What a window that starts before the listing gets: the rows it holds, nothing, or the first
        rows of all.
    """

    def __init__(self, symbols, now_ms, *, act: Callable | None = None):
        self.symbols, self.now_ms, self.act = symbols, now_ms, act
        self.holes: set[int] = set()
        self.victim_ms: int | None = None
        self.wide, self.before_listing = "newest", "clip"
        self.asks: list[Ask] = []
        self.paths: list[str] = []
        self.delay_s = 0.0
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def __exit__(self, *_) -> None:
        self.closing.set()
        super().__exit__()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Use TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.paths.append(parts.path)
        self.closing.wait(self.delay_s)
        if parts.path != "/v5/market/kline":
            answer = Answer({"retCode": 404, "retMsg": "no such path"}, status=404)
        else:
            answer = self.answer(dict(parse_qsl(parts.query)))
        answer.send(handler, answer)

    def truth(
        self, symbol, interval, first_ms, last_ms, category="linear"
    ) -> list[tuple[str, ...]]:
        """Return the rows that exist and have closed by now, oldest first."""
        listed, delisted = self.symbols[symbol]
        return [
            candle(category, symbol, interval, at)
            for at in opens(interval, max(first_ms, listed), min(last_ms, delisted - 1))
            if at not in self.holes and following(interval, at) <= self.now_ms
        ]

    def answer(self, query: dict[str, str]) -> Answer:
        """Return the faithful answer to a query, changed by the fault if there is one."""
        with self._lock:
            about = [query.get("category", "linear"), query.get("symbol"), query.get("interval")]
            span = [int(query[name]) if name in query else None for name in ("start", "end")]
            ask = Ask(*about, *span, int(query.get("limit", 200)), len(self.asks) + 1)
            self.asks.append(ask)
        answer = Answer(self._faithful(ask))
        if self.act is not None:
            self.act(self, ask, answer)
        return answer

    def _faithful(self, ask: Ask) -> dict:
        known = ask.category in CATEGORIES and ask.interval in INTERVALS
        about = {"retCode": 10001, "retMsg": "params error: Symbol Is Invalid", "result": {}}
        if known and ask.symbol in self.symbols and 1 <= ask.limit <= 1000:
            result = {"symbol": ask.symbol, "category": ask.category, "list": self._rows(ask)}
            about = {"retCode": 0, "retMsg": "OK", "result": result}
        return {**about, "retExtInfo": {}, "time": self.now_ms}

    def _rows(self, ask: Ask) -> list[tuple[str, ...]]:
        """Return the rows of a page, newest first, the open candle included."""
        listed, delisted = self.symbols[ask.symbol]
        step = following(ask.interval, floor(ask.interval, listed)) - floor(ask.interval, listed)
        margin = int(1.1 * step * (ask.limit + len(self.holes) + 2))
        newest = min(self.now_ms, delisted - 1)
        first, last = max(ask.start or 0, listed), newest if ask.end is None else ask.end
        from_first = self.wide == "oldest" and ask.start is not None
        if ask.start is not None and ask.start < listed:
            if self.before_listing == "empty":
                return []
            if self.before_listing == "first":
                from_first, last = True, newest
        if from_first:
            last = min(last, newest, first + margin)
        else:
            last = min(last, newest)
            first = max(first, last - margin)
        times = [at for at in opens(ask.interval, first, last) if at not in self.holes]
        times = times[: ask.limit] if from_first else times[-ask.limit :]
        return [candle(ask.category, ask.symbol, ask.interval, at) for at in reversed(times)]
