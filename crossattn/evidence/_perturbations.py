"""Perturbations of future bars, for the leakage audit: unchanged up to a moment, changed after it.

A Panel is audited as frames of its columns and joined again before the pipeline sees it.
"""

from collections.abc import Callable
from functools import partial, reduce

import numpy as np
import pandas as pd

from crossattn.data.frame import PRICE_COLUMNS, Frame, Frames, close_times, modal_spacing
from crossattn.data.panel import Panel, symbols_of

FrameChange = Callable[[Frame, pd.Timestamp, np.random.Generator], Frame]


def frames_of(panel: Panel) -> Frames:
    """Split a panel into frames by symbol, each row known at its own time."""
    return {
        symbol: panel.xs(symbol, axis=1, level=1).assign(close_time=panel.index)
        for symbol in symbols_of(panel)
    }


def panel_of(frames: Frames, columns: pd.MultiIndex) -> Panel:
    """Join the frames of :func:`frames_of` to a panel with these columns."""
    joined = pd.concat(frames, axis=1, sort=True).swaplevel(axis=1)
    return joined.reindex(columns=columns).astype(float)


def known_times(frames: Frames) -> pd.DatetimeIndex:
    """Return all close times of ``frames``, in order."""
    return reduce(pd.Index.union, (close_times(frame) for frame in frames.values()))


def change_future(
    frames: Frames, kind: str, after: pd.Timestamp, generator: np.random.Generator
) -> Frames:
    """Change what is known after ``after`` as CHANGES has it; symbols without a bar are dropped."""
    changed = {name: CHANGES[kind](frame, after, generator) for name, frame in frames.items()}
    return {symbol: frame for symbol, frame in changed.items() if len(frame)}


def punch_holes(frames: Frames, moments: pd.DatetimeIndex) -> Frames:
    """Remove the bars of every second symbol at ``moments``, to see how gaps are filled."""
    return {
        symbol: frame if k % 2 else frame[~close_times(frame).isin(moments)]
        for k, (symbol, frame) in enumerate(frames.items())
    }


def _rescale(
    frame: Frame, after: pd.Timestamp, generator: np.random.Generator, prices: float, volumes: float
) -> Frame:
    """Multiply later bars by log-normal factors, open and close apart, high and low to match."""
    changed, later = frame.copy(), _known_after(frame, after)
    count = int(later.sum())
    bar = generator.normal(0.0, prices, count)  # common to all prices of a bar
    factor = {name: np.exp(bar) for name in ("high", "low")}
    factor["open"] = np.exp(bar + generator.normal(0.0, 0.3 * prices, count))
    factor["close"] = np.exp(bar + generator.normal(0.0, 0.3 * prices, count))
    turnover = np.exp(generator.normal(0.0, volumes, count))
    factor["volume"] = factor["turnover"] = turnover
    for name in changed.columns.intersection(list(factor)):
        values = changed[name].to_numpy(float, copy=True)
        values[later] *= factor[name]
        changed[name] = values
    if set(PRICE_COLUMNS) <= set(changed.columns):
        corners = changed.loc[:, list(PRICE_COLUMNS)].to_numpy(float)
        complete = np.isfinite(corners).all(axis=1) & later
        changed.loc[complete, "high"] = corners[complete].max(axis=1)
        changed.loc[complete, "low"] = corners[complete].min(axis=1)
    return changed


def _shuffle(frame: Frame, after: pd.Timestamp, generator: np.random.Generator) -> Frame:
    """Permute the later bars in time."""
    changed, later = frame.copy(), _known_after(frame, after)
    order = generator.permutation(np.flatnonzero(later))
    for name in changed.columns.difference(["close_time"]):
        changed.loc[later, name] = frame[name].to_numpy()[order]
    return changed


def _delete(frame: Frame, after: pd.Timestamp, generator: np.random.Generator) -> Frame:
    """Drop every later bar."""
    return frame[~_known_after(frame, after)].copy()


def _extend(frame: Frame, after: pd.Timestamp, generator: np.random.Generator) -> Frame:
    """Add invented bars, all known later than ``after``, as a longer download would.

    They are the newest rows with a random drift, at the times that would follow.
    """
    count = min(len(frame), 50)
    rows = frame.iloc[-count:].copy()
    steps = modal_spacing(frame.index) * np.arange(1, count + 1)
    rows.index = (frame.index[-1] + pd.TimedeltaIndex(steps)).as_unit(frame.index.unit)
    drift = np.exp(np.cumsum(generator.normal(0.0, 0.02, count)))
    for name in rows.columns.difference(["close_time"]):
        rows[name] = rows[name].to_numpy(float) * drift
    if "close_time" in rows.columns:
        rows["close_time"] = rows.index + (frame["close_time"].iloc[-1] - frame.index[-1])
    rows = rows[_known_after(rows, after)]  # a symbol may have ended before others
    return pd.concat([frame, rows.rename_axis(frame.index.name)])


def _known_after(frame: Frame, after: pd.Timestamp) -> np.ndarray:
    return np.asarray(close_times(frame) > after)


CHANGES: dict[str, FrameChange] = {
    # every price and volume by a few per cent, bar by bar
    "perturb": partial(_rescale, prices=0.03, volumes=0.3),
    "shuffle": _shuffle,
    # absurd: prices and volumes off by up to a thousand
    "poison": partial(_rescale, prices=3.0, volumes=3.0),
    "delete": _delete,
    "extend": _extend,
}
