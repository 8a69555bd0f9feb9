"""Spans of time in rows of a clock: what a horizon or a lookback of "24h" covers, and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossattn.data.durations import span_text
from crossattn.data.frame import modal_spacing
from crossattn.errors import InvalidInputError, first_names, warn

if TYPE_CHECKING:
    from crossattn.windows.dataset import CrossAttentionData

WEEK, WEEKS = pd.Timedelta("7D"), 4  # so many weeks tell an asset's hours of trading
FEW_TARGETS = 0.2  # share of known targets below which a symbol is warned of


def rows_until_known(clock: pd.DatetimeIndex, horizon: int | pd.Timedelta) -> np.ndarray:
    """Return the row at which the target of each row is known, ``(n_rows,)``; never decreasing.

    Over a number of bars that is so many rows later; over a duration the first row that closes at
    its end or after it. The number of rows where that is still to come.
    """
    if isinstance(horizon, int):
        return np.minimum(np.arange(len(clock)) + horizon, len(clock))
    return clock.searchsorted(clock + horizon).astype(np.int64)


def rows_within(clock: pd.DatetimeIndex, lookback: int | pd.Timedelta) -> int:
    """Return the fewest rows that always reach back over a lookback, itself where it is in bars."""
    if isinstance(lookback, int):
        return lookback
    reached = np.arange(len(clock)) - clock.searchsorted(clock - lookback, side="right")
    return int(reached.max()) + 1


def exit_rows(
    closes: np.ndarray, known: np.ndarray, clock: pd.DatetimeIndex, duration: pd.Timedelta | None
) -> np.ndarray:
    """Return the row of the close that ends the target of each row, ``(n_rows, n_assets)``.

    It is row ``known``, as :func:`rows_until_known` returns it, or with a duration that of the
    asset's own last bar that closes after the row and not after ``clock + duration``. -1 where
    there is no target: the asset has no bar in the row or none that ends it, or the span is not
    over yet.
    """
    rows = np.arange(len(closes))[:, None]
    present = np.isfinite(closes)
    newest, over = np.where(present, rows, -1), known < len(closes)
    last = np.minimum(known, len(closes) - 1)
    if duration is not None:
        newest = np.maximum.accumulate(newest, axis=0)
        last = last - (clock[last] > clock + duration)
    ends = newest[last]
    return np.where(present & over[:, None] & (ends > rows), ends, -1)


def bars_within(
    closes: np.ndarray, clock: pd.DatetimeIndex, duration: pd.Timedelta, rows: np.ndarray
) -> np.ndarray:
    """Return the bars to expect of each asset within a duration after some rows, ``(n, n_assets)``.

    As many as it had from the same time of the week on, on average over its last four weeks, so
    that no later row is read; in its first week at its rate so far. At least 1.
    """
    seen = np.cumsum(np.isfinite(closes), axis=0)
    now = clock[rows]

    def seen_at(moments: pd.DatetimeIndex) -> np.ndarray:
        place = clock.searchsorted(moments, side="right")[:, None]
        return np.where(place > 0, seen[place[:, 0] - 1], 0)

    weeks, rest = divmod(duration, WEEK)
    bars = counted = np.zeros((len(rows), closes.shape[1]))
    for back in range(1, WEEKS + 1):
        start = now - back * WEEK
        before = seen_at(start)
        a_week = seen_at(start + WEEK) - before
        bars = bars + (before > 0) * (weeks * a_week + seen_at(start + rest) - before)
        counted = counted + (before > 0)
    day = np.asarray((clock - clock[0]) / duration)[:, None]
    began = np.where(seen > 0, day, np.inf).min(axis=0)
    so_far = (seen[rows] - 1) / np.maximum(day[rows] - began, 1)
    return np.maximum(np.where(counted > 0, bars / np.maximum(counted, 1), so_far), 1)


def own_bars_within(closes: np.ndarray, horizon: int, rows: np.ndarray) -> np.ndarray:
    """Return the bars to expect of each asset within some rows after others, ``(n, n_assets)``.

    As many as in the newest such span that is over and that one of its bars begins and one ends, so
    that no later row is read; ``horizon`` before there is one.
    """
    present = pd.DataFrame(np.isfinite(closes))
    counts = present.cumsum().diff(horizon)
    spans = counts.where(present & present.shift(horizon, fill_value=False))
    return spans.ffill().fillna(horizon).to_numpy()[rows]


def forward_returns(closes: np.ndarray, horizon: int) -> np.ndarray:
    """Simple return over the next `horizon` rows, ``(T, N)``; NaN where either end is missing."""
    returns = np.full_like(closes, np.nan)
    with np.errstate(over="ignore"):
        returns[:-horizon] = closes[horizon:] / closes[:-horizon] - 1
    returns[np.isinf(returns)] = np.nan
    return returns


def returns_until(closes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Simple return from each row to its row in ``ends``, ``(T, N)``; NaN where that is -1."""
    with np.errstate(over="ignore"):
        returns = np.take_along_axis(closes, np.maximum(ends, 0), axis=0) / closes - 1
    returns[(ends < 0) | np.isinf(returns)] = np.nan
    return returns


def moves_across_gaps(closes: np.ndarray) -> np.ndarray:
    """Log return of each bar over the asset's own bar before, ``(T, N)``; 0 where there is none."""
    moves = np.zeros_like(closes)
    moves[1:] = np.nan_to_num(np.diff(np.log(pd.DataFrame(closes).ffill()), axis=0))
    return moves


def volatility_until(closes: np.ndarray, ends: np.ndarray, by_bar: np.ndarray | None) -> np.ndarray:
    """Root of the sum of squared volatilities of the bars up to each row in ``ends``, ``(T, N)``.

    Those of the bars are ``by_bar``, the sizes of log returns where that is None. A move across
    missing bars counts once, at the bar that ends it; NaN where the end is -1.
    """
    return np.sqrt(sums_until(scored_variances(closes, by_bar), ends))


def scored_variances(closes: np.ndarray, by_bar: np.ndarray | None = None) -> np.ndarray:
    """Return what each bar adds to a realised variance, ``(T, N)``, as ``volatility_until``."""
    return (moves_across_gaps(closes) if by_bar is None else np.nan_to_num(by_bar)) ** 2


def sums_until(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum of the rows after each row up to its row in ``ends``, ``(T, N)``; NaN where -1."""
    so_far = np.cumsum(values, axis=0)
    moved = np.take_along_axis(so_far, np.maximum(ends, 0), axis=0) - so_far
    return np.where(ends < 0, np.nan, np.maximum(moved, 0.0))


def check_spans(
    name: str,
    data: CrossAttentionData,
    lookback: int,
    horizon: int,
    duration: pd.Timedelta | str | None,
) -> None:
    """Refuse data of another lookback or horizon than a model's; two durations are compared."""
    duration = None if duration is None else pd.Timedelta(duration)
    if data.lookback != lookback:
        raise InvalidInputError(f"{name} must have the model's {lookback=}, got {data.lookback}")
    by_time = duration is not None and data.duration is not None
    if data.duration != duration if by_time else data.horizon != horizon:
        raise InvalidInputError(
            f"{name} must have the model's horizon={horizon_text(horizon, duration)}, "
            f"got {horizon_text(data.horizon, data.duration)}"
        )


def horizon_text(horizon: int, duration: pd.Timedelta | None) -> str:
    """Return a horizon as it was given, such as ``"24"`` or ``"24 h"``."""
    return str(horizon) if duration is None else span_text(duration)


def coverage_of(data: CrossAttentionData) -> pd.DataFrame:
    """Return bars, known targets, spacing and span of the horizon by symbol."""
    over, ends = _windows_over(data)
    bars, known_targets = _bars_of(data), (ends >= 0).sum(axis=0)
    table = {}
    for k, symbol in enumerate(data.symbols):
        own = data.clock[np.isfinite(data.closes[:, k])]
        known = ends[:, k] >= 0
        spans = pd.Series(data.clock[ends[known, k]] - data.clock[over[known]])
        table[symbol] = {
            "bars": bars[k],
            "known_targets": known_targets[k],
            "known_share": known_targets[k] / len(over) if len(over) else np.nan,
            "spacing": modal_spacing(own) if len(own) > 1 else pd.NaT,
            "span_min": spans.min(),
            "span_median": spans.median(),
            "span_max": spans.max(),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("symbol")


def check_coverage(data: CrossAttentionData) -> None:
    """Refuse symbols without a known target or a shared bar, warn of those with few targets."""
    cure = "give a longer horizon or leave them out"
    if data.duration is None:
        by_time = 'give horizon as a duration such as "24h"'
        cure = f'{by_time}, keep shared bars alone (how="common") or leave them out'
        present = np.isfinite(data.closes)
        together = present[present.sum(axis=1) > 1].any(axis=0)
        if len(together) > 1 and not together.all():
            raise InvalidInputError(
                f"data: {_named(data.symbols, ~together)} never close together with another "
                f"symbol, so a horizon in bars means nothing: {by_time} or leave them out"
            )
    over, ends = _windows_over(data)
    count = (ends >= 0).sum(axis=0)
    if (count == 0).any():
        raise InvalidInputError(
            f"data: no target of {_named(data.symbols, count == 0)} is known in any of "
            f"{len(data)} windows: {cure}"
        )
    # a closed market has no bar to start from, which is no fault of a duration
    share = count / (len(over) if data.duration is None else _bars_of(data))
    if (few := share < FEW_TARGETS).any():
        shares = [f"{symbol} {x:.0%}" for symbol, x in zip(data.symbols, share, strict=True)]
        warn(f"few known targets: {_named(shares, few)} of the windows: {cure}", 4)


def _windows_over(data: CrossAttentionData) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the windows whose horizon is over, and those at which targets end."""
    over = data.ends[data.target_rows[data.ends] < len(data.clock)]
    return over, data.exit_rows[over]


def _bars_of(data: CrossAttentionData) -> np.ndarray:
    """Count each symbol's bars at the windows' ends."""
    return np.isfinite(data.closes[data.ends]).sum(axis=0)


def _named(names: Sequence[str], which: np.ndarray) -> str:
    """Return those names where ``which`` is True, a few of them and how many more."""
    names = [name for name, chosen in zip(names, which, strict=True) if chosen]
    return first_names(names, most=5)
