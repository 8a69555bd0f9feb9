"""Parse and validate one kline response: untrusted text to arrays of closed candles.

A row that no candle can be is never passed on; whether its page is asked for again is decided by
the caller.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np

from crossattn.sources._http import printable
from crossattn.sources._intervals import Interval, format_time

FIELDS = ("open", "high", "low", "close", "volume", "turnover")
_EARLIEST_CLOCK_MS, _LATEST_CLOCK_MS = 1_300_000_000_000, 7_258_118_400_000  # 2011 to 2200

_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_START = re.compile(r"[0-9]{1,15}")
_PRICE_FLOOR, _PRICE_CEILING, _SIZE_CEILING = 1e-12, 1e12, 1e24
_ABSURD_WICK, _ABSURD_LEAP = 1000.0, 20.0


class BadPage(Exception):
    """The body does not answer the request; asking again may help."""


class VenueCode(Exception):
    """The venue answered with a return code other than 0."""

    def __init__(self, code: int, message: str, clock_ms: int | None):
        super().__init__(message)
        self.code, self.message, self.clock_ms = code, message, clock_ms


@dataclass(frozen=True)
class Candles:
    """Candles of one symbol and interval: strictly increasing slots, and their values.

    ``slots`` (n,) int64: which candle of the interval's grid each row is; ``values`` (n, 6)
    float64: open, high, low, close, volume, turnover.
    """

    slots: np.ndarray
    values: np.ndarray

    @classmethod
    def none(cls) -> Candles:
        """Return no candles."""
        return cls(np.empty(0, np.int64), np.empty((0, len(FIELDS))))

    def __len__(self) -> int:
        return len(self.slots)

    def pick(self, flags: np.ndarray) -> Candles:
        """Return the candles whose flag is True."""
        return Candles(self.slots[flags], self.values[flags])

    def within(self, first: int, last: int) -> Candles:
        """Return the candles of slots ``first`` to ``last``, both included."""
        a, b = np.searchsorted(self.slots, [first, last + 1])
        return Candles(self.slots[a:b], self.values[a:b])

    def merge(self, newer: Candles) -> Candles:
        """Return both together; where both hold a slot, ``newer`` counts."""
        if not len(newer):
            return self
        slots = np.concatenate([self.slots, newer.slots])
        values = np.concatenate([self.values, newer.values])
        order = np.argsort(slots, kind="stable")
        slots, values = slots[order], values[order]
        last = np.append(slots[1:] != slots[:-1], True)[: len(slots)]
        return Candles(slots[last], values[last])


@dataclass(frozen=True)
class Page:
    """One answer: the venue's clock, its valid closed candles, a text for each impossible row."""

    clock_ms: int
    candles: Candles
    problems: tuple[str, ...]


def parse_page(
    body: bytes,
    symbol: str,
    category: str,
    interval: Interval,
    window: tuple[int, int] | None,
    neighbours: Candles | None = None,
) -> Page:
    """Parse one answer of ``/v5/market/kline``, or raise BadPage or VenueCode.

    Candles outside of ``window`` are left out: before its listing a symbol may answer with its
    first candles, whatever was asked. A candle is closed when it ends no later than the venue's own
    ``time``. ``neighbours`` are candles known already, against which a leap in price is judged.
    """
    envelope = _read_json(body)
    clock = envelope.get("time")
    believable = type(clock) is int and _EARLIEST_CLOCK_MS <= clock <= _LATEST_CLOCK_MS
    code = envelope.get("retCode")
    if type(code) is not int:
        raise BadPage("the answer carries no return code")
    if code != 0:
        message = printable(envelope.get("retMsg") or "no message")
        raise VenueCode(code, message, clock if believable else None)
    if not believable:
        raise BadPage("the answer carries no believable server time")
    result = envelope.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("list"), list):
        raise BadPage("the answer carries no list of candles")
    for name, asked in (("symbol", symbol), ("category", category)):
        if result.get(name, asked) != asked:
            raise BadPage(f"the answer is for {name} {printable(result[name], 40)}, not {asked}")
    candles, problems = _parse_rows(result["list"], interval, window)
    around = (neighbours or Candles.none()).merge(candles)
    absurd = np.isin(candles.slots, around.slots[_detached(around.values)])
    problems += [
        f"{format_time(interval.open_of(int(slot)))} is absurdly far from its neighbours"
        for slot in candles.slots[absurd]
    ]
    closed = candles.slots <= interval.closed_before(clock)
    return Page(clock, candles.pick(closed & ~absurd), tuple(problems))


def _read_json(body: bytes) -> dict:
    try:
        envelope = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise BadPage("the body is nested too deep") from None
    except ValueError:
        kind = "a web page" if body.lstrip()[:1] == b"<" else "not JSON" if body else "empty"
        raise BadPage(f"the body is {kind}") from None
    if not isinstance(envelope, dict):
        raise BadPage("the body is JSON, but not an answer")
    return envelope


def _refuse_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _parse_rows(
    rows: list, interval: Interval, window: tuple[int, int] | None
) -> tuple[Candles, list[str]]:
    faults_of_rows = [_malformed(row) for row in rows]
    problems = [fault for fault in faults_of_rows if fault]
    sound = [row for row, fault in zip(rows, faults_of_rows, strict=True) if not fault]
    if not sound:
        return Candles.none(), problems
    ms = np.array([int(row[0]) for row in sound], np.int64)
    # columns that the venue may add behind the ones it documents are ignored
    values = np.array([row[1 : 1 + len(FIELDS)] for row in sound]).astype(np.float64)  # (n, 6)
    slots = interval.slot_of(ms)
    if window is not None:
        inside = (slots >= window[0]) & (slots <= window[1])
        ms, slots, values = ms[inside], slots[inside], values[inside]
    order = np.argsort(ms, kind="stable")
    ms, slots, values = ms[order], slots[order], values[order]
    faults = _impossible(values)
    faults[interval.open_of(slots) != ms] = "off the interval's grid"
    repeated, differs = np.zeros((2, len(ms)), bool)
    repeated[1:] = ms[1:] == ms[:-1]
    differs[1:] = repeated[1:] & (values[1:] != values[:-1]).any(axis=1)
    faults[np.isin(ms, ms[differs])] = "given twice with different values"
    good = faults == ""
    problems += [
        f"{format_time(t)} is {fault}" for t, fault in zip(ms[~good], faults[~good], strict=True)
    ]
    good &= ~repeated
    return Candles(slots[good], values[good]), problems


def _malformed(row: object) -> str:
    """Return why ``row`` does not begin with seven plain numbers written as texts, or nothing."""
    if not isinstance(row, list):
        return "a row is not a list"
    if len(row) < 1 + len(FIELDS):
        return f"a row has {len(row)} columns"
    start = row[0]
    if not isinstance(start, str) or not _START.fullmatch(start):
        return f"a row starts with {printable(repr(start), 40)}"
    for name, text in zip(FIELDS, row[1:], strict=False):
        if not isinstance(text, str) or not _NUMBER.fullmatch(text):
            when = format_time(int(start)) if int(start) <= _LATEST_CLOCK_MS else f"candle {start}"
            return f"{when} has {printable(repr(text), 40)} as its {name}"
    return ""


def _impossible(values: np.ndarray) -> np.ndarray:
    """Return, for each row of open, high, low, close, volume, turnover, why it is no candle."""
    prices, sizes = values[:, :4], values[:, 4:]
    o, h, lo, c = prices.T
    top, bottom = np.maximum(o, c), np.minimum(o, c)
    reasons = {
        "of a zero or absurd price": ((prices < _PRICE_FLOOR) | (prices > _PRICE_CEILING)).any(1),
        "of an absurd high or low": (h > _ABSURD_WICK * top) | (lo * _ABSURD_WICK < bottom),
        "of a high below its low": h < lo,
        "outside of its own high and low": (lo > bottom) | (h < top),
        "of an absurd volume or turnover": (sizes > _SIZE_CEILING).any(axis=1),
    }
    return np.select(list(reasons.values()), list(reasons), "").astype("U48")


def _detached(values: np.ndarray) -> np.ndarray:
    """Return which candles lie a factor of 20 away from both neighbours (at an edge, from one).

    A candle opens about where the one before it closed. A level that shifts and stays agrees with
    one neighbour; only a lone spike, all of it, agrees with none.
    """
    if len(values) < 3:
        return np.zeros(len(values), bool)
    high, low = values[:, 1], values[:, 2]
    apart = (low[1:] > _ABSURD_LEAP * high[:-1]) | (high[1:] * _ABSURD_LEAP < low[:-1])
    lone = np.concatenate([[True], apart]) & np.concatenate([apart, [True]])
    # an edge has one neighbour, which must itself be sound
    lone[0] &= not apart[1]
    lone[-1] &= not apart[-2]
    return lone
