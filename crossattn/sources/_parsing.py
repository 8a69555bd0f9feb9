"""Parse and validate one kline response: untrusted text to a table of closed candles.

Candles are a DataFrame indexed by slot (int64, increasing), columns `FIELDS` (float64). A row that
no candle can be is never passed on; the caller decides whether its page is requested again.
"""

import json
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn.sources._cache import merge_rows
from crossattn.sources._http import PassingFault, printable
from crossattn.sources._intervals import Interval, format_time

FIELDS = ["open", "high", "low", "close", "volume", "turnover"]
NO_CANDLES = pd.DataFrame(np.empty((0, 6)), index=np.empty(0, np.int64), columns=FIELDS)
_EARLIEST_CLOCK_MS, _LATEST_CLOCK_MS = 1_300_000_000_000, 7_258_118_400_000  # 2011 to 2200

_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_START = re.compile(r"[0-9]{1,15}")
_PRICE_FLOOR, _PRICE_CEILING, _SIZE_CEILING = 1e-12, 1e12, 1e24
_ABSURD_WICK, _ABSURD_LEAP = 1000.0, 20.0


class BadPage(PassingFault):
    """A body that does not answer the request, or holds impossible candles."""

    weight = 2  # less likely to pass than a fault of the transfer


class VenueCode(Exception):
    """The venue answered with a return code other than 0."""

    def __init__(self, code: int, message: str, clock_ms: int | None):
        super().__init__(f"retCode {code}: {message}")
        self.code, self.clock_ms = code, clock_ms


@dataclass(frozen=True)
class Page:
    """One answer: the venue's clock, its valid closed candles, a text for each impossible row."""

    clock_ms: int
    candles: pd.DataFrame
    problems: list[str]


def parse_page(
    body: bytes,
    symbol: str,
    category: str,
    interval: Interval,
    window: tuple[int, int] | None,
    neighbours: pd.DataFrame,
) -> Page:
    """Parse one answer of ``/v5/market/kline``, or raise BadPage or VenueCode.

    Candles outside of ``window`` are left out: before its listing a symbol may answer with its
    first candles, whatever was asked. A candle is closed when it ends no later than the venue's own
    ``time``. ``neighbours`` are candles known already, with which a jump in price is compared.
    """
    envelope = _read_json(body)
    clock, code = envelope.get("time"), envelope.get("retCode")
    if type(clock) is not int or not _EARLIEST_CLOCK_MS <= clock <= _LATEST_CLOCK_MS:
        clock = None
    if type(code) is not int:
        raise BadPage("the answer carries no return code")
    if code != 0:
        raise VenueCode(code, printable(envelope.get("retMsg") or "no message"), clock)
    if clock is None:
        raise BadPage("the answer carries no believable server time")
    result = envelope.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("list"), list):
        raise BadPage("the answer carries no list of candles")
    for name, asked in (("symbol", symbol), ("category", category)):
        if result.get(name, asked) != asked:
            raise BadPage(f"the answer is for {name} {printable(result[name], 40)}, not {asked}")
    candles, problems = _parse_rows(result["list"], interval, window)
    around = merge_rows(neighbours, candles)
    absurd = candles.index.isin(around.index[_detached(around)])
    problems += [
        f"{format_time(interval.open_of(slot))} is absurdly far from its neighbours"
        for slot in candles.index[absurd]
    ]
    closed = candles.index <= interval.closed_before(clock)
    return Page(clock, candles[closed & ~absurd], problems)


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
) -> tuple[pd.DataFrame, list[str]]:
    numeric, problems = [], []
    for row in rows:
        if _is_numeric(row):
            numeric.append(row[:7])  # columns that the venue may add behind these are ignored
        else:
            text = printable(row, 120)
            problems.append(f"a row does not begin with seven numbers as texts: {text}")
    if not numeric:
        return NO_CANDLES, problems
    table = np.array(numeric).astype(np.float64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    table = table[np.append(True, (table[1:] != table[:-1]).any(axis=1))]  # no row twice
    ms, values = table[:, 0].astype(np.int64), table[:, 1:]
    slots = interval.slot_of(ms)
    if window is not None:
        inside = (slots >= window[0]) & (slots <= window[1])
        ms, slots, values = ms[inside], slots[inside], values[inside]
    prices, sizes = values[:, :4], values[:, 4:]
    o, h, lo, c = prices.T
    top, bottom = np.maximum(o, c), np.minimum(o, c)
    impossible = {
        "given twice with different values": pd.Index(ms).duplicated(keep=False),
        "off the interval's grid": interval.open_of(slots) != ms,
        "of a zero or absurd price": ((prices < _PRICE_FLOOR) | (prices > _PRICE_CEILING)).any(1),
        "of an absurd high or low": (h > _ABSURD_WICK * top) | (lo * _ABSURD_WICK < bottom),
        "of a high below its low": h < lo,
        "outside of its own high and low": (lo > bottom) | (h < top),
        "of an absurd volume or turnover": (sizes > _SIZE_CEILING).any(1),
    }
    faults = np.select(list(impossible.values()), list(impossible), "")
    wrong = faults != ""
    problems += [f"{format_time(ms[i])} is {faults[i]}" for i in np.flatnonzero(wrong)]
    return pd.DataFrame(values[~wrong], index=slots[~wrong], columns=FIELDS), problems


def _is_numeric(row: object) -> bool:
    """Whether a row begins with seven plain numbers written as texts."""
    if not isinstance(row, list) or len(row) < 7 or not all(type(c) is str for c in row[:7]):
        return False
    return bool(_START.fullmatch(row[0])) and all(_NUMBER.fullmatch(cell) for cell in row[1:7])


def _detached(candles: pd.DataFrame) -> np.ndarray:
    """Return which candles lie a factor of 20 away from both neighbours (at an edge, from one).

    A candle opens about where the one before it closed. A level that shifts and stays agrees with
    one neighbour; only a lone spike, all of it, agrees with none.
    """
    if len(candles) < 3:
        return np.zeros(len(candles), bool)
    high, low = candles["high"].to_numpy(), candles["low"].to_numpy()
    apart = (low[1:] > _ABSURD_LEAP * high[:-1]) | (high[1:] * _ABSURD_LEAP < low[:-1])
    lone = np.concatenate([[True], apart]) & np.concatenate([apart, [True]])
    # an edge has one neighbour, which must itself be sound
    lone[0] &= not apart[1]
    lone[-1] &= not apart[-2]
    return lone
