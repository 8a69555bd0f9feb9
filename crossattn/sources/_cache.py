"""Disk cache of bars: a second fetch requests only what is missing.

One Parquet file a symbol, interval and category. Its footer carries a SHA-256 over every other
byte, checked before anything is decoded, and the place it was written for. A file that fails a
check counts as absent.
"""

import contextlib
import hashlib
import io
import json
import os
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from crossattn._io import write_file
from crossattn.data.file_names import symbol_to_stem
from crossattn.errors import DamagedFileError, InvalidInputError

_MARK, _BLANK = b"crossattn-sha256-", b"0" * 64
_PLAIN = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_TIME = pa.timestamp("ms", tz="UTC")
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError)


class BarCache:
    """A folder of checked Parquet files that several processes may share.

    A write takes an operating-system lock, merges, and moves a synced temporary file into place:
    writers never undo each other, and a reader or a crash sees a whole file. Files that carry an
    Arrow schema, which may name extension types, are not opened.
    """

    def __init__(self, directory: str | os.PathLike):
        if not isinstance(directory, (str, os.PathLike)) or not str(directory):
            raise InvalidInputError(f"cache_dir must be a folder, got {directory!r}")
        self.directory = Path(directory)
        if self.directory.exists() and not self.directory.is_dir():
            raise InvalidInputError(f"cache_dir {self.directory} is not a folder")

    def path(self, venue: str, category: str, interval: str, symbol: str) -> Path:
        """Return where one symbol's bars are kept."""
        folders = [
            part if _PLAIN.fullmatch(part) else symbol_to_stem(part)
            for part in (venue, category, interval)
        ]
        return self.directory.joinpath(*folders, f"{symbol_to_stem(symbol)}.parquet")

    def read(self, path: Path) -> pd.DataFrame | None:
        """Return the bars at ``path``, None where there are none; DamagedFileError if unusable."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if path.is_dir():
                raise DamagedFileError(f"{path} is a folder") from None
            raise self._unusable(error) from None
        return _decode(data, self._place(path), path)

    def write(self, path: Path, bars: pd.DataFrame, *, merge: bool) -> None:
        """Write ``bars``; with ``merge`` beside the rows that are there and not in ``bars``.

        ``bars`` is indexed by strictly increasing UTC times (whole milliseconds); its columns are
        float64 or UTC times; its ``attrs``, JSON values, replace those there.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock"), poll_interval=0.01):
                for left_over in path.parent.glob(f".{path.name[:60]}.*.part"):
                    left_over.unlink(missing_ok=True)
                attrs, bars = bars.attrs, bars.set_axis(bars.index.as_unit("ms"))
                if merge:
                    with contextlib.suppress(DamagedFileError):
                        older = self.read(path)
                        if older is not None and list(older.columns) == list(bars.columns):
                            bars = merge_rows(older, bars)
                data = _encode(bars, {"place": self._place(path), "attrs": attrs})
                write_file(path, data)
        except OSError as error:
            raise self._unusable(error) from None

    def _place(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _unusable(self, error: OSError) -> InvalidInputError:
        return InvalidInputError(f"cache_dir {self.directory} cannot be used: {error.strerror}")


def merge_rows(older: pd.DataFrame, newer: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of both, sorted; where both hold a row, ``newer`` counts."""
    extra = older[~older.index.isin(newer.index)]
    if extra.empty or newer.empty:
        return newer if extra.empty else older
    both = pd.concat([extra, newer])
    return both if extra.index[-1] < newer.index[0] else both.sort_index()


def _encode(bars: pd.DataFrame, about: dict) -> bytes:
    """Return a Parquet file whose footer holds the digest of all its other bytes."""
    columns = {"time": pa.array(bars.index).cast(_TIME)}
    for name, values in bars.items():
        is_time = isinstance(values.dtype, pd.DatetimeTZDtype)
        columns[name] = pa.array(values).cast(_TIME) if is_time else pa.array(values.to_numpy())
    table, sink = pa.table(columns), io.BytesIO()
    options = {"store_schema": False, "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(sink, table.schema, compression="zstd", **options) as writer:
        writer.write_table(table)
        digest = (_MARK + _BLANK).decode()
        writer.add_key_value_metadata({"crossattn": json.dumps(about), "digest": digest})
    data = bytearray(sink.getvalue())
    at = data.rfind(_MARK + _BLANK) + len(_MARK)
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode("ascii")
    return bytes(data)


def _decode(data: bytes, place: str, path: Path) -> pd.DataFrame:
    at = data.rfind(_MARK) + len(_MARK)
    blank = hashlib.sha256(data[:at] + _BLANK + data[at + 64 :]).hexdigest()
    if at < len(_MARK) or data[at : at + 64] != blank.encode("ascii"):
        raise DamagedFileError(f"{path} is damaged or foreign")
    if b"ARROW:schema" in data:
        raise DamagedFileError(f"{path} carries an Arrow schema, which this cache never writes")
    try:
        stored = pq.ParquetFile(pa.BufferReader(data))
        about = json.loads(stored.metadata.metadata[b"crossattn"])
        if about["place"] != place:
            raise DamagedFileError(f"{path} was written for {about['place']!r}")
        table = stored.read(use_threads=False)
        if not set(table.schema.types) <= {_TIME, pa.float64()}:
            raise DamagedFileError(f"{path} does not hold bars")
        bars = table.to_pandas().set_index("time")
        bars.attrs = dict(about["attrs"])
    except _ARROW_ERRORS as error:
        raise DamagedFileError(f"{path} is foreign: {type(error).__name__}") from None
    index = bars.index
    dated = isinstance(index, pd.DatetimeIndex) and not index.hasnans
    if not dated or not (index.is_monotonic_increasing and index.is_unique):
        raise DamagedFileError(f"{path} is not dated as this cache dates")
    return bars
