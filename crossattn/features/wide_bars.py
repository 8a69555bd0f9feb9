"""A panel as wide arrays, with each asset's previous bar found across gaps."""

from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from crossattn.data.panel import symbols_of

# A distance of more than this many usual ones has at least one bar missing in it.
LONGEST_STEP = 1.5
# As many distances are seen before one of them is called usual.
FEWEST_STEPS = 3
USUAL_STEPS = 240  # of which the usual one is the median

SATURDAY, THURSDAY = 5, 3  # the first day of all, 1970-01-01, was a Thursday
MEMORY_DAYS = 8 * 7  # of which the weekdays with bars are counted
MOST_UNEQUAL = 4  # days of the busiest weekday to one of the idlest, where a market never closes


class WideBars:
    """A panel as wide ``(T, N)`` float64 arrays, one a field, with what several features share.

    Made from fields that are arrays already, ``cells`` of shape ``(T, n_fields, N)``, or from a
    Panel. Every property is causal: row t depends on rows up to t only.
    """

    #: (MEMORY_DAYS, N): whether symbols have had bars on the days before the first row, and on its
    #: own day before it
    earlier_days: np.ndarray | None

    def __init__(
        self, index: pd.DatetimeIndex, symbols, fields, cells, close_only=(), earlier_days=None
    ):
        self.index, self.symbols, self.close_only = index, list(symbols), close_only
        self._fields, self._cells = list(fields), cells
        self.earlier_days = earlier_days

    @classmethod
    def of_panel(cls, panel: pd.DataFrame) -> Self:
        """Take the fields of a Panel."""
        fields, symbols = panel.columns.unique(0), symbols_of(panel)
        # field by field, every symbol in each: of some fields a Panel may hold a few symbols only
        full = panel.reindex(columns=pd.MultiIndex.from_product([fields, symbols]))
        cells = full.to_numpy(dtype=np.float64).reshape(len(panel), len(fields), len(symbols))
        return cls(panel.index, symbols, fields, cells, panel.attrs.get("close_only", ()))

    def field(self, name: str) -> np.ndarray:
        """Return one field for all symbols, ``(T, N)``, row-major."""
        return np.ascontiguousarray(self._cells[:, self._fields.index(name)])

    @cached_property
    def close(self) -> np.ndarray:
        return self.field("close")

    @cached_property
    def log_close(self) -> np.ndarray:
        return np.log(self.close)

    @cached_property
    def present(self) -> np.ndarray:
        """True where the symbol has a bar of its own that closed in the row."""
        return ~np.isnan(self.close)

    @cached_property
    def last_own(self) -> np.ndarray:
        """Row of the symbol's newest bar at or before the row; -1 where there is none."""
        rows = np.arange(len(self.index), dtype=np.int32)[:, None]
        return np.maximum.accumulate(np.where(self.present, rows, np.int32(-1)), axis=0)

    @cached_property
    def previous_own(self) -> np.ndarray:
        """Row of the symbol's newest bar before the row; -1 where there is none."""
        return np.vstack([np.full_like(self.last_own[:1], -1), self.last_own[:-1]])

    def before(self, values: np.ndarray) -> np.ndarray:
        """Return, for each bar, the value at the symbol's own previous bar; NaN where none."""
        earlier = np.take_along_axis(values, np.maximum(self.previous_own, 0), axis=0)
        return np.where(self.present & (self.previous_own >= 0), earlier, np.nan)

    @cached_property
    def log_return(self) -> np.ndarray:
        """Log of each close over the symbol's previous one; NaN across a gap."""
        change = self.log_close - self.before(self.log_close)
        change[self.across_gap] = np.nan
        return change

    @cached_property
    def across_gap(self) -> np.ndarray:
        """True where the step from the symbol's previous bar to this one leaves bars out.

        A step much longer than the symbol's usual one is a gap if it spans more bars of other
        symbols than usual, or if the symbol never closes.
        """
        ticks, rows = self.index.asi8, np.arange(len(self.index))
        known = self.present & (self.previous_own >= 0)
        suspect = known & ((self.previous_own < rows[:, None] - 1) | self._never_closes)
        gap = np.zeros(known.shape, dtype=bool)
        for column in np.flatnonzero(suspect.any(axis=0)):
            now = np.flatnonzero(known[:, column])
            before = self.previous_own[now, column]
            steps, rows_passed = ticks[now] - ticks[before], now - before
            long = ~(steps <= LONGEST_STEP * _usual(steps))
            left_out = rows_passed > np.nan_to_num(_usual(rows_passed), nan=1.0)
            gap[now, column] = long & (left_out | self._never_closes[now, column])
        return gap

    @cached_property
    def _never_closes(self) -> np.ndarray:
        """True in rows with a bar if the symbol has lately had bars on every day of the week.

        It rests on a weekday that has had bars less than a quarter as often as the busiest one. In
        a symbol's first days, only weekdays that have passed and the weekend are asked for.
        """
        days, row_day, first_day = self._days_with_bars
        weeks = sliding_window_view(days, MEMORY_DAYS - 6, axis=0)  # up to each day
        counts = weeks[..., ::7].sum(axis=-1)  # of the day's weekday
        weekday = (first_day + np.arange(len(counts)) - 6 + THURSDAY) % 7
        counted = weeks.any(axis=-1) | (weekday >= SATURDAY)[:, None]
        idlest = sliding_window_view(np.where(counted, counts, MEMORY_DAYS), 7, axis=0).min(axis=-1)
        busiest = sliding_window_view(counts, 7, axis=0).max(axis=-1)
        return (MOST_UNEQUAL * idlest >= busiest)[row_day]

    @cached_property
    def _days_with_bars(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Days on which symbols have bars, the day of each row after the first, and that day.

        ``(MEMORY_DAYS - 1 + n_days, N)``: before the days of the rows come those of the memory.
        """
        # a bar that closes at midnight belongs to the day that ends then
        end = self.index.tz_localize(None).ceil("D").to_numpy().astype("M8[D]").astype(np.int64)
        row_day = end - end[0]
        days = np.zeros((MEMORY_DAYS + row_day[-1], len(self.symbols)), dtype=bool)
        if self.earlier_days is not None:
            days[:MEMORY_DAYS] = self.earlier_days
        firsts = np.flatnonzero(np.diff(row_day, prepend=-1))
        days[MEMORY_DAYS - 1 + row_day[firsts]] |= np.logical_or.reduceat(self.present, firsts)
        return days, row_day, int(end[0]) - 1

    def days_before(self, row: int) -> np.ndarray:
        """Return the :attr:`earlier_days` with which the bars from a row on are as these are."""
        days, row_day, _ = self._days_with_bars
        return days[row_day[row] : row_day[row] + MEMORY_DAYS]


def _usual(steps: np.ndarray) -> np.ndarray:
    """Median of the last steps up to each one; NaN for the first few."""
    if len(steps) and (steps == steps[0]).all():
        usual = steps.astype(np.float64)
        usual[: FEWEST_STEPS - 1] = np.nan
        return usual
    return pd.Series(steps).rolling(USUAL_STEPS, FEWEST_STEPS).median().to_numpy()
