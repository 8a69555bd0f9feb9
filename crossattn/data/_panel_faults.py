"""Faults that only other assets show: a clock one bar late or early, and the same asset twice."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from crossattn.data._clock_faults import clock_groups, rows_on_clock, sampled_blocks
from crossattn.data._series import Fault, Series, shown, times_of

SHIFTS = 24
SHIFT_CORRELATION = 0.15
SHIFT_OF_TWO = 0.35
SHIFT_OF_USUAL = 0.5
SHIFT_AT_ZERO = 0.2
SHIFT_SECOND = 0.5
SHIFT_MOST = 1.6
SAME = 0.05
SAME_SHARE = 0.9
SAME_BARS = 100
SAMPLED_CELLS = 3_000_000

_FEWEST = 100  # returns behind a correlation
_CLIP = 3.0
_AROUND = 50
_CANDIDATE = 0.95
_PARTS = 4  # of the history, each looked at by itself
_FEWEST_OF_PART = 500
_MOST_APART = 40


def panel_faults(assets: Sequence[Series]) -> Iterator[Fault]:
    """Yield the assets that look shifted in time, or like another asset."""
    assets = [asset for asset in assets if len(asset) > _FEWEST and np.any(asset.returns)]
    if len(assets) < 2:
        return
    yield from _shifted(assets)
    yield from _duplicates(assets)


def _shifted(assets: Sequence[Series]) -> Iterator[Fault]:
    """Yield assets whose returns agree with the others' some bars away, and not in their own."""
    group = clock_groups(assets)
    together = [asset for asset, number in zip(assets, group, strict=True) if number == 0]
    apart = [asset for asset, number in zip(assets, group, strict=True) if number]
    if len(together) < 2:
        return
    rows, n_rows = rows_on_clock(together)
    blocks = sampled_blocks(n_rows, SAMPLED_CELLS // len(together))
    parts = [_standardised(together, rows, begin, stop) for begin, stop in blocks]
    found = {place: (0, *shift) for place, shift in _find_shifts(parts).items()}
    if blocks[-1][1] - blocks[0][0] >= _PARTS * _FEWEST_OF_PART:  # a clock may change in between
        shorter = [part for z in parts for part in np.array_split(z, max(1, _PARTS // len(parts)))]
        sampled, start = np.concatenate([np.arange(*block) for block in blocks]), 0
        for part in shorter:
            for place, shift in _find_shifts([part]).items():
                first = int(np.searchsorted(rows[place], sampled[start]))
                found.setdefault(place, (first, *shift))
            start += len(part)
    for place, (first, *shift) in sorted(found.items()):
        others = shown(together[1 - place].symbol) if len(together) == 2 else "the others"
        yield _shift_fault(together[place], first, others, *shift)
    yield from _shifted_sessions(together, apart)


def _find_shifts(parts: list[np.ndarray]) -> dict[int, tuple[int, float, float]]:
    """Return lag, correlation there and correlation at lag 0 of every shifted asset."""
    found: dict[int, tuple[int, float, float]] = {}
    for _ in range(2):  # a shifted asset blurs the others' common move, so look again without it
        kept = [place for place in range(parts[0].shape[1]) if place not in found]
        more = _look(parts, kept) if len(kept) > 1 else {}
        found.update(more)
        if not more:
            break
    # shifted is what differs from a majority that agrees; else the leads are the market's own
    return found if 2 * len(found) <= parts[0].shape[1] else {}


def _shift_fault(
    asset: Series, first: int, others: str, lag: int, there: float, here: float
) -> Fault:
    bars = "one bar" if abs(lag) == 1 else f"{abs(lag)} bars"
    since = f", from {asset.time(first)} on" if first else ""
    text = (
        f"clock looks {bars} {'late' if lag > 0 else 'early'}{since}: correlation with {others} is "
        f"{there:+.2f} {bars} {'before' if lag > 0 else 'after'} and {here:+.2f} in the same bar"
    )
    return Fault(asset, "late clock" if lag > 0 else "early clock", first, float(lag), text)


def _shifted_sessions(together: Sequence[Series], apart: Sequence[Series]) -> Iterator[Fault]:
    """Yield assets that trade beside the others' hours and with them once their clock is moved.

    Local times that are labelled UTC look so, and days that are stamped with the next date.
    """
    step = together[0].spacing
    apart = [asset for asset in apart if asset.spacing == step][:_MOST_APART]
    together = [asset for asset in together if asset.spacing == step][:_MOST_APART]
    if not apart or not together:
        return
    clock = np.unique(np.concatenate([asset.known for asset in together]))
    total, count = np.zeros((2, len(clock)))
    for asset in together:
        at = np.searchsorted(clock, asset.known[1:])
        total[at] += _local(asset.returns)
        count[at] += 1
    market = total / np.maximum(count, 1)
    lags = np.arange(-SHIFTS, SHIFTS + 1)
    for asset in apart:
        own, correlation = _local(asset.returns), np.zeros(len(lags))
        for k, lag in enumerate(lags):
            moved = asset.known[1:] - lag * step
            at = np.minimum(np.searchsorted(clock, moved), len(clock) - 1)
            both = clock[at] == moved
            if both.sum() >= max(_FEWEST, len(own) / 2) or (lag == 0 and both.sum() > _FEWEST):
                correlation[k] = np.corrcoef(own[both], market[at[both]])[0, 1]
        best, here = int(np.abs(correlation).argmax()), correlation[SHIFTS]
        there = correlation[best]
        if best != SHIFTS and abs(there) > SHIFT_OF_TWO and abs(here) < SHIFT_AT_ZERO * abs(there):
            lag = int(lags[best])
            yield _shift_fault(asset, 0, "the others", lag, float(there), float(here))


def _local(returns: np.ndarray) -> np.ndarray:
    """Returns over their local size, clipped."""
    size = pd.Series(np.abs(returns)).rolling(2 * _AROUND + 1, center=True, min_periods=1).mean()
    scaled = np.divide(returns, size, out=np.zeros_like(returns), where=size.to_numpy() > 0)
    return np.clip(scaled, -_CLIP, _CLIP)


def _standardised(assets, rows, begin: int, stop: int) -> np.ndarray:
    """Return of every row over its local size, clipped; NaN unless the row before has a bar too."""
    z = np.full((stop - begin, len(assets)), np.nan, dtype=np.float32)
    for place, (asset, own) in enumerate(zip(assets, rows, strict=True)):
        first, last = np.searchsorted(own, (begin, stop))
        here = own[first:last]
        at = np.flatnonzero(np.diff(here) == 1) + 1
        z[here[at] - begin, place] = asset.returns[first + at - 1]
    size = np.abs(z)
    cap = 5 * np.nanmedian(np.where(np.isnan(size).all(axis=0), 0, size), axis=0)
    total = np.cumsum(np.nan_to_num(np.minimum(size, cap), nan=0.0), axis=0, dtype=np.float64)
    count = np.cumsum(~np.isnan(size), axis=0, dtype=np.float64)
    upper = np.minimum(np.arange(len(z)) + _AROUND, len(z) - 1)
    lower = np.maximum(np.arange(len(z)) - _AROUND, 0)
    local = (total[upper] - total[lower]) / np.maximum(count[upper] - count[lower], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.clip(z / local.astype(np.float32), -_CLIP, _CLIP)
    z[~np.isfinite(z)] = np.nan
    return z


def _look(parts: list[np.ndarray], kept: list[int]) -> dict[int, tuple[int, float, float]]:
    """Look for shifts among the kept assets once."""
    parts = [np.nan_to_num(z[:, kept]) for z in parts]
    n = len(kept)
    # what every shift is compared with: the first principal component of the others
    weights = np.linalg.eigh(_correlations(parts))[1][:, -1]
    weights = weights * (np.sign(weights.sum()) or 1) if n > 2 else np.ones(2)
    lags = np.arange(-SHIFTS, SHIFTS + 1)
    cross, own, size = np.zeros((len(lags), n)), np.zeros(n), np.zeros((len(lags), n))
    for z in parts:
        if len(z) <= 2 * SHIFTS:
            continue
        other = (z @ weights)[:, None] - z * weights  # (T, n), without the asset itself
        inner = z[SHIFTS:-SHIFTS]
        there = inner != 0
        own += (inner**2).sum(axis=0)
        for k, lag in enumerate(lags):
            market = other[SHIFTS - lag : len(z) - SHIFTS - lag]
            cross[k] += np.einsum("tn,tn->n", inner, market)
            size[k] += np.einsum("tn,tn->n", market**2, there)
    count = sum(np.count_nonzero(z, axis=0) for z in parts)
    correlation = cross / np.sqrt(np.maximum(own * size, 1e-12))
    here = correlation[SHIFTS]
    away = np.abs(correlation)
    away[SHIFTS] = 0
    best = away.argmax(axis=0)
    found = {}
    for i in range(n):
        there, error = correlation[best[i], i], 1 / np.sqrt(max(count[i], 1))
        # without a common move in the same bar there is nothing that a shift could take away
        usual = np.median(np.abs(np.delete(here, i))) if n > 2 else abs(there)
        # a shift moves the whole common move to one lag, no larger than it is among the others
        second = np.delete(away[:, i], best[i]).max()
        if second > SHIFT_SECOND * abs(there) or (n > 2 and abs(there) > SHIFT_MOST * usual):
            continue
        enough = SHIFT_CORRELATION if n > 2 else SHIFT_OF_TWO
        is_away = abs(there) >= max(SHIFT_OF_USUAL * usual, enough, 6 * error) and usual >= enough
        if is_away and abs(here[i]) <= max(SHIFT_AT_ZERO * abs(there), 2 * error):
            found[kept[i]] = int(lags[best[i]]), float(there), float(here[i])
    if n == 2 and len(found) == 2:  # one late, one early: the late one is named
        found = {place: shift for place, shift in found.items() if shift[0] > 0}
    elif n > 2:  # the others of a shifted asset may look shifted because of it: the worst first
        most = max((abs(shift[1]) for shift in found.values()), default=0)
        found = {place: shift for place, shift in found.items() if abs(shift[1]) > 0.6 * most}
    return found


def _correlations(parts: list[np.ndarray]) -> np.ndarray:
    """Correlations (N, N) between the columns of stretches of rows whose means are 0."""
    square = sum(z.T @ z for z in parts)
    scale = np.sqrt(np.maximum(np.diag(square), 1e-12))
    return square / np.outer(scale, scale)


def _duplicates(assets: Sequence[Series]) -> Iterator[Fault]:
    """Yield assets whose returns are those of an asset before them, up to a factor."""
    rows, n_rows = rows_on_clock(assets)
    n = len(assets)
    alike = np.zeros((n, n), dtype=bool)
    for begin, stop in sampled_blocks(n_rows, SAMPLED_CELLS // n):
        z = np.nan_to_num(_standardised(assets, rows, begin, stop))
        # in short stretches, so that a file which becomes another's copy shows as well
        for part in np.array_split(z, max(1, len(z) // (5 * SAME_BARS))):
            alike |= np.abs(_correlations([part])) > _CANDIDATE
    taken: set[int] = set()
    for i, j in np.argwhere(np.triu(alike, 1)):
        if i in taken or j in taken:
            continue
        if fault := _same(assets[i], assets[j], rows[i], rows[j]):
            taken.add(int(j))
            yield fault


def _same(first: Series, second: Series, rows: np.ndarray, other: np.ndarray) -> Fault | None:
    """Compare two assets on the bars that they share."""
    _, a, b = np.intersect1d(rows, other, assume_unique=True, return_indices=True)
    move, moved = np.diff(first.close[a]), np.diff(second.close[b])
    some = np.flatnonzero((move != 0) | (moved != 0))
    if len(some) < SAME_BARS:
        return None
    move, moved = move[some], moved[some]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = moved / move
    block = np.minimum(np.arange(len(some)) // SAME_BARS, len(some) // SAME_BARS - 1)
    factor = pd.Series(ratio).groupby(block).transform("median").to_numpy()
    size = np.median(np.abs(moved))
    equal = np.abs(moved - factor * move) <= SAME * size
    share = pd.Series(equal).groupby(block).mean().to_numpy() >= SAME_SHARE
    if not share.any():
        return None
    inside = np.flatnonzero(share[block])
    begin, end = b[some[inside[0]]], b[some[inside[-1]] + 1]
    scale = float(np.median(ratio[inside]))
    how = "the returns" if abs(scale - 1) < 1e-3 else f"{scale:.4g} times the returns"
    part = len(inside) / len(some)
    text = (
        f"has {how} of {shown(first.symbol)} in {part:.0%} of the bars that both have, "
        f"{times_of(second, begin, end)}"
    )
    return Fault(second, "duplicate", int(begin), part, text)
