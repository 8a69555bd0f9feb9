"""Read and write bars as CSV files, one per symbol; every number reads back exactly.

A folder of ``<symbol>.csv`` is what one command leaves for the next, and the format for bars of
your own. Anything else in a file is refused, by file and line.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd

from crossattn._io import atomic_write
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
_ZONED = re.compile(r"(?:Z|[+-]\d{2}:?\d{2})$")
_FOREIGN = re.compile(r"[^0-9eE+.-]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$")
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
    folder = Path(directory)
    paths = [folder / f"{symbol_to_stem(symbol)}.csv" for symbol in texts]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            with atomic_write(path) as temporary:
                temporary.write_bytes(text.encode("ascii"))
    except OSError as error:
        raise InvalidInputError(f"cannot write bars to {folder}: {error.strerror}") from None
    return paths


def read_bars(directory: str | os.PathLike) -> Frames:
    """Read bars from a folder: every ``<symbol>.csv`` in it.

    Parameters
    ----------
    directory : path
        Files that do not end in ``.csv``, and hidden ones, are left alone.

    Returns
    -------
    dict of str to DataFrame
        Sorted by symbol. A file without any volume whose open, high, low and close agree is marked
        ``attrs["close_only"]``.

    Raises
    ------
    InvalidInputError
        The folder does not exist or holds no CSV; a file is not UTF-8, lacks a column, holds a
        text where a number belongs, a missing price, a time without zone, repeated or unsorted
        times, or prices that no bar can have. The message names file and line.

    Examples
    --------
    >>> read_bars("no/such/folder")
    Traceback (most recent call last):
    crossattn.errors.InvalidInputError: data folder no/such/folder does not exist
    """
    folder = Path(directory)
    if not folder.exists():
        raise InvalidInputError(f"data folder {folder} does not exist")
    if not folder.is_dir():
        raise InvalidInputError(f"data folder {folder} is not a folder")
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() == ".csv" and not path.name.startswith(".")
        )
    except OSError as error:
        raise InvalidInputError(f"data folder {folder} cannot be read: {error.strerror}") from None
    if not paths:
        raise InvalidInputError(f"data folder {folder} holds no <symbol>.csv file")
    frames: Frames = {}
    origin: dict[str, Path] = {}
    for path in paths:
        symbol = stem_to_symbol(path.stem)
        if symbol in frames:
            raise InvalidInputError(f"{path} and {origin[symbol].name} both hold {symbol!r}")
        frames[symbol], origin[symbol] = _read_csv(path), path
    return dict(sorted(frames.items()))


def read_exogenous(path: str | os.PathLike) -> pd.DataFrame:
    """Read exogenous series from a CSV: a ``time`` column and one column of numbers per series.

    Parameters
    ----------
    path : path
        ``time`` is the moment at which the row is known, ISO 8601 with a UTC offset.

    Returns
    -------
    DataFrame
        For ``prepare_cross_attention_data(..., exogenous=...)``; an empty cell is NaN.

    Raises
    ------
    InvalidInputError
        The file is missing or no such CSV; the message names the line.

    Examples
    --------
    >>> read_exogenous("no/such.csv")
    Traceback (most recent call last):
    crossattn.errors.InvalidInputError: no/such.csv cannot be read: No such file or directory
    """
    path = Path(path)
    table = _read_table(path, required=("time",))
    names = [name for name in table.columns if name != "time"]
    if not names:
        raise InvalidInputError(f"{path}: the header names no series besides time")
    times = pd.DatetimeIndex(_times(table["time"], path), name="time")
    return pd.DataFrame({name: _numbers(table[name], path) for name in names}).set_axis(times)


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


def _read_csv(path: Path) -> Frame:
    table = _read_table(path)
    names = [name for name in (*FRAME_COLUMNS, "turnover") if name in table.columns]
    columns = {name: _numbers(table[name], path) for name in names}
    for name in PRICE_COLUMNS:
        _refuse_line(np.isnan(columns[name]), table[name], path)
    if "close_time" in table.columns:
        columns["close_time"] = _times(table["close_time"], path)
    frame = pd.DataFrame(columns)
    frame.index = pd.DatetimeIndex(_times(table["time"], path), name="time")
    frame = check_frame(frame, str(path))
    flat = all((frame[name] == frame["close"]).all() for name in PRICE_COLUMNS)
    if flat and frame["volume"].isna().all():
        frame.attrs["close_only"] = True
    return frame


def _read_table(path: Path, required: tuple[str, ...] = ("time", *FRAME_COLUMNS)) -> pd.DataFrame:
    """Read a CSV as texts, so that every fault can be named by its line."""
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not a UTF-8 text file") from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None
    if not text or "\0" in text:
        raise InvalidInputError(f"{path} is {'not a text' if text else 'an empty'} file")
    header = [name.strip('"') for name in text.split("\n", 1)[0].strip().split(",")]
    missing = [name for name in required if name not in header]
    if missing:
        raise InvalidInputError(f"{path}: the header lacks {','.join(missing)}")
    if len(set(header)) < len(header):
        raise InvalidInputError(f"{path}: the header repeats a column")
    try:
        table = pd.read_csv(
            io.StringIO(text),
            dtype=object,
            na_filter=False,
            skip_blank_lines=False,
            on_bad_lines="error",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"{path} is not a CSV file: {reason}") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise InvalidInputError(f"{path} is not a CSV file: rows are longer than the header")
    if table.empty:
        raise InvalidInputError(f"{path} holds no {'bars' if 'close' in required else 'rows'}")
    return table


def _numbers(column: pd.Series, path: Path) -> np.ndarray:
    texts = [str(text) for text in column]
    try:
        if _FOREIGN.search("".join(texts)):
            raise ValueError("a character that no decimal number holds")
        # the empty text is a missing value; float() reads every shortest form back exactly
        values = np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        wrong = [text != "" and not _NUMBER.match(text) for text in texts]
        _refuse_line(np.array(wrong), column, path)
        raise
    _refuse_line(np.isinf(values), column, path)
    return values


def _times(column: pd.Series, path: Path) -> pd.DatetimeIndex:
    texts = [str(text) for text in column]
    zoned = np.array([bool(_ZONED.search(text)) for text in texts])
    times = pd.to_datetime(pd.Series(texts), format="ISO8601", utc=True, errors="coerce")
    wrong = ~zoned | times.isna().to_numpy()
    if wrong.any():
        line = int(np.argmax(wrong))
        raise InvalidInputError(
            f"{path}, line {line + 2}: {column.name} must be ISO 8601 with a UTC offset, such as "
            f"2024-01-31T09:00:00Z, got {texts[line]!r}"
        )
    return pd.DatetimeIndex(times)


def _refuse_line(wrong: np.ndarray, column: pd.Series, path: Path) -> None:
    if wrong.any():
        line = int(np.argmax(wrong))
        raise InvalidInputError(
            f"{path}, line {line + 2}: {column.name} must be a number, got {column.iloc[line]!r}"
        )
