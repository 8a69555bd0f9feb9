"""Read and write folders of bars, one file per symbol; every number reads back exactly.

A folder of ``<symbol>.csv`` is what one command leaves for the next. Parquet, Feather and the CSV
exports of other programs are read too, where they can mean one thing only; anything else is
refused, by file and line.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd

from crossattn._io import atomic_write
from crossattn._validation import check_choice, check_path, check_time_zone
from crossattn.data._columns import FIELDS, find_decimal, name_columns, parse_numbers
from crossattn.data._tables import SUFFIXES, RawTable, arrow_table, csv_table, read_content
from crossattn.data._times import UNITS, parse_times
from crossattn.data.frame import (
    FRAME_COLUMNS,
    PRICE_COLUMNS,
    Frame,
    Frames,
    check_frame,
    check_frames,
)
from crossattn.errors import InvalidInputError

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\.|$)")
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_STEM = 200


def symbol_to_stem(symbol: str) -> str:
    """Return the file name, without ``.csv``, under which ``symbol`` is stored.

    Upper-case letters, digits and ``-_.`` stay; everything else, lower-case letters too, becomes
    ``%XX``, a UTF-8 byte. So no symbol leaves its folder, and two symbols that differ only in case
    stay two files where the file system does not tell them apart.

    Parameters
    ----------
    symbol : str

    Returns
    -------
    str

    Raises
    ------
    InvalidInputError
        The symbol is not a non-empty text, or its name would be too long for a file system.

    Examples
    --------
    >>> symbol_to_stem("BTCUSDT"), symbol_to_stem("^gspc"), symbol_to_stem("../X")
    ('BTCUSDT', '%5E%67%73%70%63', '%2E.%2FX')
    """
    if not isinstance(symbol, str) or not symbol.strip():
        raise InvalidInputError(f"symbols must be non-empty texts, got {symbol!r}")
    try:
        stem = "".join(c if c in _SAFE else _escape(c) for c in symbol)
    except UnicodeEncodeError:
        raise InvalidInputError(f"symbol {symbol!r} is not valid Unicode") from None
    # a leading dot hides a file, and Windows keeps names such as CON for devices
    if stem[0] == "." or _RESERVED.match(stem):
        stem = _escape(stem[0]) + stem[1:]
    if len(stem) > _MAX_STEM:
        raise InvalidInputError(f"symbol {symbol[:40]!r}... is too long for a file name")
    return stem


def stem_to_symbol(stem: str) -> str:
    """Return the symbol stored under a file name; the inverse of :func:`symbol_to_stem`.

    Examples
    --------
    >>> stem_to_symbol("%5EGSPC")
    '^GSPC'
    """
    if _ESCAPES.search(stem):
        raise InvalidInputError(f"file name {stem!r} holds a '%' that starts no %XX escape")
    try:
        return unquote_to_bytes(stem).decode("utf-8")
    except UnicodeError:
        raise InvalidInputError(f"file name {stem!r} is no valid UTF-8 text") from None


def write_bars(frames: Mapping[str, Frame], directory: str | os.PathLike) -> list[Path]:
    """Write one ``<symbol>.csv`` per symbol, each atomically.

    Parameters
    ----------
    frames : dict of str to DataFrame
        All are checked before the first is written.
    directory : path
        Made where it does not exist. Files of other symbols in it stay.

    Returns
    -------
    list of Path
        In the order of ``frames``.

    Raises
    ------
    InvalidInputError
        A frame is wrong, or the folder cannot be written.

    Notes
    -----
    Header ``time,open,high,low,close,volume[,close_time]``; times ISO 8601 UTC; numbers in the
    shortest form that reads back to the same float64. A bar without prices is no line; a missing
    volume is an empty cell.

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> import tempfile
    >>> from crossattn.simulate.market import simulate_market
    >>> frames = simulate_market(n_assets=2, n_steps=4).frames
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_bars(frames, folder)
    ...     back = read_bars(folder)
    >>> all(back[symbol].equals(frames[symbol]) for symbol in frames)
    True
    """
    checked = check_frames(frames)
    texts = {symbol: _to_csv(frame, symbol) for symbol, frame in checked.items()}
    folder = check_path("directory", directory)
    paths = [folder / f"{symbol_to_stem(symbol)}.csv" for symbol in texts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            with atomic_write(path) as temporary:
                temporary.write_bytes(text.encode("ascii"))
    except OSError as error:
        raise InvalidInputError(f"cannot write bars to {folder}: {error.strerror}") from None
    return paths


def read_bars(
    directory: str | os.PathLike,
    *,
    columns: Sequence[str] | Mapping[str, str | None] | None = None,
    time_zone: str | None = None,
    date_format: str | None = None,
    unit: str | None = None,
    decimal: str | None = None,
) -> Frames:
    """Read bars from a folder of CSV, Parquet or Feather files, one file per symbol.

    Exports of other programs are read where they can mean one thing only; else the message shows
    what was found and which option reads it. The options hold for every file of the folder.

    Parameters
    ----------
    directory : path
        Files ``<symbol>.csv``, ``.parquet`` or ``.feather``; others, and hidden ones, are left
        alone.
    columns : sequence of str or dict, optional
        Names of all columns, for files without a header, or ``{ours: theirs}``;
        ``{"volume": None}`` where there is no volume.
    time_zone : str, optional
        Whose clock times without a UTC offset show, such as ``"UTC"`` or ``"America/New_York"``.
        Dates alone are 00:00 of that zone, and 00:00 UTC without it.
    date_format : str, optional
        As ``datetime.strptime`` takes it, where day and month could be exchanged.
    unit : {"s", "ms", "us", "ns"}, optional
        Of epochs outside of 1990 to 2100; within, each shows its own.
    decimal : {".", ","}, optional
        Where ``1,234`` could be a thousand or a little more than one.

    Returns
    -------
    dict of str to DataFrame
        Sorted by symbol. A file without any volume whose open, high, low and close agree is marked
        ``attrs["close_only"]``. Rows without any price are left out; exports with the newest row
        first are turned round.

    Raises
    ------
    InvalidInputError
        The folder does not exist or holds no bars; a symbol has two files, a file is a link out of
        the folder, lacks a column, ends within a row, holds a text where a number belongs, half a
        bar, a time without zone, repeated or unsorted times, or prices that no bar can have. The
        message names file and line; of several files the first, the others in its notes.

    Examples
    --------
    >>> read_bars("no/such/folder")
    Traceback (most recent call last):
    crossattn.errors.InvalidInputError: data folder no/such/folder does not exist
    """
    reading = _Reading(columns, time_zone, date_format, unit, decimal)
    frames: Frames = {}
    origin: dict[str, Path] = {}
    faults: list[InvalidInputError] = []
    for path in _files_of(check_path("directory", directory)):
        try:
            symbol = stem_to_symbol(path.stem)
            if symbol in frames:
                raise InvalidInputError(f"{path} and {origin[symbol].name} both hold {symbol!r}")
            frames[symbol], origin[symbol] = _read_frame(path, reading), path
        except InvalidInputError as fault:
            faults.append(fault)
    if faults:
        for other in faults[1:]:
            faults[0].add_note(str(other))
        raise faults[0]
    return dict(sorted(frames.items()))


def read_newest_bars(directory: str | os.PathLike, since: pd.Timestamp) -> Frames | None:
    """Read the ends of the files that :func:`.write_bars` wrote, back to a moment at least.

    Returns
    -------
    dict of str to DataFrame or None
        None where a file is of another format, or has a fault, which :func:`.read_bars` names.
    """
    frames: Frames = {}
    for path in _files_of(Path(directory)):
        frame = _read_end(path, since) if path.suffix.lower() == ".csv" else None
        if frame is None:
            return None
        try:
            frames[stem_to_symbol(path.stem)] = check_frame(frame, str(path))
        except InvalidInputError:
            return None
    return dict(sorted(frames.items()))


def read_exogenous(path: str | os.PathLike) -> pd.DataFrame:
    """Read exogenous series from a file: a ``time`` column and one column of numbers per series.

    Parameters
    ----------
    path : path
        CSV, Parquet or Feather; ``time`` is the moment at which the row is known.

    Returns
    -------
    DataFrame
        For ``prepare_cross_attention_data(..., exogenous=...)``; an empty cell is NaN.

    Raises
    ------
    InvalidInputError
        The file is missing or no such table; the message names the line.

    Examples
    --------
    >>> read_exogenous("no/such.csv")
    Traceback (most recent call last):
    crossattn.errors.InvalidInputError: no/such.csv cannot be read: No such file or directory
    """
    path = check_path("path", path)
    table = _read_table(path, read_content(path))
    if "time" not in table.names:
        raise InvalidInputError(f"{path}: the header lacks time; it is {table.shown}")
    if len(set(table.names)) < len(table.names):
        raise InvalidInputError(f"{path}: the header repeats a column")
    series = dict(zip(table.names, table.columns, strict=True))
    times = parse_times(table, "time", series.pop("time")).rename("time")
    if not series:
        raise InvalidInputError(f"{path}: the header names no series besides time")
    decimal = find_decimal(table, list(series.values()), None)
    numbers = {name: parse_numbers(table, name, v, decimal) for name, v in series.items()}
    return pd.DataFrame(numbers).set_axis(times)


@dataclass(frozen=True)
class _Reading:
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
        if isinstance(self.columns, Mapping):
            known = set(self.columns) <= {*FIELDS, "close_time", "turnover"}
            named = [v for k, v in self.columns.items() if (k, v) != ("volume", None)]
        else:
            known = self.columns is None or np.iterable(self.columns)
            known &= not isinstance(self.columns, str)
            named = [] if self.columns is None or not known else list(self.columns)
        if not known or not all(isinstance(name, str) for name in named):
            raise InvalidInputError(
                f"columns must be all names in order or {{ours: theirs}}, got {self.columns!r}"
            )


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))


def _to_csv(frame: Frame, symbol: str) -> str:
    prices = frame[list(PRICE_COLUMNS)].isna().to_numpy()
    partial = np.flatnonzero(prices.any(axis=1) & ~prices.all(axis=1))
    if partial.size:
        row = int(partial[0])
        raise InvalidInputError(f"{symbol}: the bar of {frame.index[row]} lacks some of its prices")
    frame = frame[~prices.all(axis=1)]
    table = frame[list(FRAME_COLUMNS)].copy()
    table.insert(0, "time", iso_times(frame.index))
    if "close_time" in frame.columns:
        table["close_time"] = iso_times(pd.DatetimeIndex(frame["close_time"]))
    return table.to_csv(index=False, lineterminator="\n")


def iso_times(times: pd.DatetimeIndex) -> np.ndarray:
    """Return UTC times as ISO 8601 texts, with fractions of a second only where there are any."""
    naive = times.tz_localize(None).to_numpy()
    unit = "s" if (naive == naive.astype("M8[s]")).all() else times.unit
    return np.char.add(np.datetime_as_string(naive, unit=unit), "Z")


def _files_of(folder: Path) -> list[Path]:
    """Return the files of bars in a folder, sorted; a link that leads out of it is refused."""
    if not folder.exists():
        raise InvalidInputError(f"data folder {folder} does not exist")
    if not folder.is_dir():
        raise InvalidInputError(f"data folder {folder} is not a folder")
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        paths = [path for path in inside if path.suffix.lower() in SUFFIXES]
        for path in paths:
            if path.is_symlink() and path.resolve().parent != folder.resolve():
                raise InvalidInputError(f"{path} is a link out of the folder: copy the file there")
    except RuntimeError:
        raise InvalidInputError(f"{path} cannot be read: it is a link to itself") from None
    except OSError as error:
        raise InvalidInputError(f"data folder {folder} cannot be read: {error.strerror}") from None
    if not paths:
        others = f"; it holds {', '.join(path.name for path in inside[:3])}" if inside else ""
        raise InvalidInputError(
            f"data folder {folder} holds no <symbol>.csv, .parquet or .feather file{others}"
        )
    return paths


def _read_table(path: Path, content: bytes) -> RawTable:
    return (csv_table if path.suffix.lower() == ".csv" else arrow_table)(path, content)


def _read_frame(path: Path, reading: _Reading) -> Frame:
    content = read_content(path)
    frame = _read_own_format(content) if reading == _Reading() else None
    if frame is None:
        frame = _read_any_format(_read_table(path, content), reading)
    frame = check_frame(frame, str(path))
    flat = all((frame[name] == frame["close"]).all() for name in PRICE_COLUMNS)
    if flat and frame["volume"].isna().all():
        frame.attrs["close_only"] = True
    return frame


def _read_end(path: Path, since: pd.Timestamp, size: int = 2**14) -> pd.DataFrame | None:
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
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True
            ),
        )
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


def _read_any_format(table: RawTable, reading: _Reading) -> pd.DataFrame:
    """Return the bars of any export that can be read in one way only."""
    found, in_utc = name_columns(table, reading.columns)
    decimal = find_decimal(table, [found[name] for name in PRICE_COLUMNS], reading.decimal)
    numbers = {
        name: parse_numbers(table, name, found[name], decimal)
        for name in (*FRAME_COLUMNS, "turnover")
        if name in found
    }
    missing = np.array([np.isnan(numbers[name]) for name in PRICE_COLUMNS])
    partial = missing.any(axis=0) & ~missing.all(axis=0)
    if partial.any():
        row = int(partial.argmax())
        name = PRICE_COLUMNS[int(missing[:, row].argmax())]
        table.refuse(row, name, "a number where other prices of the bar are", found[name][row])
    zone = reading.time_zone or ("UTC" if in_utc else None)
    times = {
        name: parse_times(
            table,
            name,
            found[name],
            time_zone=zone,
            date_format=reading.date_format,
            unit=reading.unit,
        )
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
