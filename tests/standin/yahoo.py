"""A server on loopback that answers Yahoo's chart questions, and a session that leads there.

The bars are a function of symbol and time. Sessions of New York are written out by hand for the
few days that tests use: winter, the change to daylight saving time, a half-day, a holiday.
"""

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import requests

from standin.loopback import Loopback, send_plain

UTC = dt.UTC
NEW_YORK = ZoneInfo("America/New_York")
HOLIDAYS = {dt.date(2023, 11, 23), dt.date(2023, 12, 25), dt.date(2024, 1, 1), dt.date(2024, 3, 29)}
HALF_DAYS = {dt.date(2023, 11, 24)}
# what Yahoo says of every symbol
CLOCK = {"timezone": "X", "gmtoffset": 0}
TIMES = {"firstTradeDate": 345_479_400, "regularMarketTime": 1_700_000_000, "range": ""}
META = {"currency": "USD", "priceHint": 2, "validRanges": ["1d", "5d", "1mo", "max"], **TIMES}


@dataclass(frozen=True)
class Listing:
    """Yahoo's metadata of a symbol."""

    kind: str = "EQUITY"
    exchange: str = "NMS"
    zone: str = "America/New_York"
    has_volume: bool = True


LISTINGS = {
    "AAPL": Listing(),
    "^GSPC": Listing("INDEX", "SNP"),
    "BTC-USD": Listing("CRYPTOCURRENCY", "CCC", "UTC"),
    "EURUSD=X": Listing("CURRENCY", "CCY", "Europe/London", has_volume=False),
}


def days_between(first: dt.date, last: dt.date) -> list[dt.date]:
    return [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]


def sessions(first: dt.date, last: dt.date) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return open and close of New York's sessions, both in exchange time."""
    found = []
    for day in days_between(first, last):
        if day.weekday() < 5 and day not in HOLIDAYS:
            clock = dt.time(9, 30), dt.time(13 if day in HALF_DAYS else 16)
            found.append(tuple(dt.datetime.combine(day, time, NEW_YORK) for time in clock))
    return found


def opens(symbol: str, interval: str, first: int, last: int) -> list[int]:
    """Return the epoch seconds by which Yahoo dates the bars in [first, last)."""
    listing = LISTINGS[symbol]
    step = {"1h": 3600, "60m": 3600, "15m": 900, "1d": 86400}[interval]
    zone = ZoneInfo(listing.zone)
    days = [dt.datetime.fromtimestamp(t, zone).date() for t in (first - 86400, last + 86400)]
    if listing.kind in ("EQUITY", "INDEX"):
        stamps = []
        for opened, closed in sessions(*days):
            at = int(opened.timestamp())
            stamps += [at] if interval == "1d" else range(at, int(closed.timestamp()), step)
    elif interval == "1d":
        midnights = (dt.datetime.combine(day, dt.time(0), zone) for day in days_between(*days))
        stamps = [int(midnight.timestamp()) for midnight in midnights]
    else:
        stamps = list(range(first - first % step, last + step, step))
    return [stamp for stamp in stamps if first <= stamp < last]


def values(symbol: str, stamp: int) -> list[float]:
    """Return open, high, low, close, volume of a bar."""
    seed = hash((len(symbol), stamp)) % 997
    opened, closed = 100 + seed % 37 / 4, 100 + seed % 41 / 4
    return [opened, max(opened, closed) + 0.5, min(opened, closed) - 0.5, closed, 1000.0 + seed]


class YahooStandIn(Loopback):
    """The server; ``act(query, chart)`` may change an answer or return (status, body) instead."""

    def __init__(self, act: Callable | None = None, adjust: float = 1.0):
        self.act, self.adjust = act, adjust
        self.asks: list[dict] = []

    def respond(self, handler) -> None:
        send_plain(handler, *self.answer(handler.path))

    def session(self) -> requests.Session:
        """Return a session all of whose requests end here, whatever host they name."""
        here = self.url

        class Session(requests.Session):
            def request(self, method, url, **options):
                parts = urlsplit(url)
                return super().request(method, here + parts.path, **options)

        return Session()

    def answer(self, path: str) -> tuple[int, bytes]:
        parts = urlsplit(path)
        if not parts.path.startswith("/v8/finance/chart/"):
            return 200, b"crumb"
        symbol = requests.utils.unquote(parts.path.rsplit("/", 1)[1])
        query = dict(parse_qsl(parts.query))
        self.asks.append({"symbol": symbol, **query})
        if symbol not in LISTINGS:
            return 404, _failure("Not Found", "No data found, symbol may be delisted")
        chart = self._chart(symbol, query)
        if self.act is not None and "period1" in query:
            instead = self.act(query, chart)
            if instead is not None:
                return instead
        return 200, json.dumps({"chart": {"result": [chart], "error": None}}).encode()

    def _chart(self, symbol: str, query: dict) -> dict:
        listing, interval = LISTINGS[symbol], query["interval"]
        first, last = (int(query.get(name, 1_700_000_000)) for name in ("period1", "period2"))
        stamps = opens(symbol, interval, first, last)
        rows = [values(symbol, stamp) for stamp in stamps]
        names = ("open", "high", "low", "close", "volume")
        quote = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        if not listing.has_volume:
            quote["volume"] = [0] * len(rows)
        zone = ZoneInfo(listing.zone)
        days = (dt.datetime.fromtimestamp(t, zone).date() for t in (first, last))
        spans = [(first - 86400, last + 86400)]
        if listing.kind in ("EQUITY", "INDEX"):
            spans = [(int(a.timestamp()), int(b.timestamp())) for a, b in sessions(*days)]
        kind = {"instrumentType": listing.kind, "dataGranularity": interval}
        place = {"exchangeName": listing.exchange, "exchangeTimezoneName": listing.zone}
        periods = [[CLOCK | {"start": start, "end": end}] for start, end in spans]
        meta = META | CLOCK | kind | place | {"symbol": symbol, "tradingPeriods": periods}
        indicators = {"quote": [quote]}
        if interval == "1d":
            indicators["adjclose"] = [{"adjclose": [c * self.adjust for c in quote["close"]]}]
        return {"meta": meta, "timestamp": stamps, "indicators": indicators}


def _failure(code: str, description: str) -> bytes:
    error = {"code": code, "description": description}
    return json.dumps({"chart": {"result": None, "error": error}}).encode()


def refusal(code: str, description: str, status: int = 422) -> tuple[int, bytes]:
    """Return an answer that refuses in Yahoo's way."""
    return status, _failure(code, description)
