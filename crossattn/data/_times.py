"""Parse times of other sources: ISO 8601 and its relatives, epochs in any unit, local clocks."""

import re
from collections.abc import Callable

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

Refuse = Callable[..., None]  # of flags and a rule: raise for the first flagged value, by line


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

    def refuse(wrong, rule: str) -> None:
        table.refuse_first(wrong, name, rule, values)

    if isinstance(values, pd.DatetimeIndex):
        times = values
    elif isinstance(values, np.ndarray):
        times = _of_epochs(refuse, values, unit)
    else:
        texts = [text.strip().upper() for text in values]
        if date_format is not None:
            times = pd.to_datetime(pd.Series(texts), format=date_format, errors="coerce")
            times = _index(times, refuse, f"like date_format {date_format!r}")
        elif _EPOCH.fullmatch(texts[0]) and not _COMPACT.fullmatch(texts[0]):
            times = _of_epochs(refuse, values, unit)
        else:
            times = _of_texts(refuse, texts)
    if times.hasnans:
        table.refuse(int(times.isna().argmax()), name, "a time", "")
    if times.tz is not None:
        return times
    if time_zone is None:
        rule = f"{_RULE}, or be read with time_zone= (--time-zone), 'UTC' or whose clock it is"
        refuse(times != times.normalize(), rule)  # dates alone need no clock
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


def _index(times: pd.Series, refuse: Refuse, rule: str) -> pd.DatetimeIndex:
    refuse(times.isna(), rule)
    return pd.DatetimeIndex(times)


def _of_epochs(refuse: Refuse, values, unit: str | None) -> pd.DatetimeIndex:
    """Return moments counted since 1970; each row tells its own unit, so that files may mix them.

    Binance's files, for one, count milliseconds up to 2024 and microseconds from then on.
    """
    rule = f"an epoch like that of the first row, or in all rows {_RULE}"
    if not isinstance(values, np.ndarray):
        wrong = [not _EPOCH.fullmatch(text.strip()) for text in values]
        refuse(wrong, rule)
        integer = np.array([int(text.split(".")[0]) for text in values], dtype=object)
        rest = np.array([float(f"0.{text.strip().partition('.')[2]}") for text in values])
    else:
        refuse(~np.isfinite(values), "a time")
        integer = np.floor(values)
        rest = values - integer
    refuse(np.abs(integer) >= 2**63, rule)
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
        refuse(unclear, "an epoch of 1990 to 2100, or be read with unit='s', 'ms', 'us' or 'ns'")
    factor = np.array([1_000_000, 1000, 1, 1])[units]
    late = (np.abs(integer) > 2**63 // 1000 // factor) & (units < 3)
    refuse(late, "an epoch of its unit, before the year 2262")
    ticks = np.where(
        units == 3, integer // 1000, integer * factor + np.round(rest * factor).astype(int)
    )
    return pd.DatetimeIndex(ticks.astype(np.int64).view("M8[us]")).tz_localize("UTC")


def _of_texts(refuse: Refuse, texts: list[str]) -> pd.DatetimeIndex:
    """Return times written out: in UTC where every row has an offset, naive where none has."""
    if all(map(_ISO_ZONED.fullmatch, texts)):
        times = pd.to_datetime(pd.Series(texts), format="ISO8601", utc=True, errors="coerce")
        return _index(times, refuse, _RULE)
    cut, offsets = [], []
    for text in texts:
        zone = _OFFSET.search(text) if ":" in text or text[-1:] in "ZCT" else None
        cut.append(text[: zone.start()] if zone else text)
        offsets.append(_minutes(zone) if zone else None)
    zoned = np.array([offset is not None for offset in offsets])
    far = [offset is not None and abs(offset) > _FARTHEST for offset in offsets]
    refuse(far, _RULE)
    if zoned.any():
        refuse(~zoned, f"{_RULE}, in every row or none")
    if not all(map(_ISO.fullmatch, cut)):
        cut = _rewritten(refuse, cut)
    times = pd.to_datetime(pd.Series(cut), format="ISO8601", errors="coerce")
    times = _index(times, refuse, _RULE)
    if zoned.all():
        times = (times - pd.to_timedelta(offsets, unit="min")).tz_localize("UTC")
    return times


def _minutes(zone: re.Match) -> int:
    if zone[1]:
        return 0
    hours = int(zone[2])
    return hours * 60 + int(zone[3] or 0) * (-1 if zone[2][0] == "-" else 1)


def _rewritten(refuse: Refuse, texts: list[str]) -> list[str]:
    """Return dates and clocks of other habits as ISO 8601 texts, all of the first row's habit."""
    parts = [found and found.groupdict() for found in map(_OTHER.fullmatch, texts)]
    style = next((style for style in _STYLES if parts[0] and parts[0][style]), None)
    wrong = [style is None or not part or not part[style] for part in parts]
    refuse(wrong, f"{_RULE}, or be read with date_format=")
    if style == "compact":
        dates = [f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in (part[style] for part in parts)]
    else:
        dates = _join_dates(refuse, [re.split("[ ./,-]+", part[style]) for part in parts])
    return [date + _clock(part) for date, part in zip(dates, parts, strict=True)]


def _join_dates(refuse: Refuse, dates: list[list[str]]) -> list[str]:
    """Return dates in three parts as ISO 8601, in the only order that fits all of them."""
    if dates[0][1].isalpha() or dates[0][0].isalpha():
        order = "mdy" if dates[0][0].isalpha() else "dmy"
        dates = [[_MONTHS.get(part[:3].lower(), part) for part in date] for date in dates]
    elif len(dates[0][0]) == 4:
        order = "ymd"
    else:
        order = _order_of(refuse, dates)
    year, month, day = (order.index(part) for part in "ymd")
    return [f"{_year(date[year])}-{date[month]:0>2}-{date[day]:0>2}" for date in dates]


def _order_of(refuse: Refuse, dates: list[list[str]]) -> str:
    """Return the only order of day, month and year that fits all dates, or refuse."""
    parts = np.array(dates, int)  # (rows, 3)
    orders = ["dmy", "mdy"] if any(len(date[2]) == 4 for date in dates) else ["dmy", "mdy", "ymd"]
    limits = {"d": 31, "m": 12, "y": 9999}
    fitting = {
        order: parts[:, [order.index(part) for part in "ymd"]]
        for order in orders
        if (parts <= [limits[part] for part in order]).all()
    }
    is_open = len({read.tobytes() for read in fitting.values()}) != 1
    rule = "a date whose day and month cannot be exchanged, or be read with date_format="
    refuse([is_open], f"{rule}'%d/%m/%Y' or the like")
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
