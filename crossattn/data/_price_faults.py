"""Faults in the prices and volumes of one asset: splits, misprints, stale stretches, no volume."""

from collections.abc import Iterator
from math import log

import numpy as np
import pandas as pd

from crossattn.data._series import Fault, Series, times_of

SPLIT_FACTORS = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 40, 50, 100, 1000)
SPLIT_NIGHT = 3.0  # a night moves this many local deviations at most ...
SPLIT_SLACK = (0.004, 0.05)  # ... at most this share of log(factor), so that a crash is no split
SPLIT_DEVIATIONS = 8.0  # twice that for 3:2, as far as shares move on a bad night
LEVEL_JUMP = log(3)
MISPRINT = log(1.25)
MISPRINT_DEVIATIONS = 20.0
WICK = log(2)
WICK_DEVIATIONS = 25.0
REVERT = 0.25
STALE_BARS = 12
STALE_RUNS = 3.0
FILLED = 0.9
FILLED_WEEKS = 4
NO_VOLUME = 0.99

_NEAR = 5  # closes on either side that tell the level
_STALE_AROUND = 300
_AROUND = 60  # returns on either side that tell the local deviation


def price_faults(asset: Series) -> Iterator[Fault]:
    """Yield the faults of prices and volumes of one asset, in order of time by kind."""
    if len(asset) >= 2 and np.ptp(asset.close) == 0:
        yield Fault(asset, "constant", 0, float(len(asset)), f"one price in all {len(asset)} bars")
    elif len(asset) >= 2:
        stale, last_stale = _stale(asset)
        yield from _jumps(asset, last_stale)
        yield from stale
    yield from _no_volume(asset)


def _jumps(asset: Series, last_stale: np.ndarray) -> Iterator[Fault]:
    """Yield misprints, and jumps of the level that look like a split or like another unit."""
    spikes = {fault.row: fault for fault in _misprints(asset)}
    yield from spikes.values()
    step = asset.open[1:] - asset.close[:-1]
    moved = np.abs(asset.close[1:] - asset.close[:-1])
    is_wide = (np.abs(step) > 0.9 * log(SPLIT_FACTORS[0])) & (moved > log(1.25))
    is_wide &= asset.steps <= asset.longest_closure
    is_wide[last_stale] = False  # after a gap or a stale stretch the price has simply moved on
    for row in np.flatnonzero(is_wide) + 1:
        if row in spikes or row - 1 in spikes:
            continue
        deviation = asset.deviation(row, _AROUND)
        before = np.median(asset.close[max(0, row - _NEAR) : row])
        after = np.median(asset.close[row : row + _NEAR])
        jump = step[row - 1]
        lasts = abs(after - before - jump) < max(0.1, 6 * deviation, 0.3 * abs(jump))
        if abs(jump) < SPLIT_DEVIATIONS * deviation or not lasts:
            continue
        factor = min(SPLIT_FACTORS, key=lambda k: abs(abs(jump) - log(k)))
        slack = min(SPLIT_NIGHT * deviation + SPLIT_SLACK[0], SPLIT_SLACK[1] * log(factor))
        when = asset.time(row)
        far = SPLIT_DEVIATIONS * (1 if factor >= 2 else 2) * deviation
        if abs(abs(jump) - log(factor)) <= slack and abs(jump) > far:
            name = _split_name(factor, jump < 0)
            figure = factor if jump < 0 else 1 / factor
            text = f"looks like a {name} at {when}: opens at {np.exp(jump):.4g} of the close before"
            yield Fault(asset, "split", row, figure, text)
        elif abs(jump) > LEVEL_JUMP and abs(jump) > 2 * SPLIT_DEVIATIONS * deviation:
            text = f"jumps to {np.exp(jump):.4g} of the close before at {when} and stays there"
            yield Fault(asset, "jump", row, float(np.exp(jump)), f"{text}: another unit or asset?")


def _split_name(factor: float, down: bool) -> str:
    old, new = (1, factor) if factor == int(factor) else (2, int(2 * factor))
    return f"{new:g}:{old} split" if down else f"{old}:{new:g} reverse split"


def _misprints(asset: Series) -> Iterator[Fault]:
    """Yield bars of which one price lies far from the closes on both sides, which agree."""
    top, bottom = (f(asset.open, asset.close) for f in (np.maximum, np.minimum))
    before = np.concatenate([asset.close[1:2], asset.close[:-1]])
    after = np.concatenate([asset.close[1:], asset.close[-2:-1]])
    suspects = {
        "close": np.abs(asset.close - before) > MISPRINT,
        "open": np.minimum(np.abs(asset.open - before), np.abs(asset.open - asset.close))
        > MISPRINT,
        "high": asset.high - np.maximum(top, np.minimum(before, after)) > WICK,
        "low": np.minimum(bottom, np.maximum(before, after)) - asset.low > WICK,
    }
    seen: set[int] = set()
    for name, is_far in suspects.items():
        for row in np.flatnonzero(is_far).tolist():
            # a misprinted open or close drags the high or the low along: one line a bar
            size = 0.0 if row in seen else _spike(asset, name, row)
            if size:
                seen.add(row)
                text = (
                    f"{name} at {asset.time(row)} is {np.exp(size):.4g} of the closes around it, "
                    "like a misprint"
                )
                yield Fault(asset, "misprint", row, float(np.exp(size)), text)


def _spike(asset: Series, name: str, row: int) -> float:
    """Return the log distance of one price from the level on both sides; 0 if it is no spike."""
    close = asset.close
    left, right = close[max(0, row - _NEAR) : row], close[row + 1 : row + 1 + _NEAR]
    value = getattr(asset, name)[row]
    is_wick = name in ("high", "low")
    distances = [value - np.median(side) for side in (left, right) if len(side)]
    if not distances or len(set(np.sign(distances))) > 1:
        return 0.0
    if len(distances) == 1:  # at an end, where nothing but its size tells it from a split
        beyond_split = abs(distances[0]) > 1.1 * log(SPLIT_FACTORS[-2])
        if len(left) + len(right) < _NEAR or not beyond_split:
            return 0.0
    size = min(distances, key=abs)
    limit = WICK_DEVIATIONS if is_wick else MISPRINT_DEVIATIONS
    if abs(size) < limit * asset.deviation(row, _AROUND) or abs(size) < MISPRINT:
        return 0.0
    if abs(distances[0] - distances[-1]) > REVERT * abs(size):
        return 0.0
    return float(size)


def _stale(asset: Series) -> tuple[list[Fault], np.ndarray]:
    """Return the longest run of one close that is too long, and the last bars of all such runs."""
    same = np.diff(asset.close) == 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2] + 1
    pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
    is_long = lengths >= np.array([_long_run(same, *pair) for pair in pairs])
    starts, lengths = starts[is_long], lengths[is_long]
    if not len(lengths):
        return _filled(asset, same), starts
    longest = int(lengths.argmax())
    first, last = starts[longest], starts[longest] + lengths[longest] - 1
    text = f"one price in {lengths[longest]} bars in a row, {times_of(asset, first, last)}"
    if len(lengths) > 1:
        text += f"; {len(lengths)} such runs, {lengths.sum()} bars"
    ends = starts + lengths - 1
    fault = Fault(asset, "stale", int(first), float(lengths[longest]), text)
    return [fault], ends[ends < len(same)]


def _filled(asset: Series, same: np.ndarray) -> list[Fault]:
    """Return times of the week at which the close never moves: closed hours that were filled."""
    week = pd.Timedelta(7, "D") // pd.Timedelta(1, asset.opens.unit)
    slot = (asset.opens.asi8[1:] % week) // max(asset.spacing, 1)
    slot = np.unique(slot, return_inverse=True)[1]
    count = np.bincount(slot)
    is_filled = (np.bincount(slot, same) > FILLED * count) & (count >= FILLED_WEEKS)
    inside = is_filled[slot]
    if np.mean(inside) < 1 - FILLED or np.mean(same[~inside]) > 0.5:
        return []
    first, n_bars = int(inside.argmax()) + 1, int(inside.sum())
    text = (
        f"the price stands still in {n_bars} bars at the same times of every week, first at "
        f"{asset.time(first)}: closed hours that were filled"
    )
    return [Fault(asset, "stale", first, float(n_bars), text)]


def _long_run(same: np.ndarray, start: int, length: int) -> float:
    """Return how many equal closes in a row are too many, by their share in the bars around."""
    if length < STALE_BARS:
        return np.inf
    before = same[max(0, start - _STALE_AROUND) : start]
    around = np.append(before, same[start + length - 1 :][:_STALE_AROUND])
    share = around.mean() if len(around) else 0.0
    # the longest run of n trials at this share is about log(n) / -log(share)
    by_chance = log(len(around)) / -log(share) if 0 < share < 1 else len(around) * share
    return max(STALE_BARS, STALE_RUNS * (1 + by_chance))


def _no_volume(asset: Series) -> Iterator[Fault]:
    known = asset.volume[~np.isnan(asset.volume)]
    share = float(np.mean(known == 0)) if len(known) else 0.0
    if share >= NO_VOLUME:
        text = f"volume is 0 in {share:.1%} of the bars: read as missing"
        yield Fault(asset, "zero volume", 0, share, text)
