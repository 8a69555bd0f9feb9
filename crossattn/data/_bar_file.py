"""Read one file of bars: our own format fast, any other where it can be read in one way only."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from crossattn._validation import check_choice, check_time_zone
from crossattn.data._columns import FIELDS, find_decimal, name_columns, parse_numbers
from crossattn.data._tables import RawTable, read_content, read_table
from crossattn.data._times import UNITS, parse_times
from crossattn.data.frame import FRAME_COLUMNS, PRICE_COLUMNS, Frame, check_frame
from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class ReadOptions:
    """How to read files of bars that leave something open."""

    columns: Sequence[str] | Mapping[str, str | None] | None = None
    time_zone: str | None = None
    date_format: str | None = None
    unit: str | None = None
    decimal: str | None = None

    def __post_init__(self):
        if self.unit is not None:
            check_choice("unit", self.unit, UNITS)
        if self.decimal is not None:
            check_choice("decimal", self.decimal, (".", ","))
        if self.date_format is not None and not isinstance(self.date_format, str):
            raise InvalidInputError(f"date_format must be a text, got {self.date_format!r}")
        if self.time_zone is not None:
            check_time_zone("time_zone", self.time_zone)
        columns = () if self.columns is None else self.columns
        if isinstance(columns, Mapping):
            known = set(columns) <= {*FIELDS, "close_time", "turnover"}
            named = [v for k, v in columns.items() if (k, v) != ("volume", None)]
        else:
            known = np.iterable(columns) and not isinstance(columns, str)
            named = list(columns) if known else []
        if not known or not all(isinstance(name, str) for name in named):
            raise InvalidInputError(
                f"columns must be all names in order or {{ours: theirs}}, got {self.columns!r}"
            )


def read_frame(path: Path, reading: ReadOptions) -> Frame:
    """Return the checked bars of one file."""
    content = read_content(path)
    frame = _read_own_format(content) if reading == ReadOptions() else None
    if frame is None:
        frame = _read_any_format(read_table(path, content), reading)
    frame = check_frame(frame, str(path))
    flat = all((frame[name] == frame["close"]).all() for name in PRICE_COLUMNS)
    if flat and frame["volume"].isna().all():
        frame.attrs["close_only"] = True
    return frame


def read_end(path: Path, since: pd.Timestamp) -> pd.DataFrame | None:
    """Return the end of a file in our own format, back to a moment; None for any other file."""
    size = 2**14
    with path.open("rb") as file:
        header = file.readline()
        first, stop = file.tell(), file.seek(0, os.SEEK_END)
        while True:
            begin = max(first, stop - size)
            file.seek(begin)
            content = file.read()
            if begin > first:  # within a line
                content = content[content.find(b"\n") + 1 :]
            frame = _read_own_format(header + content)
            if frame is None or begin == first or frame.index[0] <= since:
                return frame
            size *= 4


def _read_own_format(content: bytes) -> pd.DataFrame | None:
    """Read what :func:`.write_bars` writes, fast; None for anything else, and for any fault."""
    import pyarrow as pa
    from pyarrow import csv

    names = content[: content.find(b"\n")].decode("ascii", "replace").split(",")
    spare = {"close_time", "turnover"}.intersection(names)
    if sorted(names) != sorted([*FIELDS, *spare]) or not content.endswith(b"\n"):
        return None
    types = {name: pa.timestamp("us", "UTC") if "time" in name else pa.float64() for name in names}
    try:
        empty = {"null_values": [""], "strings_can_be_null": True}
        converted = csv.ConvertOptions(column_types=types, **empty)
        single = csv.ReadOptions(use_threads=False)
        table = csv.read_csv(io.BytesIO(content), single, convert_options=converted)
    except (pa.ArrowException, ValueError):
        return None
    columns = {}
    for name in names:
        column = table[name]
        values = column.to_numpy()
        if "time" in name:
            missing = column.null_count
            columns[name] = pd.DatetimeIndex(values).tz_localize("UTC")
        else:
            # texts such as "nan" are no empty cells, and a price must be there
            missing = np.count_nonzero(~np.isfinite(values)) - column.null_count
            missing += 0 if name in ("volume", "turnover") else column.null_count
            columns[name] = values
        if missing or not len(values):
            return None
    times = columns.pop("time").rename("time")
    return pd.DataFrame(columns).set_axis(times)


def _read_any_format(table: RawTable, reading: ReadOptions) -> pd.DataFrame:
    """Return the bars of any export that can be read in one way only."""
    found, in_utc = name_columns(table, reading.columns)
    decimal = find_decimal(table, [found[name] for name in PRICE_COLUMNS], reading.decimal)
    numbers = {
        name: parse_numbers(table, name, found[name], decimal)
        for name in (*FRAME_COLUMNS, "turnover")
        if name in found
    }
    missing = np.array([np.isnan(numbers[name]) for name in PRICE_COLUMNS])
    if (partial := missing.any(axis=0) & ~missing.all(axis=0)).any():
        row = int(partial.argmax())
        name = PRICE_COLUMNS[int(missing[:, row].argmax())]
        table.refuse(row, name, "a number where other prices of the bar are", found[name][row])
    zone = reading.time_zone or ("UTC" if in_utc else None)
    clock = {"time_zone": zone, "date_format": reading.date_format, "unit": reading.unit}
    times = {
        name: parse_times(table, name, found[name], **clock)
        for name in ("time", "close_time")
        if name in found
    }
    frame = pd.DataFrame(numbers).set_axis(times["time"].rename("time"))
    if "close_time" in times:
        frame["close_time"] = _end_of(times["close_time"], found["close_time"])
    frame = frame[~missing.all(axis=0)]
    own_names = set(FIELDS) <= set(table.names)
    if not own_names and frame.index.is_monotonic_decreasing and frame.index.is_unique:
        frame = frame[::-1]  # exports of Alpha Vantage, Nasdaq and others begin with the newest
    return frame


def _end_of(times: pd.DatetimeIndex, found) -> pd.DatetimeIndex:
    """Return close times; an epoch one tick before a full second, as of Binance, is that second."""
    if isinstance(found, list) and not found[0].strip().isdecimal():
        return times
    for tick in (1000, 1):  # microseconds
        if ((times.asi8 + tick) % 1_000_000 == 0).all():
            return times + pd.Timedelta(tick, "us")
    return times
