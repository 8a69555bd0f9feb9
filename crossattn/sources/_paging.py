"""Paged download of one symbol: cached candles, windows to request, missing ranges.

Windows are requested newest first, so that the venue's clock is known first and the listing is met
last. An empty or short page is requested again before its bars count as missing.
"""

import time

import numpy as np
import pandas as pd

from crossattn.data.frame import Frame, check_frame
from crossattn.errors import DamagedFileError, VenueError
from crossattn.sources._cache import BarCache, merge_rows
from crossattn.sources._client import PAGE_CANDLES, KlineClient
from crossattn.sources._downloads import Download, Gap
from crossattn.sources._http import printable
from crossattn.sources._intervals import Interval, format_time, from_ms, to_ms
from crossattn.sources._parsing import FIELDS, NO_CANDLES, Page

Slots = tuple[int, int]  # first and last, both included
_PIECE = 20_000  # candles that are merged into the large table at a time


class Pager(Download):
    """Download one symbol's candles page by page; keep them in the cache, request only the rest.

    Requested are slots ``first`` to ``last``; with ``first`` None the newest ``limit`` up to
    ``last``.
    """

    def __init__(
        self,
        client: KlineClient,
        symbol: str,
        interval: Interval,
        wanted: tuple[int | None, int, int],
        cache: BarCache | None,
    ):
        super().__init__(symbol, client.limits.give_up_s)
        self._client, self._interval = client, interval
        self._first, self._last, self._limit = wanted
        self._bounds: Slots | None = None
        self._clock_ms: int | None = None  # the venue's, as of its newest answer
        # recent candles are few, so that a page does not copy all that are held
        self._held, self._recent = NO_CANDLES, NO_CANDLES
        self._absent: list[Slots] = []  # found empty; the next fetch requests them again
        self._cache, self._pages, self._saved_pages, self._unsaved = cache, 0, 0, False
        if cache is not None:
            self._path = cache.path(client.host, client.category, interval.code, symbol)

    def run(self) -> None:
        """Fetch until done, refused or stopped; all bars received are in the cache at the end."""
        self._load()
        try:
            if self._first is None:
                self._collect_newest()
            else:
                self._bounds = (self._first, self._last)
                self._collect(*self._bounds)
        finally:
            self._save()

    def result(self) -> tuple[Frame | None, list[Gap]]:
        """Return the frame within the requested bounds, and the missing ranges of closed candles.

        VenueError: there is no candle at all.
        """
        if self._bounds is None:
            return None, []
        first, last = self._bounds
        candles = self._within(first, last)
        if not len(candles):
            raise VenueError(
                f"{self.symbol}: {self._client.host} has no closed {self._client.category} bar of "
                f"interval {self._interval.code} in the range asked for"
            )
        if self._first is None:
            candles = candles.tail(self._limit)
            first = int(candles.index[0])
        # stopped before the venue's clock is known: report nothing that is open by our own
        clock_ms = self._clock_ms or time.time_ns() // 1_000_000
        last = min(last, self._interval.closed_before(clock_ms))
        slots, opened = candles.index.to_numpy(), self._interval.open_of
        frame = candles.set_axis(from_ms(opened(slots)).rename("time"))
        frame["close_time"] = from_ms(opened(slots + 1))
        missing = missing_ranges(slots, first, last)
        gaps = [Gap(self.symbol, opened(a), opened(b), b - a + 1) for a, b in missing]
        return check_frame(frame, self.symbol), gaps

    def _collect_newest(self) -> None:
        """Fetch the newest ``limit`` candles; where some are missing, look further back."""
        limit = self._limit
        newest = self._ask(None, min(limit + 1, PAGE_CANDLES)).candles.loc[: self._last]
        last = self._last_closed(self._last)
        first = max(0, (int(newest.index[-1]) if len(newest) else last) - limit + 1)
        self._bounds = (first, last)
        received, before = len(self._within(first, last)), -1
        # each round goes back by what was missing, until one brings nothing new
        while before < received < limit and first > 0:
            self._collect(first, last)
            before, received = received, len(self._within(first, last))
            first = max(0, first - max(0, limit - received))
            self._bounds = (first, last)

    def _collect(self, first: int, last: int) -> None:
        """Request those closed candles from ``first`` to ``last`` that are not held yet."""
        now = self._interval.slot_of(time.time_ns() // 1_000_000)
        if last >= now and self._clock_ms is None and self._unknown(first, last):
            # a page without a range has the venue's clock, which decides what has closed; our
            # own clock only shows that this request is the cheaper one here
            self._ask(None)
        last = self._last_closed(last)
        may_look_back = True
        for lo, hi in plan_windows(self._unknown(first, last)):
            if self._fill(lo, hi):
                may_look_back = True
            elif (
                may_look_back
                and hi - lo + 1 == PAGE_CANDLES
                and lo > first
                and self._within(first, lo - 1).empty
            ):
                # an empty page: perhaps the listing. Requesting all that is older at once spares a
                # young symbol thousands of empty pages; done once in a run of empty pages
                may_look_back = False
                pages = (self._ask((first, lo - 1)) for _ in range(2))
                if not any(len(page.candles) or page.problems for page in pages):
                    self._absent.append((first, lo - 1))
                    return

    def _fill(self, lo: int, hi: int) -> bool:
        """Request a window until each slot is received or counts as missing; return if any was new.

        A venue may leave rows out by mistake or cap a page below the limit, so what is missing is
        requested again, until two pages in a row bring nothing new.
        """
        fresh, dry = NO_CANDLES, 0
        for _ in range(self._client.limits.asks):
            unknown = self._unknown(lo, self._last_closed(hi))
            if dry == 2 or not unknown:
                break
            page = self._ask((unknown[0][0], unknown[-1][1]), earlier=fresh)
            if page.problems:
                # the client has retried often enough: these rows stay faulty, and are left out
                return True
            dry = dry + 1 if page.candles.index.isin(fresh.index).all() else 0
            fresh = merge_rows(fresh, page.candles)
        else:
            raise VenueError(
                f"{self.symbol}: {self._client.host} hands out too few candles an answer to be used"
            )
        received = len(fresh) > 0
        if unknown and not received:
            received = self._approach_listing(unknown[0][0], unknown[-1][1])
        self._absent += self._unknown(lo, hi)
        return received

    def _approach_listing(self, lo: int, hi: int) -> bool:
        """Ask for the newest slots of a window that was answered with nothing; did anything come?

        A venue may have no answer for a window that starts before the listing, so the listing is
        approached from above: in steps that double while they find something, and halve after.
        """
        step, top = 1, hi
        for _ in range(self._client.limits.asks):
            if not step or top < lo:
                break
            candles = self._ask((max(lo, top - step + 1), top)).candles
            step = 2 * step if len(candles) else step // 2
            top = int(candles.index[0]) - 1 if len(candles) else top
        return top < hi

    def _ask(
        self, window: Slots | None, limit: int = PAGE_CANDLES, earlier: pd.DataFrame = NO_CANDLES
    ) -> Page:
        """Return one page and keep its candles; of a slot held already, what is held counts.

        A venue that contradicts its ``earlier`` candles of the window is refused.
        """
        around = NO_CANDLES if window is None else self._within(window[0] - 3, window[1] + 3)
        page = self._client.get_page(self, self._interval, window, limit=limit, neighbours=around)
        self._clock_ms = page.clock_ms
        self._pages += 1
        candles = page.candles
        self._refuse_contradiction(earlier, candles)
        notices = [f"{self.symbol}: left out, {problem}" for problem in page.problems]
        self.notices += [notice for notice in notices if notice not in self.notices]
        if len(candles):
            known = self._within(candles.index[0], candles.index[-1]).index
            new = candles[~candles.index.isin(known)]
            self._recent = merge_rows(new, self._recent)
            self._unsaved |= len(new) > 0
        if len(self._recent) > _PIECE:
            self._merge_recent()
        # a fifth of the pages so far is the most that a crash can cost
        if self._cache and self._pages - self._saved_pages >= max(1, self._pages // 5):
            self._save()
        return page

    def _merge_recent(self) -> None:
        self._held, self._recent = merge_rows(self._recent, self._held), NO_CANDLES

    def _within(self, first: int, last: int) -> pd.DataFrame:
        return merge_rows(self._recent.loc[first:last], self._held.loc[first:last])

    def _last_closed(self, last: int) -> int:
        """Return ``last``, or the newest slot that has closed by the venue's clock if earlier."""
        if self._clock_ms is None:
            return last
        return min(last, self._interval.closed_before(self._clock_ms))

    def _unknown(self, first: int, last: int) -> list[Slots]:
        """Return the ranges that are neither held nor known to be absent."""
        missing = missing_ranges(self._within(first, last).index, first, last)
        return subtract_ranges(missing, self._absent)

    def _refuse_contradiction(self, earlier: pd.DataFrame, later: pd.DataFrame) -> None:
        both = earlier.index.intersection(later.index)
        if (differs := (earlier.loc[both] != later.loc[both]).any(axis=1).to_numpy()).any():
            when = format_time(self._interval.open_of(int(both[differs][0])))
            raise VenueError(
                f"{self.symbol}: {self._client.host} gives the closed candle of {when} with "
                "different values in two answers"
            )

    def _load(self) -> None:
        if self._cache is None:
            return
        try:
            if (bars := self._cache.read(self._path)) is None:
                return
            opens = to_ms(bars.index)
            slots = self._interval.slot_of(opens)
            if list(bars.columns) != FIELDS or (self._interval.open_of(slots) != opens).any():
                raise DamagedFileError(f"{self._path} does not hold candles of this interval")
            self._held = bars.set_axis(slots)
        except DamagedFileError as error:
            self.notices.append(f"{self.symbol}: cache file fetched anew: {printable(error, 300)}")

    def _save(self) -> None:
        if self._cache is None or not self._unsaved:
            return
        self._merge_recent()
        opens = from_ms(self._interval.open_of(self._held.index.to_numpy()))
        self._cache.write(self._path, self._held.set_axis(opens), merge=True)
        self._saved_pages, self._unsaved = self._pages, False


def missing_ranges(slots, first: int, last: int) -> list[Slots]:
    """Return the ranges of ``first``..``last`` that ``slots`` (increasing) lacks, oldest first.

    Examples
    --------
    >>> missing_ranges(np.array([3, 4, 7]), 2, 9)
    [(2, 2), (5, 6), (8, 9)]
    """
    inside = slots[(slots >= first) & (slots <= last)]
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
    while ranges:
        top = ranges[-1][1]
        reach = top - size + 1
        windows.append((min(max(lo, reach) for lo, hi in ranges if hi >= reach), top))
        ranges = subtract_ranges(ranges, [(reach, top)])
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
