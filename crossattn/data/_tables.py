"""Read a CSV, Parquet or Feather file as raw columns; every row knows the line it came from."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError, first_names

SUFFIXES = (".csv", ".parquet", ".feather")
NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_MOST_BYTES = 4 * 2**30
# An Arrow file of a few bytes may claim any number of cells. It may hold so many, more by its size.
_FEWEST_CELLS, _CELLS_PER_BYTE = 1_000_000, 100
_FEATHER_1 = b"FEA1"  # the first version of the format
_SHOWN = 90  # characters of a header in a message
_SYMBOL_COLUMNS = ("symbol", "ticker", "<ticker>", "instrument", "pair")


@dataclass(frozen=True)
class RawTable:
    """Columns as a file holds them: texts of a CSV, arrays of a Parquet or Feather file."""

    path: Path
    names: tuple[str, ...]  #: the header without surrounding spaces; empty where the file has none
    columns: list  #: list of (list of str, ndarray or DatetimeIndex)
    lines: Sequence[int]  #: line of each row in a CSV, else its row number
    delimiter: str = ""  #: of a CSV, else empty

    @property
    def shown(self) -> str:
        """The header, or the first row of a file without one, cut short for a message."""
        cells = self.names or [column[0] for column in self.columns]
        text = (self.delimiter or ",").join(cells)
        return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")

    def refuse(self, row: int, name: str, rule: str, value: object) -> NoReturn:
        """Raise for one value, by file and line."""
        text = str(value)
        where = f"{'line' if self.delimiter else 'row'} {self.lines[row]}"
        shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
        raise InvalidInputError(f"{self.path}, {where}: {name} must be {rule}, got {shown}")

    def refuse_first(self, wrong, name: str, rule: str, values) -> None:
        """Raise for the first value at which ``wrong`` is True, if there is any."""
        if (rows := np.flatnonzero(wrong)).size:
            self.refuse(int(rows[0]), name, rule, values[rows[0]])


def read_content(path: Path) -> bytes:
    """Return the content of a regular file of sane size, or refuse it by name."""
    try:
        size = path.stat().st_size
        if not (path.is_file() or path.is_dir()):
            raise InvalidInputError(f"{path} cannot be read: it is no regular file")
        if size > _MOST_BYTES:
            raise InvalidInputError(f"{path} cannot be read: it is larger than 4 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from None
    if not content.strip():
        raise InvalidInputError(f"{path} is an empty file")
    return content


def _csv_table(path: Path, content: bytes) -> RawTable:
    """Parse delimited text with or without a header; blank lines and comments are left out."""
    text = _decode(path, content)
    delimiter, n_before = _find_delimiter(path, text)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    rows, lines = [], []
    try:
        for row in reader:
            if any(row) and row[0][:1] != "#" and reader.line_num > n_before:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        line = reader.line_num
        raise InvalidInputError(f"{path} is not a CSV file: line {line}: {error}") from None
    if not rows:
        raise InvalidInputError(f"{path} holds no bars: every line is empty or a comment")
    headless = sum(bool(NUMBER.fullmatch(cell.strip())) for cell in rows[0][1:]) >= 3
    names = () if headless else tuple(name.strip() for name in rows.pop(0))
    width = len(names or rows[0])
    # yfinance's own CSV spreads its header over three lines: fields, tickers, the name of the index
    if len(names) > 1 and [row[0].lower() for row in rows[:2]] == ["ticker", "date"]:
        if len(set(rows[0][1:])) > 1:
            raise _several_symbols(path, rows[0][1:])
        names = (rows[1][0], *names[1:])
        rows, lines = rows[2:], lines[2:]
    if not rows:
        raise InvalidInputError(f"{path} holds no bars or other rows below the header")
    lines = lines[len(lines) - len(rows) :]
    if set(map(len, rows)) != {width}:
        rows = [_cut_row(path, row, line, width) for row, line in zip(rows, lines, strict=True)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    table = RawTable(path, names, columns, lines, delimiter)
    if not text.endswith(("\n", "\r")):
        _check_last_line(table)
    return table


def _arrow_table(path: Path, content: bytes) -> RawTable:
    """Read the columns of a Parquet or Feather file; no pickled or nested type is opened."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    kind = "Parquet" if path.suffix.lower() == ".parquet" else "Feather"
    try:
        if kind == "Parquet":
            file = parquet.ParquetFile(pa.BufferReader(content))
            _check_size(path, content, file.metadata.num_rows, file.metadata.num_columns)
            table = file.read(use_threads=False)
        elif content.startswith(_FEATHER_1):
            table = feather.read_table(pa.BufferReader(content), use_threads=False)
        else:
            options, batches, n_rows = pa.ipc.IpcReadOptions(use_threads=False), [], 0
            file = pa.ipc.open_file(pa.BufferReader(content), options=options)
            for number in range(file.num_record_batches):
                batches.append(file.get_batch(number))
                n_rows += batches[-1].num_rows
                _check_size(path, content, n_rows, len(file.schema))
            table = pa.Table.from_batches(batches, file.schema)
        _check_size(path, content, table.num_rows, table.num_columns)
        table.validate(full=True)
        columns = [_values_of_arrow(table.column(i)) for i in range(table.num_columns)]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InvalidInputError(f"{path} is not a readable {kind} file: {reason}") from None
    if not table.num_rows:
        raise InvalidInputError(f"{path} holds no bars: it has no rows")
    names = tuple(name.strip() for name in table.column_names)
    return RawTable(path, names, columns, range(table.num_rows))


def _check_size(path: Path, content: bytes, n_rows: int, n_columns: int) -> None:
    """Refuse a file that would take much more memory than it has bytes."""
    if n_rows * n_columns > _FEWEST_CELLS + _CELLS_PER_BYTE * len(content):
        raise InvalidInputError(
            f"{path} claims {n_rows} rows of {n_columns} columns: too many for {len(content)} bytes"
        )


def _decode(path: Path, content: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 as MetaTrader and Windows write it."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif content[1:2] == b"\0":
        encoding = "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not a UTF-8 or UTF-16 text file") from None
    if "\0" in text:
        raise InvalidInputError(f"{path} is not a text file")
    return text


def _find_delimiter(path: Path, text: str) -> tuple[str, int]:
    """Return what separates columns and how many lines stand before the first that has any."""
    for number, line in enumerate(io.StringIO(text)):
        if line[:1] == "#" or line[:4].lower() == "sep=":  # Excel's own first line
            continue
        for delimiter in "\t;|,":
            if delimiter in line:
                return delimiter, number
    raise InvalidInputError(
        f"{path} is not a CSV file: the header lacks time,open,high,low,close,volume; "
        f"it is {text.strip()[:_SHOWN]!r}"
    )


def _cut_row(path: Path, row: list[str], line: int, width: int) -> list[str]:
    if len(row) < width:
        raise InvalidInputError(
            f"{path}, line {line}: the row ends after {len(row)} of {width} fields: was the file "
            "cut short?"
        )
    if any(row[width:]):
        raise InvalidInputError(
            f"{path}, line {line}: not a CSV row: {len(row)} fields where there should be {width}"
        )
    return row[:width]


def _check_last_line(table: RawTable) -> None:
    """Refuse a last number with fewer decimals than all others, in a file without last line end.

    A file that was cut within a number looks like this. Where the others have few decimals, and
    not all as many, a short number may be whole.
    """
    *others, last = (len(cell.partition(".")[2]) for cell in table.columns[-1])
    if (
        len(others) > 1
        and last < min(others)
        and (last == 0 or min(others) == max(others) or min(others) > 5)
    ):
        rule = "a number with as many decimals as above (was the file cut short?)"
        name = (table.names or ["the last column"])[-1]
        table.refuse(-1, name, rule, table.columns[-1][-1])


def _several_symbols(path: Path, found: Sequence) -> InvalidInputError:
    symbols = list(dict.fromkeys(map(str, found)))
    return InvalidInputError(
        f"{path} holds {len(symbols)} symbols ({first_names(symbols)}): write one file per symbol, "
        "as in for s, t in table.groupby('symbol'): t.to_parquet(f'{s}.parquet')"
    )


def _values_of_arrow(column) -> list[str] | np.ndarray | pd.DatetimeIndex:
    """Return texts, numbers or times; what is none of these becomes a text that shows it."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    kind = column.type
    if types.is_timestamp(kind):
        ticks = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
        times = pd.DatetimeIndex(ticks.fill_null(np.iinfo(np.int64).min).to_numpy().view("M8[us]"))
        return times if kind.tz is None else times.tz_localize("UTC")
    if types.is_integer(kind) and not column.null_count and not types.is_uint64(kind):
        return column.cast(pa.int64()).to_numpy()
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False).to_numpy()
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if is_text or types.is_null(kind):
        return ["" if text is None else text for text in column.to_pylist()]
    return [f"a value of type {kind}"] * len(column)


def read_table(path: Path, content: bytes) -> RawTable:
    """Return the table in a file's content, CSV or of Arrow by its name."""
    table = (_csv_table if path.suffix.lower() == ".csv" else _arrow_table)(path, content)
    for name, column in zip(table.names, table.columns, strict=False):
        if name.lower() in _SYMBOL_COLUMNS and len(set(column)) > 1:
            raise _several_symbols(path, column)
    return table
