"""Paging through one symbol's candles: what the cache lacks, newest first, and what is missing.

Windows are asked for from the newest to the oldest, so that the venue's clock is known first and
the listing is met last. An empty or short answer may be a fault: a range is asked for again before
it is believed to be missing.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np

from crossattn.errors import CrossAttentionError, DamagedFileError, VenueError
from crossattn.sources._cache import BarCache, Table
from crossattn.sources._client import PAGE_CANDLES, KlineClient
from crossattn.sources._downloads import Deadline, Gap
from crossattn.sources._http import printable
from crossattn.sources._intervals import Interval, format_time
from crossattn.sources._parsing import FIELDS, Candles, Page

Slots = tuple[int, int]  # first and last, both included
_PIECE = 20_000  # candles that are merged into the large arrays at a time


@dataclass(frozen=True)
class Range:
    """Which candles are asked for: ``first`` None means the newest ``limit`` up to ``last``."""

    first: int | None
    last: int
    limit: int


class Pager:
    """Download one symbol's candles page by page; keep them in the cache, ask for the rest only."""

    def __init__(
        self,
        client: KlineClient,
        symbol: str,
        interval: Interval,
        wanted: Range,
        cache: BarCache | None = None,
    ):
        self.symbol, self._client, self._interval, self._wanted = symbol, client, interval, wanted
        self.failure: CrossAttentionError | None = None
        self.notices: list[str] = []
        self.deadline = Deadline(client.limits.give_up_s)
        self._bounds: Slots | None = None
        self._clock_ms: int | None = None  # the venue's, as of its newest answer
        # recent candles are few, so that a page does not copy all that are held
        self._held, self._recent = Candles.none(), Candles.none()
        self._absent: list[Slots] = []  # found empty by the fetch under way
        self._cache, self._pages, self._saved_pages = cache, 0, 0
        if cache is not None:
            self._path = cache.path(client.host, client.category, interval.code, symbol)
        self._saved = self._state()

    def run(self) -> None:
        """Fetch until done, refused or stopped; what came is in the cache at the end."""
        self._load()
        try:
            if self._wanted.first is None:
                self._collect_newest()
            else:
                self._bounds = (self._wanted.first, self._wanted.last)
                self._collect(*self._bounds)
            # the next fetch asks again for what this one did not find
            self._absent.clear()
        finally:
            self._save()

    def result(self) -> Candles | None:
        """Return the candles within the bounds asked for; None where there is no result."""
        if self.failure is not None or self._bounds is None:
            return None
        candles = self._all().within(*self._bounds)
        if self._wanted.first is not None:
            return candles
        return candles.pick(np.arange(len(candles)) >= len(candles) - self._wanted.limit)

    def gaps(self, candles: Candles) -> list[Gap]:
        """Return the missing ranges of closed candles, oldest first."""
        first, last = self._bounds
        last = self._last_closed(last)
        if self._clock_ms is None:
            # stopped before the venue told its time: name nothing that our clock calls open
            last = min(last, self._interval.closed_before(time.time_ns() // 1_000_000))
        if self._wanted.first is None and len(candles):
            first = int(candles.slots[0])
        opened = self._interval.open_of
        return [
            Gap(self.symbol, opened(a), opened(b), b - a + 1)
            for a, b in missing_ranges(candles.slots, first, last)
        ]

    def _collect_newest(self) -> None:
        """Fetch the newest ``limit`` candles; where some are missing, look further back."""
        limit = self._wanted.limit
        newest = self._ask(None, min(limit + 1, PAGE_CANDLES)).candles  # one may still be open
        self._take(newest)
        newest = newest.within(0, self._wanted.last)
        last = self._last_closed(self._wanted.last)
        first = max(0, (int(newest.slots[-1]) if len(newest) else last) - limit + 1)
        self._bounds = (first, last)
        came, before = len(self._within(first, last)), -1
        # each round reaches back by what was missing, until a round brings nothing new
        while before < came < limit and first > 0:
            self._collect(first, last)
            before, came = came, len(self._within(first, last))
            first = max(0, first - max(0, limit - came))
            self._bounds = (first, last)

    def _collect(self, first: int, last: int) -> None:
        """Ask for whatever of the closed candles ``first`` to ``last`` is not held yet."""
        now = self._interval.slot_of(time.time_ns() // 1_000_000)
        if last >= now and self._clock_ms is None and self._unknown(first, last):
            # a page without a range gives the venue's time, which decides what has closed; local
            # time only suggests that this request is the cheaper one here
            self._take(self._ask(None).candles)
        last = self._last_closed(last)
        may_probe = True
        for lo, hi in plan_windows(self._unknown(first, last)):
            before = self._count()
            self._fill(lo, hi)
            if self._count() > before:
                may_probe = True
            elif may_probe and hi - lo + 1 == PAGE_CANDLES and lo > first:
                # a whole page of nothing: perhaps the listing. Asking for all that is older in one
                # request spares a young symbol thousands of empty pages; asked once a dry spell
                may_probe = False
                if self._is_empty(first, lo - 1):
                    self._note_absent([(first, lo - 1)])
                    return

    def _fill(self, lo: int, hi: int) -> None:
        """Ask until every slot of the window is held or believed to be missing.

        A venue may leave rows out by mistake, cap a page below the limit, or answer a window that
        starts before the listing with nothing at all. So: ask for all that is wanted; after a
        second answer without anything new, believe it where it held other candles, or where a
        single slot was asked for. Otherwise probe the newest slot alone, double the probe while it
        finds something (the listing is being approached from above), halve it when it does not.
        """
        wanted = self._slots_wanted(lo, hi)
        fresh = Candles.none()
        dry = 0  # answers in a row, to the whole window, that brought nothing
        probe = 0  # how many of the newest wanted slots to ask for; 0: all of them
        for _ in range(self._client.limits.asks):
            if not wanted.size:
                return
            newest = int(wanted[-1])
            oldest = max(int(wanted[0]), newest - probe + 1) if probe else int(wanted[0])
            page = self._ask((oldest, newest))
            self._refuse_contradiction(fresh, page.candles)
            fresh = fresh.merge(page.candles)
            before = wanted.size
            wanted = wanted[~np.isin(wanted, fresh.slots) & (wanted <= self._last_closed(hi))]
            self._take(page.candles)
            if page.problems:
                # the client has asked often enough: these rows stay faulty, and are left out
                self.notices += [f"{self.symbol}: left out, {problem}" for problem in page.problems]
                return
            if wanted.size < before:
                dry, probe = 0, 2 * probe
            elif probe == 1:
                break
            elif probe:
                probe //= 2
            else:
                dry += 1
                if dry == 2 and (len(page.candles) or wanted.size == 1):
                    break
                probe = int(dry == 2)
        else:
            raise VenueError(
                f"{self.symbol}: {self._client.host} hands out too few candles an answer to be used"
            )
        self._note_absent(self._unknown(int(wanted[0]), int(wanted[-1])))

    def _is_empty(self, first: int, last: int) -> bool:
        """Whether the venue says, twice, that a wide range holds no candle at all."""
        if len(self._within(first, last)):
            return False
        for _ in range(2):
            page = self._ask((first, last))
            self._take(page.candles)
            if len(page.candles) or page.problems:
                return False
        return True

    def _ask(self, window: Slots | None, limit: int = PAGE_CANDLES) -> Page:
        around = None if window is None else self._within(window[0] - 3, window[1] + 3)
        page = self._client.get_page(
            self.symbol, self._interval, window, self.deadline, limit=limit, neighbours=around
        )
        self._clock_ms = page.clock_ms
        self._pages += 1
        return page

    def _take(self, candles: Candles) -> None:
        """Keep ``candles``; of a slot that is held already, what is held counts."""
        if not len(candles):
            return
        known = self._held.within(int(candles.slots[0]), int(candles.slots[-1])).slots
        self._recent = self._recent.merge(candles.pick(~np.isin(candles.slots, known)))
        if len(self._recent) > _PIECE:
            self._all()
        self._save_now_and_then()

    def _note_absent(self, ranges: list[Slots]) -> None:
        self._absent += ranges
        self._save_now_and_then()

    def _last_closed(self, last: int) -> int:
        """Return ``last``, or the newest slot that has closed by the venue's clock if earlier."""
        if self._clock_ms is None:
            return last
        return min(last, self._interval.closed_before(self._clock_ms))

    def _unknown(self, first: int, last: int) -> list[Slots]:
        """Return the ranges that are neither held nor known to be absent."""
        missing = missing_ranges(self._within(first, last).slots, first, last)
        return subtract_ranges(missing, self._absent)

    def _slots_wanted(self, lo: int, hi: int) -> np.ndarray:
        ranges = [np.arange(a, b + 1) for a, b in self._unknown(lo, hi)]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int64)

    def _within(self, first: int, last: int) -> Candles:
        return self._held.within(first, last).merge(self._recent.within(first, last))

    def _all(self) -> Candles:
        self._held, self._recent = self._held.merge(self._recent), Candles.none()
        return self._held

    def _count(self) -> int:
        return len(self._held) + len(self._recent)

    def _refuse_contradiction(self, earlier: Candles, later: Candles) -> None:
        """Refuse a venue that gives a closed candle different values within one window."""
        slots, a, b = np.intersect1d(earlier.slots, later.slots, return_indices=True)
        differ = (earlier.values[a] != later.values[b]).any(axis=1)
        if differ.any():
            when = format_time(self._interval.open_of(int(slots[differ][0])))
            raise VenueError(
                f"{self.symbol}: {self._client.host} gives the closed candle of {when} with "
                "different values in two answers"
            )

    def _load(self) -> None:
        if self._cache is None:
            return
        try:
            table = self._cache.read(self._path)
            if table is None:
                return
            self._held = _from_table(table, self._interval, self._path)
            self._absent = [(int(a), int(b)) for a, b in table.notes.get("absent", [])]
        except DamagedFileError as error:
            self.notices.append(f"{self.symbol}: cache file fetched anew: {printable(error, 300)}")
        self._saved = self._state()

    def _save_now_and_then(self) -> None:
        # a fifth of the pages so far is the most that a crash can cost
        if self._pages - self._saved_pages >= max(1, self._pages // 5):
            self._save()

    def _save(self) -> None:
        if self._cache is None or self._state() == self._saved:
            return
        candles = self._all()
        columns = {name: candles.values[:, i] for i, name in enumerate(FIELDS)}
        opens = self._interval.open_of(candles.slots)
        self._cache.merge(self._path, Table(opens, columns, {"absent": self._absent}))
        self._saved, self._saved_pages = self._state(), self._pages

    def _state(self) -> tuple[int, list]:
        return self._count(), list(self._absent)


def _from_table(table: Table, interval: Interval, path: os.PathLike) -> Candles:
    slots = interval.slot_of(table.keys)
    if list(table.columns) != list(FIELDS) or (interval.open_of(slots) != table.keys).any():
        raise DamagedFileError(f"{path} does not hold candles of this interval")
    values = np.column_stack([table.columns[name] for name in FIELDS])
    return Candles(slots, np.ascontiguousarray(values, dtype=np.float64))


def missing_ranges(slots: np.ndarray, first: int, last: int) -> list[Slots]:
    """Return the ranges of ``first``..``last`` that ``slots`` (increasing) lacks, oldest first.

    Examples
    --------
    >>> missing_ranges(np.array([3, 4, 7]), 2, 9)
    [(2, 2), (5, 6), (8, 9)]
    """
    inside = slots[np.searchsorted(slots, first) : np.searchsorted(slots, last, "right")]
    edges = np.concatenate([[first - 1], inside, [last + 1]])
    holes = np.flatnonzero(np.diff(edges) > 1)
    return [(int(edges[i]) + 1, int(edges[i + 1]) - 1) for i in holes]


def plan_windows(ranges: list[Slots], size: int = PAGE_CANDLES) -> list[Slots]:
    """Cover ``ranges`` by windows of at most ``size`` slots, newest first.

    Examples
    --------
    >>> plan_windows([(1, 2), (9, 9), (12, 25)], size=10)
    [(16, 25), (9, 15), (1, 2)]
    """
    windows: list[Slots] = []
    for lo, hi in reversed(ranges):
        if windows and hi > windows[-1][1] - size:
            # the window above has room: let it reach down into this range
            top = windows[-1][1]
            bottom = max(lo, top - size + 1)
            windows[-1] = (bottom, top)
            hi = bottom - 1
        while hi >= lo:
            bottom = max(lo, hi - size + 1)
            windows.append((bottom, hi))
            hi = bottom - 1
    return windows


def subtract_ranges(ranges: list[Slots], taken: list[Slots]) -> list[Slots]:
    """Return what of ``ranges`` (increasing) no range of ``taken`` covers.

    Examples
    --------
    >>> subtract_ranges([(1, 9), (12, 13)], [(3, 4), (8, 12)])
    [(1, 2), (5, 7), (13, 13)]
    """
    left = list(ranges)
    for a, b in taken:
        below = [(lo, min(hi, a - 1)) for lo, hi in left if lo < a]
        above = [(max(lo, b + 1), hi) for lo, hi in left if hi > b]
        left = below + above
    return left
