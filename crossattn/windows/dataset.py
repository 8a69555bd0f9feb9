"""Windows of features and the returns that follow them: views of one panel, cut and split in time.

Nothing here copies a window. A slice, a split and the windows themselves share the panel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from crossattn._validation import check_array, check_float, check_names
from crossattn.data.frame import Tables
from crossattn.errors import InvalidInputError
from crossattn.windows import spans

STEADY = 0.95  # a few missing rows, as after an outage, leave a clock regular
# arrays with an entry a row of the panel, beside the clock
_BY_ROW = ("panel", "targets", "next_returns", "closes", "target_rows")
_BY_ROW += ("exogenous", "bar_volatilities")
_BY_ASSET = ("targets", "next_returns", "closes", "bar_volatilities")  # with an entry an asset too


@dataclass(frozen=True, eq=False)
class CrossAttentionData:
    """Windows of features (X), the returns that follow them (y), and when both are known.

    Iterates as ``X, y, symbols, timestamps``. Slices and splits share the panel: a window is a
    view, so a year of hourly windows weighs as much as a year of hours.

    Attributes
    ----------
    panel : ndarray of shape (n_rows, n_assets, n_features), float32
        Raw features, read-only. A row holds what was known at its close.
    ends : ndarray of shape (n,), int64
        Row of the last bar of each window: consecutive rows, or equally far apart; by `lookback`
        where the windows came as arrays (:meth:`from_arrays`).
    lookback, horizon : int
        Bars in a window; bars over which a target looks ahead, the most of any row where the
        horizon is a duration.
    symbols, features : tuple of str
        Names along the asset and the feature axis.
    targets : ndarray of shape (n_rows, n_assets), float64
        Simple return over the horizon of every row, a fraction, known at ``target_rows``; NaN where
        either close is missing.
    next_returns : ndarray of shape (n_rows, n_assets), float64
        Simple return of the next bar, a fraction, known one bar later.
    closes : ndarray of shape (n_rows, n_assets), float64
        Close of every row; NaN where there is no bar. What an asset moved across missing bars is
        in here only.
    clock : DatetimeIndex of shape (n_rows,)
        ``close_time`` of every row.
    target_rows : ndarray of shape (n_rows,), int64
        Row at which the target of each row is known; ``n_rows`` where it is not yet.
    duration : Timedelta or None
        The horizon, where it was given as a duration.
    exogenous : ndarray of shape (n_rows, n_series) or None
        Series that may lead and are never forecast: the newest value known at each row.
    exogenous_names : tuple of str
    bars : dict of str to DataFrame, or Panel, or None
        What the features were computed from, as it was given: a forecaster that is updated bar by
        bar starts from its newest rows.
    how : {"outer", "common", "inner"}
        Which moments of the bars are rows: all, or those at which every symbol has a close.
    volatility_estimator : str
        What measures the volatility of one bar.
    bar_volatilities : ndarray of shape (n_rows, n_assets) or None
        Of every bar, a fraction, known at its close; None: the size of its log return.
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
    target_rows: np.ndarray
    duration: pd.Timedelta | None = None
    exogenous: np.ndarray | None = None
    exogenous_names: tuple[str, ...] = ()
    bars: Tables | pd.DataFrame | None = None
    how: str = "outer"
    volatility_estimator: str = "close"
    bar_volatilities: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator:
        return iter((self.X, self.y, self.symbols, self.timestamps))

    def __repr__(self) -> str:
        dates = f"{self.timestamps[0]} .. {self.timestamps[-1]}" if len(self) else "no window"
        return (
            f"CrossAttentionData({len(self)} windows, {len(self.symbols)} assets, "
            f"lookback={self.lookback}, horizon={spans.horizon_text(self.horizon, self.duration)}, "
            f"{len(self.features)} features, {dates})"
        )

    def __getitem__(self, key: slice | tuple) -> Self:
        """Return the windows ``data[a:b]``; nothing is copied."""
        if not isinstance(key, slice):
            raise InvalidInputError(f"data takes slices such as data[10:20], got {key!r}")
        if key.step not in (None, 1):
            raise InvalidInputError(f"data's slices are consecutive windows, got step {key.step!r}")
        try:
            return replace(self, ends=self.ends[key])
        except TypeError:
            raise InvalidInputError(f"data's slices take whole numbers, got {key!r}") from None

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of what forecasts may attend to: the symbols, then the exogenous series."""
        return self.symbols + self.exogenous_names

    @property
    def X(self) -> np.ndarray:
        """Windows (n, n_assets, lookback, n_features), float32: read-only views, oldest bar first.

        NaN where a bar is missing.
        """
        return self._windows_of(self.panel).transpose(0, 1, 3, 2)  # (n, N, F, T) -> (n, N, T, F)

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
        return self._windows_of(self.targets)

    @property
    def bar_returns(self) -> np.ndarray:
        """Simple return of the next bar (n, n_assets), a fraction: what a position earns."""
        return self.next_returns[self._end_rows]

    @property
    def realised_volatility(self) -> np.ndarray:
        """Realised volatility over the next `horizon` bars (n, n_assets), a fraction.

        Root of the sum of squared log returns, or of the bars' variances by another
        ``volatility_estimator``; known when `y` is and NaN where `y` is. A move across missing bars
        counts once, at the bar that ends it.
        """
        return self.volatility_targets[self._end_rows]

    @property
    def volatility_targets(self) -> np.ndarray:
        """Realised volatility that follows every row of the panel (n_rows, n_assets)."""
        if self.horizon == 1 and self.bar_volatilities is None:
            return np.abs(np.log1p(self.targets))
        return spans.volatility_until(self.closes, self.exit_rows, self.bar_volatilities)

    @property
    def is_steady(self) -> bool:
        """Whether the horizon is one number of rows: always in bars, of a duration in 95 %."""
        rows = self._rows_ahead
        if self.duration is None or len(rows) == 0:
            return True
        return bool(np.mean(rows == np.median(rows)) >= STEADY)

    @property
    def usual_horizon(self) -> int:
        """Rows that the horizon spans: of a duration the median."""
        rows = self._rows_ahead
        if self.duration is None or len(rows) == 0:
            return self.horizon
        return max(1, int(np.median(rows)))

    @property
    def _rows_ahead(self) -> np.ndarray:
        """How many rows later each target that is known is known."""
        known = self.target_rows < len(self.clock)
        return self.target_rows[known] - np.flatnonzero(known)

    @property
    def bars_in_horizon(self) -> np.ndarray:
        """Bars of each asset in the horizon that follows each window (n, n_assets).

        `horizon` itself where that is in bars. In a duration assets have different numbers, also by
        the time of the week: those of the weeks before.
        """
        if self.duration is None:
            return np.full((len(self), len(self.symbols)), self.horizon)
        return spans.bars_within(self.closes, self.clock, self.duration, self.ends)

    @property
    def own_bars_in_horizon(self) -> np.ndarray:
        """Bars of each asset's own in the horizon that follows each window (n, n_assets).

        `bars_in_horizon` in a duration; a horizon in bars is one of rows, at some of which an asset
        with other hours has no bar: as many as it had in its newest horizon that is over.
        """
        if self.duration is not None:
            return self.bars_in_horizon
        return spans.own_bars_within(self.closes, self.horizon, self.ends)

    @property
    def exit_rows(self) -> np.ndarray:
        """Row of the close that ends the target of each row (n_rows, n_assets); -1: no target."""
        return spans.exit_rows(self.closes, self.target_rows, self.clock, self.duration)

    @property
    def has_bar(self) -> np.ndarray:
        """Where the asset has a bar at a window's end (n, n_assets): elsewhere no forecast.

        Of windows that came as arrays, without closes: where any feature is known.
        """
        rows = self._end_rows
        if self.clock.hasnans:
            return np.isfinite(self.panel[rows]).any(axis=2)
        return np.isfinite(self.closes[rows])

    @property
    def coverage(self) -> pd.DataFrame:
        """What the windows hold of every symbol, one row each.

        Columns: ``bars`` at the windows' ends; ``known_targets`` and ``known_share``, of the
        windows whose horizon is over; ``spacing`` of the symbol's own bars, the most frequent;
        ``span_min``, ``span_median`` and ``span_max``, the time from the close at which a known
        target begins to the close that ends it.
        """
        return spans.coverage_of(self)

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
        views = np.lib.stride_tricks.sliding_window_view(valid, self.lookback, axis=0)
        return views[:: self._end_rows.step]

    @property
    def series(self) -> np.ndarray:
        """The rows that the windows cover, (n_series, n_assets, n_steps, n_features), as a view.

        Each window of `lookback` steps of each series is one of X, in order: one series where
        windows overlap, a series a window elsewhere.
        """
        if self._end_rows.step > 1:
            return self.X
        rows = self.panel[self._first_rows.start : self._end_rows.stop]
        return rows.swapaxes(0, 1)[None]

    @property
    def _end_rows(self) -> slice:
        """The rows of `ends` as a slice, so that what is read with it is a view."""
        if not len(self):
            return slice(0, 0, 1)
        step = int(self.ends[1] - self.ends[0]) if len(self) > 1 else 1
        return slice(int(self.ends[0]), int(self.ends[-1]) + 1, step)

    def _windows_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the windows of an array by row, as a view whose last axis is the lookback."""
        views = np.lib.stride_tricks.sliding_window_view(rows, self.lookback, axis=0)
        return views[self._first_rows]

    @property
    def _first_rows(self) -> slice:
        ends = self._end_rows
        offset = self.lookback - 1 if len(self) else 0
        return slice(ends.start - offset, ends.stop - offset, ends.step)

    @classmethod
    def from_arrays(
        cls,
        X: np.ndarray,
        y: np.ndarray,
        *,
        features: Sequence[str],
        symbols: Sequence[str] | None = None,
    ) -> Self:
        """Wrap windows that are arrays; they are copied, and have no dates.

        Parameters
        ----------
        X : ndarray of shape (n, n_assets, T, n_features)
            Raw features, NaN where unknown.
        y : ndarray of shape (n, n_assets)
            Simple return of the next bar, a fraction; NaN where unknown.
        features : sequence of str
            Names along the last axis of X.
        symbols : sequence of str, optional
            Names of the assets; by default their positions.

        Returns
        -------
        CrossAttentionData
            With ``horizon=1``.

        Raises
        ------
        InvalidInputError
            The arrays hold no window, or their shapes do not fit each other or the names.
        """
        X = check_array("X", X, (None,) * 4, np.float32)
        y = check_array("y", y, X.shape[:2])
        if len(X) == 0:
            raise InvalidInputError(f"X must hold windows (n, N, T, F), got {X.shape}")
        n, n_assets, lookback, n_features = X.shape
        if symbols is None:
            symbols = map(str, range(n_assets))
        symbols, features = check_names("symbols", symbols), check_names("features", features)
        if (len(symbols), len(features)) != (n_assets, n_features):
            raise InvalidInputError(
                f"X must have {len(symbols)} assets and {len(features)} features, got {X.shape}"
            )
        ends = np.arange(1, n + 1) * lookback - 1
        targets = np.full((n * lookback, n_assets), np.nan)
        targets[ends] = y
        return cls(
            panel=frozen(X.transpose(0, 2, 1, 3).reshape(n * lookback, n_assets, n_features)),
            ends=frozen(ends),
            lookback=lookback,
            horizon=1,
            symbols=symbols,
            features=tuple(features),
            targets=frozen(targets),
            next_returns=targets,
            closes=np.broadcast_to(np.nan, targets.shape),
            clock=pd.DatetimeIndex(np.full(len(targets), "NaT", dtype="datetime64[ns]")),
            target_rows=spans.rows_until_known(targets, lookback),  # a window later
        )

    def until(self, row: int) -> Self:
        """Return the windows that end at or before a row, and nothing that is known later.

        The panel is cut after the row, and what follows it is not in ``targets`` either.
        """
        cut = {name: getattr(self, name) for name in (*_BY_ROW, "clock")}
        cut = {name: None if rows is None else rows[: row + 1] for name, rows in cut.items()}
        known = cut["target_rows"] <= row
        cut["targets"] = frozen(np.where(known[:, None], cut["targets"], np.nan))
        following = cut["next_returns"].copy()
        following[-1:] = np.nan
        return replace(
            self, **cut | {"ends": self.ends[self.ends <= row], "next_returns": frozen(following)}
        )

    def followed_by(self, later: Self) -> Self:
        """Return the rows of both, one after the other: of other bars, which are copied."""
        n = len(self.panel)
        later = replace(later, ends=later.ends + n, target_rows=later.target_rows + n)
        joined = {
            name: frozen(np.concatenate([getattr(self, name), getattr(later, name)]))
            for name in (*_BY_ROW, "ends")
            if getattr(self, name) is not None
        }
        return replace(
            self, **joined, clock=self.clock.append(later.clock), bars=later.bars, how=later.how
        )

    def select(
        self, symbols: Sequence[str] | None = None, features: Sequence[str] | None = None
    ) -> Self:
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
        symbols = _chosen("symbols", symbols, self.symbols)
        features = _chosen("features", features, self.features)
        if (symbols, features) == (self.symbols, self.features):
            return self
        assets = np.array([self.symbols.index(name) for name in symbols])
        columns = [self.features.index(name) for name in features]
        panel = frozen(self.panel[:, assets[:, None], columns])
        chosen = self.pick_assets((slice(None), assets))
        return replace(self, panel=panel, symbols=symbols, features=features, **chosen)

    def pick_assets(self, cells: tuple) -> dict[str, np.ndarray]:
        """Return some cells of the arrays ``(n_rows, n_assets)`` that are known, by name."""
        tables = {name: getattr(self, name) for name in _BY_ASSET}
        return {name: frozen(x[cells]) for name, x in tables.items() if x is not None}

    def with_series(self, names: tuple[str, ...]) -> Self:
        """Return the data with its exogenous series in this order."""
        if names == self.exogenous_names:
            return self
        columns = [self.exogenous_names.index(name) for name in names]
        return replace(self, exogenous=frozen(self.exogenous[:, columns]), exogenous_names=names)

    def count_known_before(self, position: int) -> int:
        """Count the leading windows whose target is known before window ``position`` ends.

        What purges a training part: no target in it is still open when the next part begins.
        """
        known = self.target_rows[self.ends[:position]]
        return int(np.searchsorted(known, self.ends[position])) if len(self) else 0

    def split(self, train: float = 0.6, val: float = 0.1) -> tuple[Self, Self, Self]:
        """Split in time order into training, validation and test windows, purged by the horizon.

        Parameters
        ----------
        train, val : float
            Shares of the windows; the rest is the test part.

        Returns
        -------
        train, val, test : CrossAttentionData
            The last windows of the first two parts are left out, `horizon` of them on a clock
            without gaps, so that no target in one part is still open when the next part begins.

        Raises
        ------
        InvalidInputError
            A share is not above 0, no share is left for the test, or a part would be empty.
        """
        for name, share in (("train", train), ("val", val)):
            check_float(name, share, above=0, below=1)
        check_float("train + val", train + val, below=1)
        n = len(self)
        first_val, first_test = int(n * train), int(n * (train + val))
        parts = (
            self[: self.count_known_before(first_val)],
            self[first_val : max(first_val, self.count_known_before(first_test))],
            self[first_test:],
        )
        for name, part in zip(("train", "val", "test"), parts, strict=True):
            if len(part) == 0:
                raise InvalidInputError(
                    f"data: {n} windows are too few to split into train={train:g}, val={val:g} and "
                    f"the rest with horizon={self.horizon} (the {name} part would be empty)"
                )
        return parts


def frozen(array: np.ndarray) -> np.ndarray:
    """Return the array row-major and read-only, so that many windows can share it."""
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _chosen(argument: str, names, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return different names of ``known``; None stands for all of them."""
    if names is None:
        return known
    names = (names,) if isinstance(names, str) else check_names(argument, names)
    if unknown := [name for name in names if name not in known]:
        raise InvalidInputError(f"{argument}: no {unknown[0]!r} in the data ({', '.join(known)})")
    if len(set(names)) < len(names):
        raise InvalidInputError(f"{argument} must be different names, got {names}")
    return names
