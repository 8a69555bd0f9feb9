"""Parse times of other sources: ISO 8601 and its relatives, epochs in any unit, local clocks."""

import re

import numpy as np
import pandas as pd

from crossattn.data._tables import RawTable
from crossattn.errors import InvalidInputError

UNITS = ("s", "ms", "us", "ns")

# Of the moments from 1990 to 2100 no two units share a number, so that an epoch tells its unit.
_FROM, _TO = 631_152_000, 4_102_444_800
_EPOCH = re.compile(r"-?\d{1,19}|\d{1,18}\.\d{1,9}", re.ASCII)
_COMPACT = re.compile(r"[12]\d{3}[01]\d[0-3]\d(?:\d{4}(?:\d\d)?)?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?", re.ASCII)
_ISO_ZONED = re.compile(_ISO.pattern + r"(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_OFFSET = re.compile(r"\s?(?:(Z|UTC|GMT)|(?:UTC|GMT)?([+-]\d{1,2})(?::?(\d\d))?)$", re.ASCII)
_FARTHEST = 15 * 60  # minutes from UTC
_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTHS = {name: str(number) for number, name in enumerate(_MONTH_NAMES.split(), 1)}
_OTHER = re.compile(
    r"(?:(?P<ymd>\d{4}[./-]\d{1,2}[./-]\d{1,2})|(?P<compact>\d{8})"
    r"|(?P<numbers>\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d\d))"
    r"|(?P<dby>\d{1,2}[ -][A-Z]{3,9}[ ,-]+(?:\d{4}|\d\d))|(?P<bdy>[A-Z]{3,9}\.? \d{1,2},? \d{4}))"
    r"(?:[ T,]*(?P<h>\d{1,2})(?::?(?P<m>\d\d)(?::?(?P<s>\d\d(?:\.\d{1,9})?))?)?"
    r"[ -]?(?P<ap>[AP]M)?)?",
    re.ASCII,
)
_STYLES = ("ymd", "compact", "numbers", "dby", "bdy")
_RULE = "ISO 8601 with a UTC offset, such as 2024-01-31T09:00:00Z"


def parse_times(
    table: RawTable,
    name: str,
    values: list[str] | np.ndarray | pd.DatetimeIndex,
    *,
    time_zone: str | None = None,
    date_format: str | None = None,
    unit: str | None = None,
) -> pd.DatetimeIndex:
    """Return a column of times in UTC, or refuse the first value that is none, by line.

    A date without a clock, in every row, is 00:00 UTC (or of ``time_zone``); a clock without a UTC
    offset needs ``time_zone``.
    """
    if isinstance(values, pd.DatetimeIndex):
        times = values
    elif isinstance(values, np.ndarray):
        times = _of_epochs(table, name, values, unit)
    else:
        texts = [text.strip().upper() for text in values]
        if date_format is not None:
            times = pd.to_datetime(pd.Series(texts), format=date_format, errors="coerce")
            times = _index(times, table, name, values, f"like date_format {date_format!r}")
        elif _EPOCH.fullmatch(texts[0]) and not _COMPACT.fullmatch(texts[0]):
            times = _of_epochs(table, name, values, unit)
        else:
            times = _of_texts(table, name, values, texts)
    if times.hasnans:
        table.refuse(int(times.isna().argmax()), name, "a time", "")
    return times if times.tz is not None else _localise(table, name, values, times, time_zone)


def _index(times: pd.Series, table, name, values, rule: str) -> pd.DatetimeIndex:
    table.refuse_first(times.isna(), name, rule, values)
    return pd.DatetimeIndex(times)


def _of_epochs(table: RawTable, name: str, values, unit: str | None) -> pd.DatetimeIndex:
    """Return moments counted since 1970; each row tells its own unit, so that files may mix them.

    Binance's files, for one, count milliseconds up to 2024 and microseconds from then on.
    """
    rule = f"an epoch like that of the first row, or in all rows {_RULE}"
    if not isinstance(values, np.ndarray):
        wrong = [not _EPOCH.fullmatch(text.strip()) for text in values]
        table.refuse_first(wrong, name, rule, values)
        integer = np.array([int(text.split(".")[0]) for text in values], dtype=object)
        rest = np.array([float(f"0.{text.strip().partition('.')[2]}") for text in values])
    else:
        table.refuse_first(~np.isfinite(values), name, "a time", values)
        integer = np.floor(values)
        rest = values - integer
    table.refuse_first(np.abs(integer) >= 2**63, name, rule, values)
    integer = integer.astype(np.int64)
    if unit is not None:
        units = np.full(len(integer), UNITS.index(unit))
    else:
        size = np.array([1, 10**3, 10**6, 10**9])[:, None]
        inside = (integer >= _FROM * size) & (integer < _TO * size)  # (units, rows)
        seen = np.flatnonzero(inside.any(axis=1))
        units = inside.argmax(axis=0)
        unclear = ~inside.any(axis=0)
        if len(seen) == 1:  # one unit: earlier moments count in it too
            units[:] = seen[0]
            unclear = (np.abs(integer) >= _TO * size[seen[0]]) | (integer == 0)
        rule = "an epoch of 1990 to 2100, or be read with unit='s', 'ms', 'us' or 'ns'"
        table.refuse_first(unclear, name, rule, values)
    factor = np.array([1_000_000, 1000, 1, 1])[units]
    late = (np.abs(integer) > 2**63 // 1000 // factor) & (units < 3)
    table.refuse_first(late, name, "an epoch of its unit, before the year 2262", values)
    ticks = np.where(
        units == 3, integer // 1000, integer * factor + np.round(rest * factor).astype(int)
    )
    return pd.DatetimeIndex(ticks.astype(np.int64).view("M8[us]")).tz_localize("UTC")


def _of_texts(table: RawTable, name: str, values, texts: list[str]) -> pd.DatetimeIndex:
    """Return times written out: in UTC where every row has an offset, naive where none has."""
    if all(map(_ISO_ZONED.fullmatch, texts)):
        times = pd.to_datetime(pd.Series(texts), format="ISO8601", utc=True, errors="coerce")
        return _index(times, table, name, values, _RULE)
    cut, offsets = [], []
    for text in texts:
        zone = _OFFSET.search(text) if ":" in text or text[-1:] in "ZCT" else None
        cut.append(text[: zone.start()] if zone else text)
        offsets.append(_minutes(zone) if zone else None)
    zoned = np.array([offset is not None for offset in offsets])
    far = [offset is not None and abs(offset) > _FARTHEST for offset in offsets]
    table.refuse_first(far, name, _RULE, values)
    if zoned.any():
        table.refuse_first(~zoned, name, f"{_RULE}, in every row or none", values)
    if not all(map(_ISO.fullmatch, cut)):
        cut = _rewritten(table, name, values, cut)
    times = pd.to_datetime(pd.Series(cut), format="ISO8601", errors="coerce")
    times = _index(times, table, name, values, _RULE)
    if zoned.all():
        times = (times - pd.to_timedelta(offsets, unit="min")).tz_localize("UTC")
    return times


def _minutes(zone: re.Match) -> int:
    if zone[1]:
        return 0
    hours = int(zone[2])
    return hours * 60 + int(zone[3] or 0) * (-1 if zone[2][0] == "-" else 1)


def _rewritten(table: RawTable, name: str, values, texts: list[str]) -> list[str]:
    """Return dates and clocks of other habits as ISO 8601 texts, all of the first row's habit."""
    parts = [found and found.groupdict() for found in map(_OTHER.fullmatch, texts)]
    style = next((style for style in _STYLES if parts[0] and parts[0][style]), None)
    wrong = [style is None or not part or not part[style] for part in parts]
    table.refuse_first(wrong, name, f"{_RULE}, or be read with date_format=", values)
    if style == "compact":
        dates = [f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in (part[style] for part in parts)]
    else:
        dates = _join_dates(table, name, values, [re.split("[ ./,-]+", p[style]) for p in parts])
    return [date + _clock(part) for date, part in zip(dates, parts, strict=True)]


def _join_dates(table: RawTable, name: str, values, dates: list[list[str]]) -> list[str]:
    """Return dates in three parts as ISO 8601, in the only order that fits all of them."""
    if dates[0][1].isalpha() or dates[0][0].isalpha():
        order = "mdy" if dates[0][0].isalpha() else "dmy"
        dates = [[_MONTHS.get(part[:3].lower(), part) for part in date] for date in dates]
    elif len(dates[0][0]) == 4:
        order = "ymd"
    else:
        order = _order_of(table, name, values, dates)
    year, month, day = (order.index(part) for part in "ymd")
    return [f"{_year(date[year])}-{date[month]:0>2}-{date[day]:0>2}" for date in dates]


def _order_of(table: RawTable, name: str, values, dates: list[list[str]]) -> str:
    """Return the only order of day, month and year that fits all dates, or refuse."""
    parts = np.array(dates, int)  # (rows, 3)
    orders = ["dmy", "mdy"] if any(len(date[2]) == 4 for date in dates) else ["dmy", "mdy", "ymd"]
    limits = {"d": 31, "m": 12, "y": 9999}
    fitting = {
        order: parts[:, [order.index(part) for part in "ymd"]]
        for order in orders
        if (parts <= [limits[part] for part in order]).all()
    }
    if len({read.tobytes() for read in fitting.values()}) != 1:
        rule = "a date whose day and month cannot be exchanged, or be read with date_format="
        table.refuse(0, name, f"{rule}'%d/%m/%Y' or the like", values[0])
    return next(iter(fitting))


def _year(year: str) -> str:
    return year if len(year) == 4 else f"{20 if int(year) < 70 else 19}{year}"


def _clock(part: dict) -> str:
    if part["h"] is None:
        return ""
    hour = int(part["h"])
    if part["ap"]:
        hour = hour % 12 + 12 * (part["ap"] == "PM") if 1 <= hour <= 12 else 99
    return f"T{hour:02}:{part['m'] or '00'}:{part['s'] or '00'}"


def _localise(table: RawTable, name: str, values, times, time_zone: str | None):
    """Return naive times as UTC: dates alone need no clock, all else needs ``time_zone``."""
    if time_zone is None:
        rule = f"{_RULE}, or be read with time_zone= (--time-zone), 'UTC' or whose clock it is"
        table.refuse_first(times != times.normalize(), name, rule, values)
        return times.tz_localize("UTC")
    step = -1 if times[0] > times[-1] else 1  # a repeated hour is told by the order of its bars
    try:
        local = times[::step].tz_localize(time_zone, ambiguous="infer", nonexistent="raise")
    except ValueError as error:
        raise InvalidInputError(
            f"{table.path}: {name} is no unique clock of {time_zone}: {error}; write times with "
            "a UTC offset"
        ) from None
    return local[::step].tz_convert("UTC")
