"""Disk cache of bars: a second fetch requests only what is missing.

One Parquet file a symbol, interval and category. Its footer carries a SHA-256 over every other byte
of the file, checked before anything is decoded, and the place it was written for, so that a file
moved elsewhere is noticed. A file that fails any check counts as absent and is written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossattn._io import atomic_write
from crossattn.data.files import symbol_to_stem
from crossattn.errors import DamagedFileError, InvalidInputError

_MARK = b"crossattn-sha256-"
_BLANK = b"0" * 64
_PLAIN = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_TIME = pa.timestamp("ms", tz="UTC")
_MAX_ROWS = 50_000_000
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError)
_same_process = threading.Lock()


@dataclass(frozen=True)
class Table:
    """Columns of float64 or int64, keyed by strictly increasing times, and notes beside them.

    ``keys`` (n,) int64: opens in milliseconds since the epoch; ``notes``: JSON values.
    """

    keys: np.ndarray
    columns: Mapping[str, np.ndarray]
    notes: Mapping[str, object] = field(default_factory=dict)


class BarCache:
    """A folder of checked Parquet files that several processes may share.

    A write takes a lock, reads what is there, merges, and moves a synced temporary file into place:
    writers never undo each other, and a reader or a crash sees a whole file. The lock is the
    operating system's, so that it ends with its process. Files that carry an Arrow schema, which
    may name extension types, are foreign and are not opened.
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

    def read(self, path: Path) -> Table | None:
        """Return the table at ``path``, None where there is none; DamagedFileError if unusable."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if path.is_dir():
                raise DamagedFileError(f"{path} is a folder") from None
            raise self._unusable(error) from None
        return _decode(data, self._place(path), path)

    def merge(self, path: Path, table: Table) -> None:
        """Add ``table`` to the file at ``path``; its rows and notes count over those there."""
        self._write(path, table, merge=True)

    def replace(self, path: Path, table: Table) -> None:
        """Write ``table`` to ``path``, whatever is there."""
        self._write(path, table, merge=False)

    def _write(self, path: Path, table: Table, *, merge: bool) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_suffix(".lock")):
                for left_over in path.parent.glob(f".{path.name[:60]}.*.part"):
                    left_over.unlink(missing_ok=True)
                if merge:
                    with contextlib.suppress(DamagedFileError):
                        table = _merged(self.read(path), table)
                data = _encode(table, self._place(path))
                with atomic_write(path) as temporary:
                    temporary.write_bytes(data)
        except OSError as error:
            raise self._unusable(error) from None

    def _place(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _unusable(self, error: OSError) -> InvalidInputError:
        return InvalidInputError(f"cache_dir {self.directory} cannot be used: {error.strerror}")


def _merged(older: Table | None, newer: Table) -> Table:
    if older is None or set(older.columns) != set(newer.columns):
        return newer
    keys = np.concatenate([older.keys, newer.keys])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    last = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
    columns = {
        name: np.concatenate([older.columns[name], values])[order][last]
        for name, values in newer.columns.items()
    }
    return Table(keys[last], columns, newer.notes)


def _encode(table: Table, place: str) -> bytes:
    """Return a Parquet file whose footer holds the digest of all its other bytes."""
    times = pa.array(table.keys, pa.int64()).cast(_TIME)
    arrow = pa.table({"time": times, **table.columns})
    sink = io.BytesIO()
    options = {"store_schema": False, "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(sink, arrow.schema, compression="zstd", **options) as writer:
        writer.write_table(arrow)
        about = json.dumps({"place": place, "notes": dict(table.notes)})
        writer.add_key_value_metadata({"crossattn": about, "digest": (_MARK + _BLANK).decode()})
    data = bytearray(sink.getvalue())
    at = data.rfind(_MARK + _BLANK) + len(_MARK)
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode("ascii")
    return bytes(data)


def _decode(data: bytes, place: str, path: Path) -> Table:
    at = data.rfind(_MARK) + len(_MARK)
    digest = data[at : at + 64]
    blank = hashlib.sha256(data[:at] + _BLANK + data[at + 64 :]).hexdigest()
    if at < len(_MARK) or digest != blank.encode("ascii"):
        raise DamagedFileError(f"{path} is damaged or foreign")
    if b"ARROW:schema" in data:
        raise DamagedFileError(f"{path} carries an Arrow schema, which this cache never writes")
    try:
        stored = pq.ParquetFile(pa.BufferReader(data))
        about = json.loads(stored.metadata.metadata[b"crossattn"])
        if about["place"] != place:
            raise DamagedFileError(f"{path} was written for {about['place']!r}")
        if stored.metadata.num_rows > _MAX_ROWS:
            raise DamagedFileError(f"{path} holds more rows than this cache writes")
        arrow = stored.read(use_threads=False)
        if arrow.schema.field("time").type != _TIME:
            raise DamagedFileError(f"{path} is not dated as this cache dates")
        times = arrow["time"].cast(pa.int64())
        columns = {name: arrow[name].to_numpy() for name in arrow.column_names if name != "time"}
        keys = times.to_numpy()
        notes = dict(about["notes"])
    except _ARROW_ERRORS as error:
        raise DamagedFileError(f"{path} is foreign: {type(error).__name__}") from None
    numbers = all(values.dtype in (np.int64, np.float64) for values in columns.values())
    if keys.dtype != np.int64 or not numbers or (np.diff(keys) <= 0).any():
        raise DamagedFileError(f"{path} does not hold bars")
    return Table(keys, columns, notes)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``: one writer at a time, in this process and among all."""
    with _same_process, path.open("ab") as handle:
        _lock(handle.fileno())
        yield


try:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Wait for an exclusive lock; closing the file, or the end of the process, frees it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)

except ImportError:
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Wait for an exclusive lock; closing the file, or the end of the process, frees it."""
        while True:
            with contextlib.suppress(OSError):
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                return
