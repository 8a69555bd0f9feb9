"""Faults of clocks: spacing, gaps and missing bars of one asset, and clocks that do not meet."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from crossattn.data._series import Fault, Series, shown, times_of
from crossattn.data.durations import span_text
from crossattn.errors import first_names

FEW_BARS = 50
OTHER_SPACING = 1.5
SPACING_RUN = 20
SPACING_SHARE = 0.6
MISSING = 0.4
END_BARS = 50
FEWEST_CYCLES = 3
MEET = 0.8
SAMPLED_ROWS = 48_000
_BLOCKS = 12


def clock_fault(asset: Series) -> Fault | None:
    """Return what is wrong with one asset's own clock: few bars, spacing, missing bars or a gap."""
    if len(asset) < FEW_BARS:
        text = f"{len(asset)} bars only: too few for the warm-up of features and a window"
        return Fault(asset, "few bars", 0, float(len(asset)), text)
    if change := _spacing_change(asset):
        return change
    missing = 1 - _density(asset)
    if missing > MISSING:
        text = f"{missing:.0%} of its bars are missing between {times_of(asset, 0, -1)}"
        return Fault(asset, "missing", 0, missing, text)
    return _longest_gap(asset)


def _spacing_change(asset: Series) -> Fault | None:
    """Return the longest stretch of regular steps that are not the usual ones."""
    ratio = asset.steps / asset.spacing
    # closed hours interrupt a stretch of shorter steps, and only those
    for is_other, wanted in (
        (ratio > OTHER_SPACING, SPACING_RUN),
        (ratio < 1 / OTHER_SPACING, SPACING_SHARE * SPACING_RUN),
    ):
        inside = np.convolve(is_other, np.ones(SPACING_RUN), "valid")
        begin = np.flatnonzero(inside >= wanted)
        if not len(begin):
            continue
        first = int(begin[0] + np.argmax(is_other[begin[0] : begin[0] + SPACING_RUN]))
        breaks = np.flatnonzero(np.diff(begin) > SPACING_RUN)
        stop = begin[breaks[0] if len(breaks) else -1] + SPACING_RUN
        stretch = asset.steps[first:stop]
        lengths, counts = np.unique(stretch, return_counts=True)
        if counts.max() < SPACING_SHARE * len(stretch):
            continue
        usual = lengths[counts.argmax()]
        text = (
            f"a bar every {asset.duration(usual)} from {times_of(asset, first, stop)}, "
            f"every {asset.duration(asset.spacing)} elsewhere"
        )
        return Fault(asset, "spacing", first, float(usual / asset.spacing), text)
    return None


def _density(asset: Series) -> float:
    """How often an asset has a bar at the times of the week at which it ever has one, 0 to 1.

    Closed hours, nights and weekends are no missing bars; a file with random rows left out is.
    """
    day = pd.Timedelta(1, "D") // pd.Timedelta(1, asset.opens.unit)
    if asset.spacing >= 2 * day:
        return len(asset) / (1 + np.median(asset.steps) / asset.spacing * len(asset.steps))
    opens = asset.opens.asi8
    span = opens[-1] - opens[0] + asset.spacing
    cycle = 7 * day if span >= 28 * day else day
    # daylight saving time moves a daily bar within its day
    slot = (opens % cycle) // (day if asset.spacing * 2 > day else asset.spacing)
    counts = np.unique(slot, return_counts=True)[1]
    if span < FEWEST_CYCLES * cycle:
        return 1.0
    return float((counts * (counts - 1)).sum() / counts.sum() / (span / cycle - 1))


def _longest_gap(asset: Series) -> Fault | None:
    """Return the longest stretch without bars if it is far longer than the asset's closures."""
    wide = np.flatnonzero(asset.steps > asset.longest_closure)
    if not len(wide):
        return None
    row = int(wide[asset.steps[wide].argmax()])
    length = asset.steps[row]
    text = f"no bar for {asset.duration(length)}, between {times_of(asset, row, row + 1)}"
    if len(wide) > 1:
        text += f"; {len(wide)} such gaps"
    return Fault(asset, "gap", row + 1, float(length / asset.spacing - 1), text)


def shared_clock_faults(assets: Sequence[Series]) -> Iterator[Fault]:
    """Yield what is wrong between the clocks of several assets."""
    assets = [asset for asset in assets if asset.spacing is not None]
    if len(assets) < 2:
        return
    yield from _other_spacing(assets)
    yield from _early_ends(assets)
    yield from _apart(assets)


def _other_spacing(assets: Sequence[Series]) -> Iterator[Fault]:
    counts = Counter(asset.spacing for asset in assets)
    usual = min(counts, key=lambda spacing: (-counts[spacing], spacing))
    for asset in assets:
        ratio = asset.spacing / usual
        if asset.is_regular and not 1 / OTHER_SPACING < ratio < OTHER_SPACING:
            text = (
                f"clock has a bar every {asset.duration(asset.spacing)}, those of {counts[usual]} "
                f"of {len(assets)} assets every {asset.duration(usual)}"
            )
            yield Fault(asset, "spacing", 0, float(ratio), text)


def _early_ends(assets: Sequence[Series]) -> Iterator[Fault]:
    lasts = np.array([asset.known[-1] for asset in assets])
    for place, asset in enumerate(assets):
        others = int(np.median(np.delete(lasts, place)))
        late = others - asset.known[-1]
        if late > max(END_BARS * asset.spacing, asset.longest_closure):
            days = pd.Timedelta(int(late), unit=asset.opens.unit) / pd.Timedelta(1, "D")
            text = f"ends at {asset.time(-1)}, {days:.1f} days before the others"
            yield Fault(asset, "ends early", len(asset) - 1, days, text)


def _apart(assets: Sequence[Series]) -> Iterator[Fault]:
    """Yield the assets whose bars close beside those of the others, not with them."""
    group = clock_groups(assets)
    reference = np.flatnonzero(group == 0)
    if len(reference) == len(assets):
        return
    clock = np.unique(np.concatenate([assets[place].known for place in reference]))
    theirs = first_names([shown(assets[place].symbol) for place in reference], most=1)
    step = min(assets[place].spacing for place in reference)
    for place in np.flatnonzero(group):
        asset = assets[place]
        offset = _offsets(asset.known, clock)
        near = np.abs(offset) <= min(step, asset.spacing) / 2
        off = near & (offset != 0)
        if off.sum() <= (1 - MEET) * max(1, near.sum()):
            continue
        usual = int(pd.Series(offset[off]).mode()[0])
        length = pd.Timedelta(usual, unit=asset.opens.unit)
        share = 1 - off.sum() / near.sum()
        text = (
            f"clock is mostly {span_text(abs(length))} {'later' if usual > 0 else 'earlier'} than "
            f"that of {theirs}: {share:.0%} of its bars close together with theirs, "
            f"first apart at {asset.time(int(off.argmax()))}"
        )
        yield Fault(asset, "clock", int(off.argmax()), float(length / pd.Timedelta(1, "s")), text)


def _offsets(known: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Signed distance of each close time from the nearest one of another clock."""
    right = np.searchsorted(clock, known)
    after = clock[np.minimum(right, len(clock) - 1)]
    before = clock[np.maximum(right - 1, 0)]
    return np.where(np.abs(known - before) <= np.abs(after - known), known - before, known - after)


def clock_groups(assets: Sequence[Series]) -> np.ndarray:
    """Number the groups of assets that mostly close together; 0 is the one to compare with."""
    meet = _meeting(assets)
    n_groups, label = connected_components(meet, directed=False)
    if n_groups == 1:
        return label
    size = np.bincount(label)

    def rank(group: int) -> tuple:
        asset = assets[int(np.argmax(label == group))]
        phase = int(np.median(asset.known % asset.spacing))  # whole hours and days come first
        return -size[group], min(phase, asset.spacing - phase), group

    order = sorted(range(n_groups), key=rank)
    return np.argsort(order)[label]


def _meeting(assets: Sequence[Series]) -> np.ndarray:
    """Whether two assets close together in most bars of the scarcer one, where both live."""
    rows, n_rows = rows_on_clock(assets)
    n = len(assets)
    together, alive_with = np.zeros((2, n, n), dtype=np.float32)
    for begin, stop in sampled_blocks(n_rows, SAMPLED_ROWS):
        present, alive = np.zeros((2, stop - begin, n), dtype=np.float32)
        for place, own in enumerate(rows):
            inside = own[np.searchsorted(own, begin) : np.searchsorted(own, stop)]
            present[inside - begin, place] = 1
            alive[max(0, own[0] - begin) : max(0, own[-1] + 1 - begin), place] = 1
        together += present.T @ present
        alive_with += present.T @ alive
    scarcer = np.minimum(alive_with, alive_with.T)
    return together >= MEET * np.where(scarcer > 0, scarcer, np.inf)


def rows_on_clock(assets: Sequence[Series]) -> tuple[list[np.ndarray], int]:
    """Return where each asset's bars stand on the clock of all, and how many rows that has."""
    clock = np.unique(np.concatenate([asset.known for asset in assets]))
    return [np.searchsorted(clock, asset.known) for asset in assets], len(clock)


def sampled_blocks(n_rows: int, most: int) -> list[tuple[int, int]]:
    """Return stretches of rows, all of them or some that are spread evenly."""
    if n_rows <= most:
        edges = np.linspace(0, n_rows, min(_BLOCKS, max(1, n_rows // 4000)) + 1).astype(int)
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    length = most // _BLOCKS
    begins = np.linspace(0, n_rows - length, _BLOCKS).astype(int).tolist()
    return [(begin, begin + length) for begin in begins]
