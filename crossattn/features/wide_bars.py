"""A panel as wide arrays, with each asset's previous bar found across gaps."""

from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from crossattn.data.panel import symbols_of

# A distance of more than this many usual ones has at least one bar missing in it.
LONGEST_STEP = 1.5
# As many distances are seen before one of them is called usual.
FEWEST_STEPS = 3

SATURDAY, SUNDAY = 5, 6


class WideBars:
    """A panel as wide ``(T, N)`` float64 arrays, one a field, with what several features share.

    Made from fields that are arrays already, ``cells`` of shape ``(T, n_fields, N)``, or from a
    Panel. Every property is causal: row t depends on rows up to t only.
    """

    def __init__(self, index: pd.DatetimeIndex, symbols, fields, cells, close_only=()):
        self.index, self.symbols, self.close_only = index, list(symbols), close_only
        self._fields, self._cells = list(fields), cells

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

        A step much longer than the symbol's usual one is a gap if other symbols had bars in
        between, or if the symbol trades at weekends and hence never closes.
        """
        ticks = self.index.asi8
        known = self.present & (self.previous_own >= 0)
        between = known & (self.previous_own < np.arange(len(ticks))[:, None] - 1)
        suspect = between | (known & self._never_closes)
        gap = np.zeros(known.shape, dtype=bool)
        for column in np.flatnonzero(suspect.any(axis=0)):
            rows = np.flatnonzero(known[:, column])
            steps = (ticks[rows] - ticks[self.previous_own[rows, column]]).astype(np.float64)
            usual = _usual(steps)
            unusual = (steps > LONGEST_STEP * usual) | (between[rows, column] & np.isnan(usual))
            gap[rows, column] = suspect[rows, column] & unusual
        return gap

    @cached_property
    def _never_closes(self) -> np.ndarray:
        """True from the row at which a symbol has had bars on a Saturday and on a Sunday."""
        # a bar that closes at midnight belongs to the day that ends then
        day = (self.index - pd.Timedelta(1, "ns")).day_of_week.to_numpy()[:, None]
        seen = [
            np.logical_or.accumulate(self.present & (day == weekend_day), axis=0)
            for weekend_day in (SATURDAY, SUNDAY)
        ]
        return seen[0] & seen[1]


def _usual(steps: np.ndarray) -> np.ndarray:
    """Median of the steps up to each one; NaN for the first few."""
    if len(steps) and (steps == steps[0]).all():
        usual = steps.copy()
        usual[: FEWEST_STEPS - 1] = np.nan
        return usual
    return pd.Series(steps).expanding(FEWEST_STEPS).median().to_numpy()
