"""Candles as arrays, and the one door through which a venue's answer becomes candles.

Every field is a stranger's text until it has been read here. A row that no candle can be is never
passed on; whether the page is asked for again is decided by the caller.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np

from crossattn.sources.http import printable
from crossattn.sources.intervals import Interval, format_time

FIELDS = ("open", "high", "low", "close", "volume", "turnover")
EARLIEST_CLOCK_MS = 1_300_000_000_000  # 2011
LATEST_CLOCK_MS = 7_258_118_400_000  # 2200

_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_START = re.compile(r"[0-9]{1,15}")
_PRICE_FLOOR, _PRICE_CEILING, _SIZE_CEILING = 1e-12, 1e12, 1e24
_ABSURD_WICK, _ABSURD_LEAP = 1000.0, 20.0


class BadPage(Exception):
    """The body is no answer to the question; asking again may help."""


class VenueCode(Exception):
    """The venue answered with a return code other than 0."""

    def __init__(self, code: int, message: str, clock_ms: int | None):
        super().__init__(message)
        self.code, self.message, self.clock_ms = code, message, clock_ms


@dataclass(frozen=True)
class Candles:
    """Candles of one symbol and interval: strictly increasing slots and their values.

    Parameters
    ----------
    slots : ndarray of shape (n,), int64
        Which candle of the interval's grid each row is.
    values : ndarray of shape (n, 6), float64
        ``open high low close volume turnover``.
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
    """One answer: the venue's clock, its closed candles in the window, and what was wrong.

    Parameters
    ----------
    clock_ms : int
        The venue's time of the answer.
    candles : Candles
        Valid, closed, within the window.
    problems : tuple of str
        One text for each row that cannot be a candle.
    """

    clock_ms: int
    candles: Candles
    problems: tuple[str, ...]


def missing_ranges(slots: np.ndarray, first: int, last: int) -> list[tuple[int, int]]:
    """Return the ranges of ``first``..``last`` that ``slots`` (increasing) lacks, oldest first.

    Examples
    --------
    >>> missing_ranges(np.array([3, 4, 7]), 2, 9)
    [(2, 2), (5, 6), (8, 9)]
    """
    inside = slots[np.searchsorted(slots, first) : np.searchsorted(slots, last, "right")]
    edges = np.concatenate([[first - 1], inside, [last + 1]])
    holes = np.flatnonzero(np.diff(edges) > 1)
    return [(int(edges[i]) + 1, int(edges[i + 1]) - 1) for i in holes]


def parse_page(
    body: bytes,
    *,
    symbol: str,
    category: str,
    interval: Interval,
    window: tuple[int, int] | None,
    neighbours: Candles | None = None,
) -> Page:
    """Read one answer of ``/v5/market/kline``.

    Parameters
    ----------
    body : bytes
        The unpacked body.
    symbol, category : str
        What was asked for; an envelope that names another is refused.
    interval : Interval
        The grid that candles must lie on.
    window : (int, int) or None
        First and last slot asked for. Candles outside of it are left out: before its listing a
        symbol may answer with its first candles, whatever was asked.
    neighbours : Candles, optional
        Candles known already around the window, against which a leap in price is judged.

    Returns
    -------
    Page
        A candle is closed when its end is not later than the venue's own ``time``.

    Raises
    ------
    BadPage
        Not JSON, not the envelope, another symbol or category, no believable clock.
    VenueCode
        A return code other than 0.
    """
    envelope = _read_json(body)
    clock = envelope.get("time")
    believable = type(clock) is int and EARLIEST_CLOCK_MS <= clock <= LATEST_CLOCK_MS
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
    candles, problems = _read_rows(result["list"], interval, window)
    absurd = _leaps(candles, neighbours or Candles.none())
    problems += [
        f"{format_time(interval.open_of(int(slot)))} is absurdly far from its neighbours"
        for slot in candles.slots[absurd]
    ]
    candles = candles.pick(~absurd)
    closed = candles.slots <= interval.closed_before(clock)
    return Page(clock, candles.pick(closed), tuple(problems))


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


def _read_rows(
    rows: list, interval: Interval, window: tuple[int, int] | None
) -> tuple[Candles, list[str]]:
    problems: list[str] = []
    opens: list[int] = []
    texts: list[list[str]] = []
    for row in rows:
        problem = _malformed(row)
        if problem:
            problems.append(problem)
        else:
            opens.append(int(row[0]))
            texts.append(row[1:])
    if not opens:
        return Candles.none(), problems
    ms = np.array(opens, np.int64)
    values = np.array(texts).astype(np.float64)  # (n, 6)
    slots = interval.slot_of(ms)
    if window is not None:
        inside = (slots >= window[0]) & (slots <= window[1])
        ms, slots, values = ms[inside], slots[inside], values[inside]
    order = np.argsort(ms, kind="stable")
    ms, slots, values = ms[order], slots[order], values[order]
    faults = _impossible(values)
    faults[interval.open_of(slots) != ms] = "off the interval's grid"
    repeated, contradicted = _duplicates(ms, values)
    faults[contradicted] = "given twice with different values"
    good = faults == ""
    problems += [
        f"{format_time(t)} is {fault}" for t, fault in zip(ms[~good], faults[~good], strict=True)
    ]
    good &= ~repeated
    return Candles(slots[good], values[good]), problems


def _malformed(row: object) -> str:
    """Return why ``row`` is not seven plain numbers written as texts, or nothing."""
    if not isinstance(row, list):
        return "a row is not a list"
    if len(row) != 1 + len(FIELDS):
        return f"a row has {len(row)} columns"
    if not isinstance(row[0], str) or not _START.fullmatch(row[0]):
        return f"a row starts with {printable(repr(row[0]), 40)}"
    for name, text in zip(FIELDS, row[1:], strict=True):
        if not isinstance(text, str) or not _NUMBER.fullmatch(text):
            shown = printable(repr(text), 40)
            return f"{_format_start(row[0])} has {shown} as its {name}"
    return ""


def _format_start(text: str) -> str:
    return format_time(int(text)) if int(text) <= LATEST_CLOCK_MS else f"candle {text}"


def _impossible(values: np.ndarray) -> np.ndarray:
    """Return, for each row of open, high, low, close, volume, turnover, why it is no candle."""
    prices, sizes = values[:, :4], values[:, 4:]
    o, h, lo, c = prices.T
    faults = np.full(len(values), "", dtype="U48")
    faults[(sizes > _SIZE_CEILING).any(axis=1)] = "of an absurd volume or turnover"
    faults[(lo > np.minimum(o, c)) | (h < np.maximum(o, c))] = "outside of its own high and low"
    faults[h < lo] = "of a high below its low"
    faults[(h > _ABSURD_WICK * np.maximum(o, c)) | (lo * _ABSURD_WICK < np.minimum(o, c))] = (
        "of an absurd high or low"
    )
    faults[((prices < _PRICE_FLOOR) | (prices > _PRICE_CEILING)).any(axis=1)] = (
        "of a zero or absurd price"
    )
    return faults


def _duplicates(ms: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows repeat the row before, and which belong to a slot told in two ways."""
    repeated = np.zeros(len(ms), bool)
    repeated[1:] = ms[1:] == ms[:-1]
    differs = np.zeros(len(ms), bool)
    differs[1:] = repeated[1:] & (values[1:] != values[:-1]).any(axis=1)
    return repeated, np.isin(ms, ms[differs])


def _leaps(candles: Candles, neighbours: Candles) -> np.ndarray:
    """Return which candles are detached from those around them, the known ones included."""
    around = neighbours.merge(candles)
    return np.isin(candles.slots, around.slots[_detached(around.values)])


def _detached(values: np.ndarray) -> np.ndarray:
    """Return which candles lie a factor of 20 away from both neighbours (at an edge, from one).

    A candle opens about where the one before it closed. A level that shifts and stays agrees with
    one neighbour; only a lone spike, all of it, agrees with none.
    """
    n = len(values)
    if n < 3:
        return np.zeros(n, bool)
    high, low = values[:, 1], values[:, 2]
    apart = (low[1:] > _ABSURD_LEAP * high[:-1]) | (high[1:] * _ABSURD_LEAP < low[:-1])
    before = np.concatenate([[True], apart])
    after = np.concatenate([apart, [True]])
    lone = before & after
    # an edge has one neighbour, which must itself be sound
    lone[0] &= not apart[1]
    lone[-1] &= not apart[-2]
    return lone
