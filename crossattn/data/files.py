"""Read and write folders of bars, one file per symbol; every number reads back exactly.

A folder of ``<symbol>.csv`` is what one command leaves for the next. Parquet, Feather and the CSV
exports of other programs are read too, where they can mean one thing only; anything else is
refused, by file and line.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crossattn._io import write_file
from crossattn._validation import check_path
from crossattn.data._bar_file import ReadOptions, read_end, read_frame
from crossattn.data._columns import find_decimal, parse_numbers
from crossattn.data._tables import SUFFIXES, read_content, read_table
from crossattn.data._times import parse_times
from crossattn.data.file_names import stem_to_symbol, symbol_to_stem
from crossattn.data.frame import (
    FRAME_COLUMNS,
    PRICE_COLUMNS,
    Frame,
    Frames,
    Tables,
    check_frame,
    check_frames,
)
from crossattn.errors import InvalidInputError, first_names, warn

PACKED = (".zip", ".gz", ".bz2", ".xz", ".zst", ".7z")


def write_bars(frames: Tables, directory: str | os.PathLike) -> list[Path]:
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
            write_file(path, text.encode("ascii"))
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
        alone, packed ones with a warning.
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
    reading = ReadOptions(columns, time_zone, date_format, unit, decimal)
    frames: Frames = {}
    origin: dict[str, Path] = {}
    faults: list[InvalidInputError] = []
    for path in _files_of(check_path("directory", directory)):
        try:
            symbol = stem_to_symbol(path.stem)
            if symbol in frames:
                raise InvalidInputError(f"{path} and {origin[symbol].name} both hold {symbol!r}")
            frames[symbol], origin[symbol] = read_frame(path, reading), path
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
        frame = read_end(path, since) if path.suffix.lower() == ".csv" else None
        if frame is None:
            return None
        try:
            frames[stem_to_symbol(path.stem)] = check_frame(frame, str(path))
        except InvalidInputError:
            return None
    return dict(sorted(frames.items()))


def read_exogenous(path: str | os.PathLike, *, time_zone: str | None = None) -> pd.DataFrame:
    """Read exogenous series from a file: a ``time`` column and one column of numbers per series.

    Parameters
    ----------
    path : path
        CSV, Parquet or Feather; ``time`` is the moment at which the row is known.
    time_zone : str, optional
        As in :func:`crossattn.read_bars`.

    Returns
    -------
    DataFrame
        For ``prepare_cross_attention_data(..., exogenous=...)``; an empty cell is NaN.

    Warns
    -----
    CrossAttentionWarning
        Dates without a clock: they count as known when the day begins.
    """
    path, reading = check_path("path", path), ReadOptions(time_zone=time_zone)
    table = read_table(path, read_content(path))
    if "time" not in table.names:
        raise InvalidInputError(f"{path}: the header lacks time; it is {table.shown}")
    if len(set(table.names)) < len(table.names):
        raise InvalidInputError(f"{path}: the header repeats a column")
    series = dict(zip(table.names, table.columns, strict=True))
    texts = series.pop("time")
    times = parse_times(table, "time", texts, time_zone=reading.time_zone).rename("time")
    if isinstance(texts, list) and not any(":" in text or text.isdecimal() for text in texts):
        warn(f"{path}: {texts[0]!r} counts as known at {times[0]}: add the clock if later", 2)
    if not series:
        raise InvalidInputError(f"{path}: the header names no series besides time")
    decimal = find_decimal(table, list(series.values()), None)
    numbers = {name: parse_numbers(table, name, v, decimal) for name, v in series.items()}
    return pd.DataFrame(numbers).set_axis(times)


def _to_csv(frame: Frame, symbol: str) -> str:
    prices = frame[list(PRICE_COLUMNS)].isna().to_numpy()
    if (partial := np.flatnonzero(prices.any(axis=1) & ~prices.all(axis=1))).size:
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
    if packed := [path.name for path in inside if path.suffix.lower() in PACKED]:
        warn(f"data folder {folder}: unpack {first_names(packed)}: packed files are left out", 3)
    return paths
