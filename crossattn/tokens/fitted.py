"""A fitted forecaster at work: predict, update bar by bar, split into contributions, save, load."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from crossattn._estimator import ForecastEstimator
from crossattn._validation import check_bool, check_path, check_same_names
from crossattn.data.frame import Table, Tables
from crossattn.errors import InvalidInputError
from crossattn.tokens.channels import Tokenizer, TokenSeries, hour_and_weekday
from crossattn.tokens.content import MOVE_BARS
from crossattn.tokens.history import (
    LATE,
    OTHER_SPACING,
    History,
    other_spacing,
    rows_from,
    spacing_of,
)
from crossattn.tokens.memory import Memory
from crossattn.tokens.mixture import Mixture
from crossattn.tokens.storage import load_forecaster, save_forecaster
from crossattn.windows.checks import check_windows, match_training
from crossattn.windows.dataset import CrossAttentionData

FEWEST_BARS = 256  # of a history that begins after the training data
RECENT = 2000  # bars whose spacing is looked at


@dataclass(frozen=True)
class Reading:
    """Token channels of some data and the rows that windows end at: read once, used often."""

    series: TokenSeries
    rows: np.ndarray

    def __getitem__(self, windows: slice) -> Self:
        return replace(self, rows=self.rows[windows])


class FittedForecaster(ForecastEstimator):
    """Base of the forecaster: all that needs its fitted parts and not how they were fitted.

    Attributes are those of :class:`crossattn.CrossAttentionForecaster`, whose ``fit`` sets them.
    """

    max_lag: int
    target: str
    symbols_: tuple[str, ...]
    sources_: tuple[str, ...]
    channels_: tuple[str, ...]
    minimum_tail_: int
    fitted_until_: pd.Timestamp
    state_: History | None
    _mixture: Mixture
    _tokenizer: Tokenizer
    _spacing: np.ndarray
    _first_row: pd.Timestamp

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` in the units and the order of what is forecast.

        Known at each window's last close; NaN where the asset has no bar there. Averages over the
        past begin at the first row behind the windows: of a history that goes on after the
        training data, at least ``minimum_tail_`` bars are wanted, and refused where there are less.
        """
        read = self._read(data)  # refuses before a fit
        out = self._mixture.forecast(*read)
        out = out[:, [self.symbols_.index(symbol) for symbol in data.symbols]]
        known = np.isfinite(data.panel[data.ends]).any(axis=2)
        return np.where(data.has_bar & known, out, np.nan)

    def update(self, frames: Tables, exogenous: Table | None = None) -> np.ndarray:
        """Read new bars and forecast from the newest one: ``predict`` bar by bar, in milliseconds.

        Goes on from the last bar of the windows that were fitted on, then from that of the last
        update; the state is kept here, and by ``save`` on disk. Equal to ``predict`` on the whole
        history.

        Parameters
        ----------
        frames : dict of str to DataFrame
            Closed bars by symbol, any number of each. A symbol without a new bar is left out, and
            its forecast is NaN where it has no bar at the newest close. Bars that were read before
            are ignored, and so are those older than what is kept (about a thousand bars); a bar
            that is late by less than 96 bars is read as if it had been in time. After a fit on
            :func:`~crossattn.windows.prepare.windows_of_features`: ``close`` and these features,
            indexed by close time.
        exogenous : DataFrame, optional
            New rows of the exogenous series, indexed by the moment at which each is known; without
            them the newest known values stay. The series are those that were trained on.

        Returns
        -------
        ndarray of shape (n_assets,)
            Forecast of the newest closed bar, in the order of ``symbols_`` and the units of y.

        Raises
        ------
        InvalidInputError
            Unknown symbols, bars of another spacing, a bar that differs from what was read before
            or is too late, a wrong frame; or a forecaster that was fitted on windows without times
            (``CrossAttentionData.from_arrays``). The state is then as it was before.

        Warns
        -----
        CrossAttentionWarning
            New bars unlike any that are kept: a close that jumps as at a split, a shifted clock, a
            gap.

        Examples
        --------
        >>> from crossattn import CrossAttentionForecaster
        >>> from crossattn import prepare_cross_attention_data, simulate_market
        >>> frames = simulate_market(n_assets=3, n_steps=800).frames
        >>> past = {symbol: bars[:-1] for symbol, bars in frames.items()}
        >>> data = prepare_cross_attention_data(past, lookback=24, horizon=1)
        >>> forecaster = CrossAttentionForecaster(n_models=1, epochs=2).fit(*data.split()[:2])
        >>> now = forecaster.update({symbol: bars[-1:] for symbol, bars in frames.items()})
        >>> whole = prepare_cross_attention_data(frames, 24, 1, include_latest=True)
        >>> bool(np.allclose(now, forecaster.predict(whole)[-1], atol=1e-9, rtol=0))
        True
        """
        self.state_, _, forecasts = self._go_on(self._with_bars(frames, exogenous))
        return forecasts[-1]

    def newest(
        self, frames: Tables, exogenous: Table | None = None, last: int = 1
    ) -> tuple[pd.DatetimeIndex, np.ndarray]:
        """Return the last closes and the forecasts at them, as ``update`` would; keep no state.

        There may be fewer than ``last``: the state reaches back some hundred bars.
        """
        return self._go_on(self._with_bars(frames, exogenous), last)[1:]

    def _with_bars(self, frames, exogenous) -> History:
        """Return the history with new bars; a forecaster fitted on arrays has none."""
        self._check_fitted()
        if self.state_ is None:
            raise InvalidInputError(
                "update and newest need a forecaster that was fitted on windows with times, of "
                "bars or of features by close time; give predict windows with at least "
                f"minimum_tail_ = {self.minimum_tail_} bars instead"
            )
        return self.state_.with_bars(frames, exogenous)

    def _go_on(
        self, history: History, last: int = 1
    ) -> tuple[History, pd.DatetimeIndex, np.ndarray]:
        """Return the next state, the last closes, and the forecasts at them."""
        memory, rows = history.memory(self.max_lag), history.rows()
        series = self._tokenizer.series(rows, memory)
        reach = self.max_lag + max(MOVE_BARS) if history.sums else self.max_lag
        newest = np.arange(max(len(rows.clock) - last, reach), len(rows.clock))
        forecasts = self._mixture.forecast(series, newest)
        known = np.isfinite(rows.closes) & np.isfinite(rows.panel).any(axis=2)
        forecasts[~known[newest]] = np.nan
        return history.moved_on(memory.after), rows.clock[newest], forecasts

    def catch_up(self) -> Self:
        """Read the bars that came after validation in the data of ``fit``; return itself.

        ``update`` then goes on from the newest of them, and what is saved is small.
        """
        self._check_fitted()
        if self.state_ is not None:
            self.state_ = self._go_on(self.state_.caught_up())[0]
        return self

    def intercept(self, data: CrossAttentionData) -> np.ndarray:
        """Return what is forecast before any token is read, ``(n, n_assets)``.

        The drift at each hour and weekday, plus what centring the tokens leaves; of a volatility
        its log.
        """
        self._check_fitted()
        check_windows("data", data)
        data = self._aligned(data)
        return self._mixture.intercept(*hour_and_weekday(data.timestamps))

    def contributions(self, data: CrossAttentionData, by_channel: bool = False) -> np.ndarray:
        """Return what each token adds to each forecast: they and the intercept sum to it.

        For ``target="volatility"`` they sum to its log.

        Returns
        -------
        ndarray of shape (n, n_assets, n_sources, n_lags) or (..., n_channels)
            Lag index k is k bars before the window's last bar. Tokens are centred by their means on
            training windows. Assets in the order of ``symbols_``.
        """
        check_bool("by_channel", by_channel)
        return np.concatenate([part for part, _ in self.contribution_batches(data, by_channel)])

    def reading(self, data: CrossAttentionData) -> Reading:
        """Return what the methods below read of data; they take it, or a slice of it, instead."""
        return Reading(*self._read(data))

    def contribution_batches(
        self,
        data: CrossAttentionData | Reading,
        by_channel: bool = False,
        followers: np.ndarray | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield contributions and the windows they belong to, a batch at a time.

        ``followers`` are positions in ``symbols_``: only their forecasts are split.
        """
        read = self._read(data)
        return self._mixture.contribution_batches(*read, by_channel, followers)

    def source_contributions(
        self, data: CrossAttentionData | Reading, followers: np.ndarray
    ) -> np.ndarray:
        """Return :meth:`contributions` of some followers summed over lags, ``(n, F, n_sources)``.

        ``followers`` are positions in ``symbols_``.
        """
        read = self._read(data)
        return self._mixture.source_contributions(*read, followers)

    def channel_values(self, data: CrossAttentionData | Reading) -> np.ndarray:
        """Return the value of every channel of every source at every row of the panel.

        Returns
        -------
        ndarray of shape (n_rows, n_sources, n_channels), float32
            Up to the row of the last window; 0 where it is missing. Where several series share a
            name, their mean, each in standard deviations.
        """
        series, _ = self._read(data)
        out = np.zeros((len(series.returns), len(self.sources_), len(self.channels_)), np.float32)
        for k, name in enumerate(self.channels_):
            same = [c for c in series.channels if c.name == name and c.lags[0] == 1]
            for channel in same:
                spread = channel.values.std(0) if len(same) > 1 else 1.0
                values = channel.values / np.where(spread > 0, spread, 1.0) / len(same)
                out[:, : values.shape[1], k] += values
        return out

    def coefficients(self, data: CrossAttentionData) -> np.ndarray:
        """Return what one unit of each source's log return adds to each forecast.

        Returns
        -------
        ndarray of shape (n, n_assets, n_sources, n_lags)
            Of the channel "return" alone; lag index k is k bars before the window's last bar.
        """
        read = self._read(data)
        batches = self._mixture.coefficient_batches(*read)
        return np.concatenate([coefficients for coefficients, _, _ in batches])

    def attention(self, data: CrossAttentionData) -> np.ndarray:
        """Return attention ``(n, n_assets, n_sources, n_lags)``: over sources and lags jointly.

        A token's share is the size of its coefficient times the token's standard deviation, summed
        over channels: how much a forecast moves for a usual move of the token. Rows sum to 1, or
        to 0 where the forecast reads no token at all.
        """
        read = self._read(data)
        batches = self._mixture.coefficient_batches(*read)
        size = np.concatenate([pull for _, pull, _ in batches])
        total = size.sum((2, 3), keepdims=True)
        return np.divide(size, total, out=np.zeros_like(size), where=total > 0)

    def leaders(self, data: CrossAttentionData) -> np.ndarray:
        """Return the source with the largest pull on each asset's next bar, ``(n, n_assets)``.

        The pull is the attention that a source gets before it is made to sum to 1, over all lags;
        the asset itself is left out. -1 only where every other source is missing.
        """
        series, rows = self._read(data)
        own, found = np.arange(len(self.symbols_)), []
        for _, pull, here in self._mixture.coefficient_batches(series, rows):
            pull = pull.sum(-1)  # (b, N, S)
            pull[:, own, own] = -1.0
            seen = np.stack([series.known[here - k] for k in range(self.max_lag + 1)]).any(0)
            pull = np.where(seen[:, None, :], pull, -1.0)
            found.append(np.where(pull.max(-1) >= 0, pull.argmax(-1), -1))
        return np.concatenate(found)

    def save(self, directory: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` to a folder."""
        self._check_fitted()
        save_forecaster(self, check_path("directory", directory))

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DamagedFileError
            A file is missing or not what was written.
        """
        return load_forecaster(cls, check_path("directory", directory))

    def _remember_history(self, data: CrossAttentionData, val: CrossAttentionData) -> None:
        """Keep the newest bars and the sums before them, from which ``update`` goes on."""
        last = len(data.panel) - 1
        before_val = last - int(val.ends[-1])  # rows of training data that are not behind val
        tail = self.max_lag + max(MOVE_BARS) + LATE
        start = max(before_val, last + 1 - tail)
        memory = Memory(keep=start - 1 if start else None, lags=self.max_lag)
        series = self._tokenizer.series(data, memory)
        newest = np.arange(max(self.max_lag, last - 31), last + 1)
        forecasts = self._mixture.forecast(series, newest)
        self._first_row, self.fitted_until_ = data.clock[0], val.timestamps[-1]
        self.minimum_tail_ = self._measure_tail(data, newest, forecasts)
        self.state_ = History.of_windows(
            val, last - before_val, start - before_val, tail, memory.after
        )

    def _measure_tail(self, data, newest: np.ndarray, forecasts: np.ndarray) -> int:
        """Bars from which the newest forecasts are within 1 % of those from all bars."""
        allowed = 0.01 * np.sqrt(np.mean(forecasts**2))
        first = int(newest[0]) - FEWEST_BARS + 1
        if first <= 0:
            return FEWEST_BARS
        series = self._tokenizer.series(rows_from(data, first))
        missed = np.abs(self._mixture.forecast(series, newest - first) - forecasts)
        return FEWEST_BARS * (1 if missed.max() <= allowed else 2)

    # ---- reading

    def _aligned(self, data: CrossAttentionData) -> CrossAttentionData:
        """Return the data with the forecaster's symbols and features, in its order."""
        data = match_training("data", data, self.symbols_, self.features_)
        series = self.sources_[len(self.symbols_) :]
        check_same_names("data: exogenous series", data.exogenous_names, series)
        data = data.with_series(series)
        self._check_spans("data", data)
        self._check_spacing(data)
        return data

    def _check_spacing(self, data: CrossAttentionData) -> None:
        """Refuse bars of another spacing than those of training."""
        order = [data.symbols.index(symbol) for symbol in self.symbols_]
        given, _ = spacing_of(data.clock[-RECENT:], data.closes[-RECENT:, order])
        for symbol, new, known in zip(self.symbols_, given, self._spacing, strict=True):
            if new and known and not known / OTHER_SPACING <= new <= known * OTHER_SPACING:
                raise other_spacing(f"{symbol}: data has bars", new, known)

    def _read(self, data: CrossAttentionData | Reading) -> tuple[TokenSeries, np.ndarray]:
        """Return the token series up to the last window, and the rows that windows end at."""
        if isinstance(data, Reading):
            return data.series, data.rows
        self._check_fitted()
        check_windows("data", data)
        own = self._aligned(data)
        newest = int(own.ends[-1])
        if data.clock[0] > self._first_row and newest + 1 < self.minimum_tail_:
            raise InvalidInputError(
                f"data has {newest + 1} bars up to its newest window, but the forecaster's "
                f"averages reach back over minimum_tail_ = {self.minimum_tail_}: give more bars, "
                "or use update()"
            )
        own = own.until(newest)
        return self._tokenizer.series(own), own.ends
