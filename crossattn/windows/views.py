"""Windows as views of one panel: what is held, what is shared, how it is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class CrossAttentionData:
    """Windows over one panel of features, with targets and the moments at which they are known.

    Iterates as ``X, y, symbols, timestamps``. Slices and splits share the panel: a window is a
    view, so a year of hourly windows weighs as much as a year of hours.

    Attributes
    ----------
    panel : ndarray of shape (n_rows, n_assets, n_features), float32
        Raw features, read-only. A row holds what was known at its close.
    ends : ndarray of shape (n,), int64
        Row of the last bar of each window; consecutive.
    lookback, horizon : int
        Bars in a window; bars over which a target looks ahead.
    symbols, features : tuple of str
        Names along the asset and the feature axis.
    targets : ndarray of shape (n_rows, n_assets), float64
        Simple return over the next `horizon` bars of every row, a fraction, known `horizon` bars
        later; NaN where either close is missing.
    next_returns : ndarray of shape (n_rows, n_assets), float64
        Simple return of the next bar, a fraction, known one bar later.
    closes : ndarray of shape (n_rows, n_assets), float64
        Close of every row; NaN where there is no bar. Returns across missing bars are in here only.
    clock : DatetimeIndex of shape (n_rows,)
        ``close_time`` of every row.
    """

    panel: np.ndarray
    ends: np.ndarray
    lookback: int
    horizon: int
    symbols: tuple[str, ...]
    features: tuple[str, ...]
    targets: np.ndarray
    next_returns: np.ndarray
    closes: np.ndarray
    clock: pd.DatetimeIndex

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator:
        return iter((self.X, self.y, self.symbols, self.timestamps))

    def __repr__(self) -> str:
        dates = f"{self.timestamps[0]} .. {self.timestamps[-1]}" if len(self) else "no window"
        return (
            f"CrossAttentionData({len(self)} windows, {len(self.symbols)} assets, "
            f"lookback={self.lookback}, horizon={self.horizon}, "
            f"{len(self.features)} features, {dates})"
        )

    def __getitem__(self, key: slice | tuple) -> CrossAttentionData:
        """Return consecutive windows ``data[a:b]``; nothing is copied."""
        if not isinstance(key, slice):
            raise InvalidInputError(f"data takes slices such as data[10:20], got {key!r}")
        if key.step not in (None, 1):
            raise InvalidInputError(f"data's slices are consecutive windows, got step {key.step!r}")
        try:
            return replace(self, ends=self.ends[key])
        except TypeError:
            raise InvalidInputError(f"data's slices take whole numbers, got {key!r}") from None

    @property
    def X(self) -> np.ndarray:
        """Windows (n, n_assets, lookback, n_features), float32: read-only views, oldest bar first.

        NaN where a bar is missing.
        """
        views = np.lib.stride_tricks.sliding_window_view(self.panel, self.lookback, axis=0)
        return views[self._first_rows].transpose(0, 1, 3, 2)  # (n, N, F, T) -> (n, N, T, F)

    @property
    def y(self) -> np.ndarray:
        """Targets (n, n_assets): simple return over the next `horizon` bars, a fraction."""
        return self.targets[self._end_rows]

    @property
    def step_targets(self) -> np.ndarray:
        """Targets of every bar of a window (n, n_assets, lookback); the last one is `y`.

        Views, a fraction each. All are known no later than the window's own target, so that a
        causal model can learn from every step without seeing more than `y` shows.
        """
        views = np.lib.stride_tricks.sliding_window_view(self.targets, self.lookback, axis=0)
        return views[self._first_rows]

    @property
    def bar_returns(self) -> np.ndarray:
        """Simple return of the next bar (n, n_assets), a fraction: what a position earns."""
        return self.next_returns[self._end_rows]

    @property
    def timestamps(self) -> pd.DatetimeIndex:
        """``close_time`` of the last bar of each window: when its forecast can be made."""
        return self.clock[self._end_rows]

    @property
    def mask(self) -> np.ndarray:
        """Where X is valid (n, n_assets, lookback): True where no feature of the bar is missing."""
        if not len(self):
            return np.empty((0, len(self.symbols), self.lookback), dtype=bool)
        shown = self.panel[self._first_rows.start : self._end_rows.stop]
        valid = ~np.isnan(shown).any(axis=2)
        return np.lib.stride_tricks.sliding_window_view(valid, self.lookback, axis=0)

    @property
    def _end_rows(self) -> slice:
        """The rows of `ends` as a slice, so that what is read with it is a view."""
        return slice(int(self.ends[0]), int(self.ends[-1]) + 1) if len(self) else slice(0, 0)

    @property
    def _first_rows(self) -> slice:
        ends = self._end_rows
        offset = self.lookback - 1 if len(self) else 0
        return slice(ends.start - offset, ends.stop - offset)

    def select(
        self, symbols: Sequence[str] | None = None, features: Sequence[str] | None = None
    ) -> CrossAttentionData:
        """Return the data with these symbols and features, in this order.

        Parameters
        ----------
        symbols, features : sequence of str, optional
            Names that the data has; None keeps all of them as they are.

        Returns
        -------
        CrossAttentionData
            Itself where nothing changes, else with a panel of its own.

        Raises
        ------
        InvalidInputError
            A name is unknown, repeated, or there is none.
        """
        assets = _positions(symbols, self.symbols, "symbols")
        columns = _positions(features, self.features, "features")
        if assets is None and columns is None:
            return self
        assets = np.arange(len(self.symbols)) if assets is None else assets
        columns = np.arange(len(self.features)) if columns is None else columns
        return replace(
            self,
            panel=frozen(self.panel[:, assets[:, None], columns]),
            symbols=tuple(self.symbols[i] for i in assets),
            features=tuple(self.features[i] for i in columns),
            targets=frozen(self.targets[:, assets]),
            next_returns=frozen(self.next_returns[:, assets]),
            closes=frozen(self.closes[:, assets]),
        )

    def split(
        self, train: float = 0.6, val: float = 0.1
    ) -> tuple[CrossAttentionData, CrossAttentionData, CrossAttentionData]:
        """Split in time order into training, validation and test windows, purged by the horizon.

        Parameters
        ----------
        train, val : float
            Shares of the windows; the rest is the test part.

        Returns
        -------
        train, val, test : CrossAttentionData
            The last `horizon` windows of the first two parts are left out, so that no target in
            one part is still open when the next part begins.

        Raises
        ------
        InvalidInputError
            A share is not above 0, no share is left for the test, or a part would be empty.
        """
        for name, share in (("train", train), ("val", val)):
            if isinstance(share, bool) or not isinstance(share, int | float | np.number):
                raise InvalidInputError(f"{name} must be a share between 0 and 1, got {share!r}")
            if not 0 < share < 1:
                raise InvalidInputError(f"{name} must be a share between 0 and 1, got {share!r}")
        if train + val >= 1:
            raise InvalidInputError(
                f"train + val must leave a share for the test, got {train} + {val}"
            )
        n, purge = len(self), self.horizon
        first_val, first_test = int(n * train), int(n * (train + val))
        parts = (
            self[: max(0, first_val - purge)],
            self[first_val : max(first_val, first_test - purge)],
            self[first_test:],
        )
        for name, part in zip(("train", "val", "test"), parts, strict=True):
            if len(part) == 0:
                raise InvalidInputError(
                    f"data: {n} windows are too few to split into train={train:g}, val={val:g} and "
                    f"the rest with horizon={purge} (the {name} part would be empty)"
                )
        return parts


def frozen(array: np.ndarray) -> np.ndarray:
    """Return the array row-major and read-only, so that many windows can share it."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _positions(names, known: tuple[str, ...], argument: str) -> np.ndarray | None:
    """Where each name stands in `known`; None where that changes nothing."""
    if names is None:
        return None
    try:
        names = (names,) if isinstance(names, str) else tuple(names)
    except TypeError:
        raise InvalidInputError(f"{argument} must be a sequence of names, got {names!r}") from None
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInputError(f"{argument}: no {unknown[0]!r} in the data ({', '.join(known)})")
    if not names or len(set(names)) < len(names):
        raise InvalidInputError(f"{argument} must be one or more different names, got {names}")
    return None if names == known else np.array([known.index(name) for name in names])
