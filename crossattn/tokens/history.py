"""The newest bars that a forecaster has read, and how it goes on from them bar by bar.

Features forget within some hundred bars and are computed anew from the bars that are kept; what
forgets more slowly goes on from its sums, which stand just before row ``start``. What is late by
less than the rows from there on is therefore read as if it had been there in time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import pandas as pd

from crossattn._validation import check_type
from crossattn.data.frame import FRAME_COLUMNS, Table, Tables, check_frame, check_times
from crossattn.data.panel import as_panel
from crossattn.errors import InvalidInputError, warn
from crossattn.features.build import feature_array
from crossattn.features.wide_bars import MEMORY_DAYS, WideBars
from crossattn.tokens.memory import Memory
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.exogenous import check_exogenous
from crossattn.windows.spans import forward_returns

FORGOTTEN = 30 * 24  # own bars after which a feature has forgotten: 30 of its longest half-lives
MOST_ROWS = 8 * FORGOTTEN  # kept for an asset that has few bars
LATE = 96  # rows by which a bar may be late
JUMP = np.log(1.9)  # of a close, below which there is no warning ...
UNLIKE = 4  # ... and times the largest move or gap of the bars that are kept
OTHER_SPACING = 1.5  # times the usual spacing
ENOUGH_BARS = 5  # of which each follows a gap: another spacing
UNIT = "us"  # of times, also in files


@dataclass(frozen=True)
class PanelRows:
    """Rows of a panel, named as in :class:`~crossattn.windows.dataset.CrossAttentionData`."""

    panel: np.ndarray
    closes: np.ndarray
    next_returns: np.ndarray
    clock: pd.DatetimeIndex
    exogenous: np.ndarray | None
    symbols: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True)
class History:
    """Bars and sums from which forecasts go on; updates return another one."""

    symbols: tuple[str, ...]
    features: tuple[str, ...]
    exogenous_names: tuple[str, ...]
    ticks: np.ndarray  #: (n_rows,), int64: close times of the rows
    #: (n_rows, n_fields, n_assets), float64: bars, or where features are the user's own ``close``
    #: and these; NaN where there is none
    cells: np.ndarray
    exogenous: np.ndarray  #: (n_rows, n_series)
    #: rows that have been read. Later ones were known when the forecaster was fitted, and are read
    #: once a forecast is asked for that comes after them
    seen: int
    start: int  #: row before which ``sums`` stand
    #: rows from ``start`` to the newest: as many as lags and moving averages reach, and those by
    #: which a bar may be late
    tail: int
    sums: dict[str, np.ndarray]  #: as :class:`~crossattn.tokens.memory.Memory` takes them
    spacing: np.ndarray  #: (n_assets,), int64: most frequent distance between an asset's bars
    smallest: np.ndarray  #: (n_assets,), int64: the least distance
    common: bool  #: whether the clock holds only moments at which every asset has a bar
    own: bool  #: whether features are the user's own, and arrive with every close
    earlier_days: np.ndarray  #: (n_days, n_assets), bool: as :class:`.WideBars` has them

    @classmethod
    def of_windows(
        cls, data: CrossAttentionData, last: int, start: int, tail: int, sums: dict
    ) -> Self | None:
        """Take the rows behind some windows; None where these came as arrays without times."""
        if data.clock.hasnans:
            return None
        own = data.bars is None
        if own:
            cells = [data.closes, *data.panel.transpose(2, 0, 1).astype(float)]
        else:
            panel = as_panel(data.bars).reindex(data.clock)
            cells = [panel[field][list(data.symbols)].to_numpy(float) for field in FRAME_COLUMNS]
        ticks = _ticks(data.clock)
        spacing, smallest = spacing_of(data.clock, data.closes)
        none = np.empty((len(ticks), 0))
        return cls(
            data.symbols,
            data.features,
            data.exogenous_names,
            ticks,
            np.stack(cells, 1),
            none if data.exogenous is None else np.asarray(data.exogenous, float),
            last + 1,
            start,
            tail,
            sums,
            spacing,
            smallest,
            not own and data.how != "outer",
            own,
            np.zeros((MEMORY_DAYS, len(data.symbols)), bool),
        )._trimmed()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names along the second axis of ``cells``."""
        return ("close", *self.features) if self.own else FRAME_COLUMNS

    @property
    def closes(self) -> np.ndarray:
        """Closes of the rows (n_rows, n_assets)."""
        return self.cells[:, self.fields.index("close")]

    @property
    def clock(self) -> pd.DatetimeIndex:
        """Close times of the rows."""
        return _index(self.ticks)

    @property
    def next_start(self) -> int:
        """Row before which the sums are wanted next."""
        return max(self.start, self.seen - self.tail)

    def memory(self, lags: int) -> Memory:
        """Return the sums before ``start``, to be recorded before ``next_start``."""
        moves = self.next_start > self.start
        return Memory(self.sums, self.next_start - self.start - 1 if moves else None, lags)

    def with_bars(self, frames: Tables, exogenous: Table | None) -> Self:
        """Return the history with bars that are new, read up to the newest bar given."""
        ticks, owner, values = self._read(frames)
        oldest, is_bar = self.ticks[self.start], np.isfinite(values).any(1)
        # what is older can be neither compared nor added; a row without values is no late bar
        kept = (ticks >= self.ticks[0]) & (is_bar | (ticks > oldest) | np.isin(ticks, self.ticks))
        is_bar = is_bar[kept]
        ticks, owner, values = ticks[kept], owner[kept], values[kept]
        clock = np.union1d(self.ticks, ticks)
        cells = np.full((len(clock), *self.cells.shape[1:]), np.nan)
        cells[np.searchsorted(clock, self.ticks)] = self.cells
        row = np.searchsorted(clock, ticks)
        before = cells[row, :, owner]
        known = np.isfinite(before).any(1)
        equal = (before == values) | (np.isnan(before) & np.isnan(values))
        self._refuse(
            known & ~equal.all(1),
            owner,
            ticks,
            "has changed since it was read; forecasts already rest on it: give closed bars only, "
            "or fit again",
        )
        cells[row, :, owner] = values
        fresh = np.zeros(cells[:, 0].shape, bool)
        fresh[row[~known], owner[~known]] = True
        closes = replace(self, cells=cells).closes
        self._warn(clock, closes, fresh)
        used = np.isfinite(closes).all(1) if self.common else np.ones(len(clock), bool)
        self._refuse(
            ~known & is_bar & used[row] & (ticks <= oldest),
            owner,
            ticks,
            f"is too late: only those after {_index(oldest)} can still be added; fit again",
        )
        clock, cells = clock[used], cells[used]
        newest = max(self.ticks[self.seen - 1], ticks.max(initial=self.ticks[0]))
        return replace(
            self,
            ticks=clock,
            cells=cells,
            exogenous=self._exogenous_at(clock, exogenous),
            seen=int(np.searchsorted(clock, newest, side="right")),
        )

    def caught_up(self) -> Self:
        """Return the history with every bar read that is known."""
        return replace(self, seen=len(self.ticks))

    def rows(self) -> PanelRows:
        """Return features and closes of the rows from ``start`` to the newest that is read."""
        n, begin = self.seen, self.start
        clock = _index(self.ticks[:n])
        panel = np.empty((n - begin, len(self.symbols), len(self.features)), np.float32)
        with np.errstate(over="ignore"):
            if self.own:
                panel[:] = self.cells[begin:n, 1:].transpose(0, 2, 1)
            else:
                bars = self._wide(n)
                for k, name in enumerate(self.features):
                    panel[:, :, k] = feature_array(bars, name)[begin:]
        panel[np.isinf(panel)] = np.nan
        closes = self.closes[begin:n]
        outside = self.exogenous[begin:n] if self.exogenous_names else None
        return PanelRows(
            panel,
            closes,
            forward_returns(closes, 1),
            clock[begin:],
            outside,
            self.symbols,
            self.features,
        )

    def moved_on(self, sums: dict[str, np.ndarray]) -> Self:
        """Return the history from ``next_start`` on, before which the new sums stand."""
        if self.next_start == self.start:
            return self
        return replace(self, start=self.next_start, sums=sums)._trimmed()

    def _trimmed(self) -> Self:
        """Drop the rows that no feature from ``start`` on remembers."""
        there = np.isfinite(self.closes[: self.start + 1])
        from_here = np.cumsum(there[::-1], 0)[::-1]  # own bars from each row to the start
        enough = (from_here >= FORGOTTEN).all(1)
        first = max(int(enough.sum()) - 1, self.start - MOST_ROWS, 0)
        return replace(
            self,
            earlier_days=self._wide(self.start + 1).days_before(first),
            ticks=self.ticks[first:],
            cells=self.cells[first:],
            exogenous=self.exogenous[first:],
            seen=self.seen - first,
            start=self.start - first,
        )

    def _wide(self, stop: int) -> WideBars:
        """Return the bars of the rows before ``stop``."""
        clock = _index(self.ticks[:stop])
        cells, before = self.cells[:stop], self.earlier_days
        return WideBars(clock, self.symbols, self.fields, cells, earlier_days=before)

    # ---- reading

    def _read(self, frames) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return close times ``(K,)``, positions of symbols ``(K,)`` and values ``(K, 5)``."""
        check_type("frames", frames, Mapping, "a dict of DataFrames")
        if unknown := [symbol for symbol in frames if symbol not in self.symbols]:
            raise InvalidInputError(
                f"frames hold {unknown[0]!r}, which the forecaster was not fitted on "
                f"({', '.join(self.symbols)}); for other symbols fit a new one"
            )
        missing = [symbol for symbol in self.symbols if symbol not in frames]
        if self.common and missing:
            raise InvalidInputError(
                "frames must hold every symbol, as the clock holds only moments at which all have "
                f"a bar: {missing[0]!r} is missing"
            )
        parts = []
        for symbol, given in frames.items():
            if isinstance(given, pd.DataFrame) and not len(given):
                continue
            asset = self.symbols.index(symbol)
            if self.own:
                frame = self._own_rows(given, symbol)
            else:
                frame = given if _is_canonical(given) else check_frame(given, symbol)
            if not len(frame):
                continue
            ticks = self._close_ticks(frame, asset)
            values = frame.iloc[:, : len(self.fields)].to_numpy(float)
            parts.append((ticks, np.full(len(ticks), asset), values))
        if not parts:
            raise InvalidInputError("frames must hold at least one bar, got none")
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))

    def _own_rows(self, given, symbol: str) -> pd.DataFrame:
        """Return a symbol's closes and own features, in order and as precise as in training."""
        fields = list(self.fields)
        if missing := [f for f in fields if f not in getattr(given, "columns", ())]:
            raise InvalidInputError(
                f"{symbol}: as the forecaster was fitted on features of your own, frames must hold "
                f"close and these, by close time; {missing[0]!r} is missing"
            )
        times = check_times(given.index, symbol, "close_time")
        try:
            rows = given[fields].astype(float).set_axis(times)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"{symbol}: must hold numbers ({error})") from None
        close = rows["close"].to_numpy()
        if np.isinf(close).any() or (close <= 0).any():
            raise InvalidInputError(f"{symbol}: closes must be positive, NaN where there is no bar")
        with np.errstate(over="ignore"):
            kept = rows[fields[1:]].astype(np.float32).replace([np.inf, -np.inf], np.nan)
        return rows.assign(**kept.astype(float)).dropna(how="all")

    def _close_ticks(self, frame: pd.DataFrame, asset: int) -> np.ndarray:
        """Close times of a symbol's bars; refuses those of another spacing."""
        opens = _ticks(frame.index)
        usual, bars = self.spacing[asset], f"{self.symbols[asset]}: bars"
        if self.own:
            closes = opens  # rows are dated by their closes
        elif "close_time" in frame.columns:
            closes = _ticks(pd.DatetimeIndex(frame["close_time"]))
            length = int(np.median(closes - opens))
            if length > OTHER_SPACING * usual:
                raise other_spacing(bars, length, usual)
        else:
            closes = opens + usual
        read = self.ticks[np.isfinite(self.closes[:, asset])]
        previous = read[read < closes[0]][-1:]
        steps = np.diff(np.concatenate([previous, closes]))
        if len(steps) and steps.min() * OTHER_SPACING < self.smallest[asset]:
            raise other_spacing(bars, steps.min(), usual)
        if len(closes) >= ENOUGH_BARS and np.diff(closes).min() > OTHER_SPACING * usual:
            raise other_spacing(bars, np.diff(closes).min(), usual)
        return closes

    def _warn(self, clock: np.ndarray, closes: np.ndarray, fresh: np.ndarray) -> None:
        """Warn of what no kept bar has been like: a level, a clock, a gap."""
        for asset in np.flatnonzero(fresh.any(0)):
            rows = np.flatnonzero(np.isfinite(closes[:, asset]))
            new, steps = fresh[rows[1:], asset], np.diff(clock[rows])
            moves = np.abs(np.diff(np.log(closes[rows, asset])))
            if not new.any() or new.sum() == len(new):
                continue
            grid, past = max(self.smallest[asset], 1), steps[~new]
            usual = max(JUMP, UNLIKE * moves[~new].max())
            off_clock = (steps % grid != 0) & ~(past % grid).any()
            for wrong, what in (
                (moves > usual, "its close jumps: a split, or another unit?"),
                (off_clock, "it closes off the clock of its earlier bars."),
                (steps > UNLIKE * max(past.max(), LATE * grid), "a gap longer than any before."),
            ):
                if (wrong & new).any():
                    when = _index(clock[rows[1 + int((wrong & new).argmax())]])
                    warn(f"{self.symbols[asset]}, at {when}: {what} See check_bars", 4)

    def _refuse(self, wrong: np.ndarray, owner: np.ndarray, ticks: np.ndarray, why: str) -> None:
        if wrong.any():
            k = int(wrong.argmax())
            raise InvalidInputError(
                f"{self.symbols[owner[k]]}: the bar that closed at {_index(ticks[k])} {why}"
            )

    def _exogenous_at(self, clock: np.ndarray, table: pd.DataFrame | None) -> np.ndarray:
        """Return the exogenous values known at each row: of the table, before it those kept."""
        if table is None and not self.exogenous_names:
            return np.empty((len(clock), 0))
        known = pd.DataFrame(self.exogenous, _index(self.ticks), list(self.exogenous_names))
        if table is not None:
            table = check_exogenous(table, self.symbols)
            missing = [name for name in self.exogenous_names if name not in table]
            if missing or not self.exogenous_names:
                wanted = ", ".join(self.exogenous_names) or "none"
                raise InvalidInputError(f"exogenous must hold the series of training ({wanted})")
            table = table[known.columns]
            covered = known.index >= table.index.min()
            now = table.reindex(known.index, method="ffill")[covered]
            changed = ((now != known[covered]) & ~(now.isna() & known[covered].isna())).any(axis=1)
            changed &= np.arange(len(known))[covered] < self.seen
            if changed.any():
                raise InvalidInputError(
                    f"exogenous: what is known at {changed.idxmax()} has changed since it was read"
                )
            known = pd.concat([known[~covered], table])
        return known.reindex(_index(clock), method="ffill").to_numpy(float)


def rows_from(data: CrossAttentionData, first: int) -> PanelRows:
    """Return the rows behind some windows from one row on."""
    kept = {field.name: getattr(data, field.name) for field in fields(PanelRows)}
    by_row = kept.keys() - {"symbols", "features"}
    cut = {name: kept[name][first:] for name in by_row if kept[name] is not None}
    return PanelRows(**(kept | cut))


def spacing_of(clock: pd.DatetimeIndex, closes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the most frequent and the least distance between each asset's bars; 0: unknown."""
    out, ticks = np.zeros((2, closes.shape[1]), np.int64), _ticks(clock)
    for asset, known in enumerate(np.isfinite(closes).T):
        distances, counts = np.unique(np.diff(ticks[known]), return_counts=True)
        if len(distances):
            out[:, asset] = distances[counts.argmax()], distances[0]
    return out[0], out[1]


def other_spacing(bars: str, found: int, usual: int) -> InvalidInputError:
    """Return the refusal of ``bars`` that are not as far apart as those of training, in ticks."""
    found, usual = (pd.Timedelta(int(ticks), unit=UNIT) for ticks in (found, usual))
    return InvalidInputError(
        f"{bars} {found} apart, but the forecaster was fitted on bars {usual} apart"
    )


def _is_canonical(frame) -> bool:
    """Whether :func:`~crossattn.data.frame.check_frame` would change nothing: a quick test."""
    if not (isinstance(frame, pd.DataFrame) and tuple(frame.columns) == FRAME_COLUMNS):
        return False
    values, index = frame.to_numpy(), frame.index
    if values.dtype != np.float64 or not isinstance(index, pd.DatetimeIndex):
        return False
    open_, high, low, close, volume = values.T
    ordered = (low > 0) & (low <= np.minimum(open_, close)) & (np.maximum(open_, close) <= high)
    sane = (ordered & (high < np.inf) & ~(volume < 0) & (volume != np.inf)).all()
    increasing = (np.diff(index.asi8) > 0).all()
    return bool(sane and increasing and index.tz is not None and str(index.tz) == "UTC")


def _ticks(times: pd.DatetimeIndex) -> np.ndarray:
    return times.as_unit(UNIT).asi8


def _index(ticks: np.ndarray):
    """Close times as UTC; one of them as a Timestamp."""
    if np.ndim(ticks) == 0:
        return pd.Timestamp(int(ticks), unit=UNIT, tz="UTC")
    return pd.DatetimeIndex(ticks.view(f"M8[{UNIT}]"), name="close_time").tz_localize("UTC")
