"""Several symbols side by side: each on its own walk, kept as it comes, with its own outcome."""

from __future__ import annotations

import os
import queue
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from crossattn._utils import progress
from crossattn.data.frame import Frames
from crossattn.errors import (
    CrossAttentionError,
    CrossAttentionWarning,
    DamagedFileError,
    InvalidInputError,
    VenueError,
)
from crossattn.sources.cache import BarCache, Table
from crossattn.sources.http import Stopped, printable
from crossattn.sources.intervals import Interval, format_time
from crossattn.sources.klines import FIELDS, Candles, missing_ranges
from crossattn.sources.venue import PAGE_CANDLES, KlineVenue
from crossattn.sources.walk import Walk

_MAX_SYMBOL = 60


@dataclass(frozen=True)
class Gap:
    """Closed candles that the venue does not have: opens of the first and the last, in ms."""

    symbol: str
    first_ms: int
    last_ms: int
    count: int

    def __str__(self) -> str:
        span = f"{format_time(self.first_ms)}..{format_time(self.last_ms)}"
        return f"missing: {self.symbol} {span} {self.count} bars"


@dataclass
class Fetched:
    """What came of a fetch: frames, gaps, and whatever went wrong, by symbol.

    Parameters
    ----------
    frames : dict of str to DataFrame
        In the order asked for; after Ctrl-C also symbols that came in part.
    gaps : list of Gap
        Bars that are missing between the bounds asked for.
    failures : dict of str to CrossAttentionError
        Symbols that were refused or given up.
    notices : list of str
        Candles left out as impossible, and damaged cache files.
    interrupted : bool
        Ctrl-C ended it.
    """

    frames: Frames = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    failures: dict[str, CrossAttentionError] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    interrupted: bool = False

    def warn(self) -> None:
        """Say by name, as warnings, what was left out."""
        for notice in self.notices:
            warnings.warn(notice, CrossAttentionWarning, stacklevel=3)

    def raise_failures(self) -> None:
        """Raise for the symbols that failed, Ctrl-C first."""
        if self.interrupted:
            raise KeyboardInterrupt
        if len(self.failures) == 1:
            raise next(iter(self.failures.values()))
        if self.failures:
            reasons = dict.fromkeys(str(error) for error in self.failures.values())
            raise VenueError("; ".join(reasons))


@dataclass(frozen=True)
class Span:
    """Which candles are asked for: ``first`` None means the newest ``limit`` up to ``last``."""

    first: int | None
    last: int
    limit: int


class Job:
    """One symbol of a fetch: its walk, its place in the cache, and how it ended."""

    def __init__(
        self,
        symbol: str,
        grid: Interval,
        span: Span,
        venue: KlineVenue,
        cache: BarCache | None,
        category: str,
    ):
        self.symbol, self._grid, self._span, self._cache = symbol, grid, span, cache
        self.failure: CrossAttentionError | None = None
        self.notices: list[str] = []
        self._bounds: tuple[int, int] | None = None
        self._walk = Walk(venue, symbol, grid, on_page=self._save_now_and_then)
        self._saved, self._saved_pages = self._state(), 0
        if cache is not None:
            self._path = cache.path(venue.host, category, grid.code, symbol)

    @property
    def pages(self) -> int:
        return self._walk.pages

    def run(self) -> None:
        """Fetch until done, refused or stopped; what came is in the cache at the end."""
        try:
            self._load()
            try:
                self._collect()
                self._walk.absent.clear()
            finally:
                self._save()
        except CrossAttentionError as error:
            self.failure = error
        except Stopped:
            pass

    def result(self) -> Candles | None:
        """Return the candles within the bounds asked for; None where there is no result."""
        if self.failure is not None or self._bounds is None:
            return None
        candles = self._walk.all_held().within(*self._bounds)
        if self._span.first is not None:
            return candles
        return candles.pick(np.arange(len(candles)) >= len(candles) - self._span.limit)

    def gaps(self, candles: Candles) -> list[Gap]:
        """Return the missing ranges of closed candles, oldest first."""
        first, last = self._bounds
        last = self._walk.last_closed(last)
        if self._walk.clock_ms is None:
            # stopped before the venue told its time: name nothing that our clock calls open
            last = min(last, self._grid.closed_before(time.time_ns() // 1_000_000))
        if self._span.first is None and len(candles):
            first = int(candles.slots[0])
        return [
            Gap(self.symbol, self._grid.open_of(a), self._grid.open_of(b), b - a + 1)
            for a, b in missing_ranges(candles.slots, first, last)
        ]

    def _collect(self) -> None:
        walk, span = self._walk, self._span
        if span.first is not None:
            self._bounds = (span.first, span.last)
            walk.collect(*self._bounds)
        else:
            self._collect_newest()
        self.notices += [f"{self.symbol}: left out, {problem}" for problem in walk.problems]

    def _collect_newest(self) -> None:
        """Fetch the newest ``limit`` candles; where some are missing, look further back."""
        walk, span = self._walk, self._span
        newest = walk.newest(min(span.limit + 1, PAGE_CANDLES)).within(0, span.last)
        last = walk.last_closed(span.last)
        first = (int(newest.slots[-1]) if len(newest) else last) - span.limit + 1
        self._bounds = (max(0, first), last)
        came, before = self._came(), -1
        while before < came < span.limit and self._bounds[0] > 0:
            walk.collect(*self._bounds)
            before, came = came, self._came()
            self._bounds = (max(0, self._bounds[0] - max(0, span.limit - came)), last)

    def _came(self) -> int:
        return len(self._walk.all_held().within(*self._bounds))

    def _load(self) -> None:
        if self._cache is None:
            return
        try:
            table = self._cache.read(self._path)
            if table is None:
                return
            held = _from_table(table, self._grid, self._path)
            absent = [(int(a), int(b)) for a, b in table.notes.get("absent", [])]
        except DamagedFileError as error:
            self.notices.append(f"{self.symbol}: cache file fetched anew: {printable(error, 300)}")
            return
        self._walk.held, self._walk.absent = held, absent
        self._saved = self._state()

    def _save_now_and_then(self, walk: Walk) -> None:
        # a fifth of the pages so far is the most that a crash can cost
        if walk.pages - self._saved_pages >= max(1, walk.pages // 5):
            self._save()

    def _save(self) -> None:
        if self._cache is None or self._state() == self._saved:
            return
        self._cache.merge(self._path, _to_table(self._walk))
        self._saved, self._saved_pages = self._state(), self._walk.pages

    def _state(self) -> tuple[int, list]:
        return self._walk.count(), list(self._walk.absent)


def run_side_by_side(jobs: list[Job], venue: KlineVenue, workers: int) -> bool:
    """Run all jobs in daemon threads; return whether Ctrl-C ended them early."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    finished: queue.SimpleQueue = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        while not venue.stop.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                job.run()
            except BaseException as defect:
                finished.put(defect)
                return
            finished.put(job)

    threads = [
        threading.Thread(target=work, name="bybit-symbol", daemon=True)
        for _ in range(min(workers, len(jobs)))
    ]
    bar = progress(None, total=len(jobs), desc="fetching", unit="symbol")
    try:
        for thread in threads:
            thread.start()
        left = len(jobs)
        while left:
            try:
                done = finished.get(timeout=0.2)
            except queue.Empty:
                bar.set_postfix_str(f"{sum(job.pages for job in jobs)} pages")
                continue
            if isinstance(done, BaseException):
                raise done
            left -= 1
            bar.update()
        return False
    except KeyboardInterrupt:
        return True
    finally:
        venue.stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(timeout=10)
        bar.close()


def _to_table(walk: Walk) -> Table:
    candles = walk.all_held()
    columns = {name: candles.values[:, i] for i, name in enumerate(FIELDS)}
    return Table(walk.interval.open_of(candles.slots), columns, {"absent": walk.absent})


def _from_table(table: Table, grid: Interval, path: os.PathLike) -> Candles:
    slots = grid.slot_of(table.keys)
    if list(table.columns) != list(FIELDS) or (grid.open_of(slots) != table.keys).any():
        raise DamagedFileError(f"{path} does not hold candles of this interval")
    values = np.column_stack([table.columns[name] for name in FIELDS])
    return Candles(slots, np.ascontiguousarray(values, dtype=np.float64))


def check_symbols(symbols: Iterable[str]) -> list[str]:
    """Return the symbols once each, in order; refuse what can be no symbol."""
    if isinstance(symbols, (str, bytes)) or not isinstance(symbols, Iterable):
        raise InvalidInputError(f"symbols must be a list of texts, got {symbols!r}")
    unique = list(dict.fromkeys(symbols))
    if not unique:
        raise InvalidInputError("symbols must name at least one symbol, got none")
    for symbol in unique:
        plain = isinstance(symbol, str) and symbol.isprintable() and symbol == symbol.strip()
        if not plain or not 0 < len(symbol) <= _MAX_SYMBOL or " " in symbol:
            raise InvalidInputError(
                f"symbol must be a name such as 'BTCUSDT', got {printable(repr(symbol), 80)}"
            )
    return unique
