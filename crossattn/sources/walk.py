"""Which windows of one symbol to ask for, and when an absence counts as a gap.

From the newest window to the oldest, so that the venue's clock is known first and the listing is
met last. An empty or short answer may be a fault: a range is asked for again before it is believed
to be missing, and then its newest candle alone, because a venue may answer a window that starts
before the listing with nothing at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from crossattn.errors import VenueError
from crossattn.sources.intervals import Interval, format_time
from crossattn.sources.klines import Candles, Page, missing_ranges
from crossattn.sources.venue import PAGE_CANDLES, KlineVenue, Patience

Range = tuple[int, int]
_PIECE = 20_000  # candles that are merged into the large arrays at a time


@dataclass
class Walk:
    """The candles of one symbol, as far as they have come.

    Parameters
    ----------
    venue : KlineVenue
    symbol : str
    interval : Interval
    held : Candles
        What is known already; it is not asked for again.
    absent : list of (int, int)
        Ranges of slots that the fetch under way has found empty.
    on_page : callable
        Called with the walk after each step forward, so that it can be saved.
    """

    venue: KlineVenue
    symbol: str
    interval: Interval
    held: Candles = field(default_factory=Candles.none)
    absent: list[Range] = field(default_factory=list)
    on_page: Callable[[Walk], None] = lambda walk: None
    pages: int = 0
    problems: list[str] = field(default_factory=list)
    clock_ms: int | None = None

    def __post_init__(self):
        self.patience = Patience(self.venue.limits.give_up_s)
        self._recent = Candles.none()

    def all_held(self) -> Candles:
        """Return all that is held, in one piece."""
        if len(self._recent):
            self.held, self._recent = self.held.merge(self._recent), Candles.none()
        return self.held

    def count(self) -> int:
        """Return how many candles are held."""
        return len(self.held) + len(self._recent)

    def newest(self, limit: int = PAGE_CANDLES) -> Candles:
        """Ask for the newest candles, without a range: it also tells the venue's clock."""
        page = self._ask(None, limit)
        self._take(page.candles)
        return page.candles

    def last_closed(self, last: int) -> int:
        """Return ``last``, or the newest slot that has closed by the venue's clock if earlier."""
        if self.clock_ms is None:
            return last
        return min(last, self.interval.closed_before(self.clock_ms))

    def collect(self, first: int, last: int) -> None:
        """Ask for whatever of the closed candles ``first`` to ``last`` is not held yet."""
        local = self.interval.slot_of(time.time_ns() // 1_000_000)
        if last >= local and self.clock_ms is None and self._unknown(first, last):
            # our own clock only chooses the cheaper question; what has closed the venue says
            self.newest()
        last = self.last_closed(last)
        may_probe = True
        for lo, hi in plan_windows(self._unknown(first, last)):
            before = self.count()
            self._fill(lo, hi)
            if self.count() > before:
                may_probe = True
            elif may_probe and hi - lo + 1 == PAGE_CANDLES and lo > first:
                may_probe = False
                if self._nothing_within(first, lo - 1):
                    self._note_absent([(first, lo - 1)])
                    return

    def _fill(self, lo: int, hi: int) -> None:
        """Ask until every slot of the window is held or believed to be missing."""
        want = self._wanted(lo, hi)
        fresh = Candles.none()
        strikes, tail = 0, 0  # tail: how many of the newest wanted slots to ask for, 0 all
        for _ in range(self.venue.limits.asks):
            if not want.size:
                return
            start = max(int(want[0]), int(want[-1]) - tail + 1) if tail else int(want[0])
            page = self._ask((start, int(want[-1])))
            self._refuse_contradiction(fresh, page.candles)
            fresh = fresh.merge(page.candles)
            before = want.size
            want = want[~np.isin(want, fresh.slots) & (want <= self.last_closed(hi))]
            self._take(page.candles)
            if page.problems:
                self.problems += page.problems
                return
            if want.size < before:
                strikes, tail = 0, 2 * tail
            elif tail == 1:
                break
            elif tail:
                tail //= 2
            else:
                strikes += 1
                if strikes == 2 and (len(page.candles) or want.size == 1):
                    break
                tail = int(strikes == 2)
        else:
            raise VenueError(
                f"{self.symbol}: {self.venue.host} hands out too few candles an answer to be used"
            )
        self._note_absent(self._unknown(int(want[0]), int(want[-1])))

    def _nothing_within(self, first: int, last: int) -> bool:
        """Whether the venue says, twice, that a wide range holds no candle at all."""
        if len(self._within(first, last)):
            return False
        for _ in range(2):
            page = self._ask((first, last))
            self._take(page.candles)
            if len(page.candles) or page.problems:
                return False
        return True

    def _unknown(self, first: int, last: int) -> list[Range]:
        """Return the ranges that are neither held nor known to be absent."""
        return subtract_ranges(
            missing_ranges(self._within(first, last).slots, first, last), self.absent
        )

    def _wanted(self, lo: int, hi: int) -> np.ndarray:
        ranges = [np.arange(a, b + 1) for a, b in self._unknown(lo, hi)]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int64)

    def _ask(self, window: Range | None, limit: int = PAGE_CANDLES) -> Page:
        around = None if window is None else self._within(window[0] - 3, window[1] + 3)
        page = self.venue.ask(
            self.symbol, self.interval, window, self.patience, limit=limit, neighbours=around
        )
        self.clock_ms = page.clock_ms
        self.pages += 1
        return page

    def _take(self, candles: Candles) -> None:
        if not len(candles):
            return
        known = self.held.within(int(candles.slots[0]), int(candles.slots[-1])).slots
        self._recent = self._recent.merge(candles.pick(~np.isin(candles.slots, known)))
        if len(self._recent) > _PIECE:
            self.all_held()
        self.on_page(self)

    def _within(self, first: int, last: int) -> Candles:
        return self.held.within(first, last).merge(self._recent.within(first, last))

    def _note_absent(self, ranges: list[Range]) -> None:
        self.absent += ranges
        self.on_page(self)

    def _refuse_contradiction(self, earlier: Candles, later: Candles) -> None:
        """Refuse a venue that tells the same closed candle in two ways within one window."""
        slots, a, b = np.intersect1d(earlier.slots, later.slots, return_indices=True)
        differ = (earlier.values[a] != later.values[b]).any(axis=1)
        if differ.any():
            when = format_time(self.interval.open_of(int(slots[differ][0])))
            raise VenueError(
                f"{self.symbol}: {self.venue.host} gives the closed candle of {when} with "
                "different values in two answers"
            )


def plan_windows(ranges: list[Range], size: int = PAGE_CANDLES) -> list[Range]:
    """Cover ``ranges`` by windows of at most ``size`` slots, newest first.

    Examples
    --------
    >>> plan_windows([(1, 2), (9, 9), (12, 25)], size=10)
    [(16, 25), (9, 15), (1, 2)]
    """
    windows: list[Range] = []
    for lo, hi in reversed(ranges):
        if windows and hi > windows[-1][1] - size:
            top = windows[-1][1]
            bottom = max(lo, top - size + 1)
            windows[-1] = (bottom, top)
            hi = bottom - 1
        while hi >= lo:
            bottom = max(lo, hi - size + 1)
            windows.append((bottom, hi))
            hi = bottom - 1
    return windows


def subtract_ranges(ranges: list[Range], taken: list[Range]) -> list[Range]:
    """Return what of ``ranges`` (increasing) no range of ``taken`` covers.

    Examples
    --------
    >>> subtract_ranges([(1, 9), (12, 13)], [(3, 4), (8, 12)])
    [(1, 2), (5, 7), (13, 13)]
    """
    left = list(ranges)
    for a, b in sorted(taken):
        parts = []
        for lo, hi in left:
            if b < lo or hi < a:
                parts.append((lo, hi))
                continue
            if lo < a:
                parts.append((lo, a - 1))
            if b < hi:
                parts.append((b + 1, hi))
        left = parts
    return left
