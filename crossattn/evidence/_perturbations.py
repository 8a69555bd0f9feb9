"""Perturbations of future bars, for the leakage audit: unchanged up to a moment, changed after it.

Every function takes bars as a Panel or as Frames and returns the same kind.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from crossattn.data.frame import PRICE_COLUMNS, Frame, Frames, close_times, modal_spacing
from crossattn.data.panel import Panel

Bars = Frames | Panel
FrameChange = Callable[[Frame, np.ndarray, np.random.Generator], Frame]


def known_times(data: Bars) -> pd.DatetimeIndex:
    """Return all close times of ``data``, in order."""
    if isinstance(data, pd.DataFrame):
        return pd.DatetimeIndex(data.index)
    clocks = [close_times(frame) for frame in data.values()]
    times = clocks[0]
    for clock in clocks[1:]:
        times = times.union(clock)
    return times


def perturb(data: Bars, after: pd.Timestamp, generator: np.random.Generator) -> Bars:
    """Move every price and volume known after ``after`` by a few per cent, bar by bar."""
    return _change(data, after, generator, _perturb_frame)


def shuffle(data: Bars, after: pd.Timestamp, generator: np.random.Generator) -> Bars:
    """Permute the bars known after ``after`` in time."""
    return _change(data, after, generator, _shuffle_frame)


def poison(data: Bars, after: pd.Timestamp, generator: np.random.Generator) -> Bars:
    """Make the bars known after ``after`` absurd: prices and volumes off by up to a thousand."""
    return _change(data, after, generator, _poison_frame)


def delete(data: Bars, after: pd.Timestamp, generator: np.random.Generator) -> Bars:
    """Drop every bar known after ``after``, and symbols that have no other bar."""
    if isinstance(data, pd.DataFrame):
        return data[data.index <= after].copy()
    kept = {symbol: frame[close_times(frame) <= after].copy() for symbol, frame in data.items()}
    return {symbol: frame for symbol, frame in kept.items() if len(frame)}


def extend(data: Bars, after: pd.Timestamp, generator: np.random.Generator) -> Bars:
    """Add invented bars, all known later than ``after``, as a longer download would."""
    if isinstance(data, pd.DataFrame):
        return _extend_table(data, _future_rows(data, generator))
    longer = {}
    for symbol, frame in data.items():
        extended = _extend_table(frame, _future_rows(frame, generator))
        later = np.asarray(close_times(extended) > after)  # a symbol may have ended before others
        later[: len(frame)] = True
        longer[symbol] = extended[later]
    return longer


def punch_holes(data: Bars, moments: pd.DatetimeIndex) -> Bars:
    """Remove the bars of every second symbol at ``moments``, to see how gaps are filled."""
    if isinstance(data, pd.DataFrame):
        holed = data.copy()
        for symbol in _symbols(data)[::2]:
            columns = holed.columns.get_level_values(1) == symbol
            holed.loc[holed.index.isin(moments), columns] = np.nan
        return holed
    return {
        symbol: frame if k % 2 else frame[~close_times(frame).isin(moments)]
        for k, (symbol, frame) in enumerate(data.items())
    }


def _change(
    data: Bars, after: pd.Timestamp, generator: np.random.Generator, change: FrameChange
) -> Bars:
    if isinstance(data, pd.DataFrame):
        later = np.asarray(data.index > after)
        changed = data.copy()
        for symbol in _symbols(data):
            columns = changed.columns[changed.columns.get_level_values(1) == symbol]
            frame = data[columns].droplevel(1, axis=1)
            changed[columns] = change(frame, later, generator).to_numpy()
        return changed
    return {
        symbol: change(frame, np.asarray(close_times(frame) > after), generator)
        for symbol, frame in data.items()
    }


def _symbols(panel: Panel) -> list[str]:
    return list(dict.fromkeys(panel.columns.get_level_values(1)))


def _perturb_frame(frame: Frame, later: np.ndarray, generator: np.random.Generator) -> Frame:
    return _rescale(frame, later, generator, prices=0.03, volumes=0.3)


def _poison_frame(frame: Frame, later: np.ndarray, generator: np.random.Generator) -> Frame:
    return _rescale(frame, later, generator, prices=3.0, volumes=3.0)


def _rescale(
    frame: Frame, later: np.ndarray, generator: np.random.Generator, prices: float, volumes: float
) -> Frame:
    """Multiply later bars by log-normal factors, open and close apart, high and low to match."""
    changed = frame.copy()
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


def _shuffle_frame(frame: Frame, later: np.ndarray, generator: np.random.Generator) -> Frame:
    changed = frame.copy()
    rows = np.flatnonzero(later)
    order = generator.permutation(rows)
    for name in changed.columns.difference(["close_time"]):
        values = changed[name].to_numpy(copy=True)
        values[rows] = values[order]
        changed[name] = values
    return changed


def _future_rows(table: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Repeat the newest rows with a random drift, at the times that would follow."""
    count = min(len(table), 50)
    rows = table.iloc[-count:].copy()
    step = modal_spacing(table.index)
    rows.index = pd.DatetimeIndex(
        [table.index[-1] + step * (k + 1) for k in range(count)], name=table.index.name
    ).as_unit(table.index.unit)
    drift = np.exp(np.cumsum(generator.normal(0.0, 0.02, count)))
    for name in rows.columns:
        if name != "close_time":
            rows[name] = rows[name].to_numpy(float) * drift
    if "close_time" in rows.columns:
        delay = table["close_time"].iloc[-1] - table.index[-1]
        rows["close_time"] = rows.index + delay
    return rows


def _extend_table(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    longer = pd.concat([table, rows])
    longer.attrs = dict(table.attrs)
    return longer
