"""The recommended forecaster: attention over (source, lag, channel) tokens, mixed from three parts.

Built in chapter: The full model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossattn._estimator import ForecastEstimator, check_windows
from crossattn._io import progress
from crossattn._validation import check_bool, check_choice, check_int, check_path, check_seed
from crossattn.errors import InvalidInputError
from crossattn.runtime import select_device
from crossattn.tokens.channels import TokenIndex, Tokenizer, TokenSeries
from crossattn.tokens.content import EPOCHS, MOVE_BARS, ContentPart
from crossattn.tokens.history import (
    LATE,
    OTHER_SPACING,
    UNIT,
    History,
    rows_from,
    spacing_of,
)
from crossattn.tokens.linear_map import LinearMap, running_sum
from crossattn.tokens.memory import Memory
from crossattn.tokens.mix import common_drift, mix_weights
from crossattn.tokens.sparse import TOKENS_PER_FOLLOWER, SparseRegressions, fit_ridge
from crossattn.tokens.varying import VaryingPart
from crossattn.tokens.volatility import VolatilityTokenizer, fit_volatility
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.splits import hold_out

if TYPE_CHECKING:
    from crossattn.evidence.leadlag import LeadLagReport

VALIDATION_SHARE = 0.1
HISTORY = ["member", "epoch", "val_loss"]
FEWEST_BARS = 256  # of a history that begins after the training data
RECENT = 2000  # bars whose spacing is looked at
CHUNK_CELLS = 20_000_000  # numbers of one array of coefficients held at a time


class CrossAttentionForecaster(ForecastEstimator):
    """Forecast every asset from every other by attention over (source, lag, channel) tokens.

    Sources are the assets and any exogenous series; channels are what is known about a source at a
    bar: its return, the part below zero, the part that came on volume, its size, its signed root,
    its relative volume, its distance from its own slow mean, and every feature of the data. Three
    parts read the tokens, and non-negative least squares on validation windows mixes them:

    - *static*: sparse regressions, attention on fixed leaders, strong where data are few;
    - *varying*: coefficients that change with hour, weekday, market state, volume or size, drift
      in time, or turn with a hidden regime;
    - *content*: attention heads that learn which source is loud, whatever its name.

    Parameters
    ----------
    max_lag : int
        Oldest bar that is read, counted back from the newest: lags 1 to ``max_lag + 1``.
    n_models : int
        Content heads, which differ in their initial weights and are averaged.
    target : {"return", "volatility"}
        What is forecast: ``data.y`` or ``data.realised_volatility``; see Notes for the latter.
    seed : int
        Of the content heads; everything else is deterministic.
    device : str
        For the content heads; ``"auto"`` takes a GPU where there is one.
    progress : bool
        Show on stderr, where that is a terminal, which part is being fitted.
    tokens_per_follower : int
        Tokens that the static part keeps per follower, by marginal correlation.
    varying, content : bool
        Fit these parts too.
    epochs : int
        Passes over the training windows of the content heads.

    Attributes
    ----------
    symbols_ : tuple of str
        Followers, in the order of every axis of ``attention``, ``contributions`` and ``leaders``,
        whatever the order in the data that is asked about.
    sources_ : tuple of str
        The symbols, then the exogenous series.
    channels_ : tuple of str
        Along the last axis of ``contributions(data, by_channel=True)``.
    weights_ : dict of str to float
        Of every part in the mix.
    drift_ : ndarray of shape (n_assets,)
        Forecast where no token says anything: one drift for all assets, in units of each one's
        volatility and shrunk by its standard error.
    features_, lookback_, horizon_
        Of the training data.
    minimum_tail_ : int
        Bars that ``predict`` needs up to its newest window where the data begins later than the
        training data: 256, in which features settle, or 512 where that is more than 1 % off in the
        newest forecasts. What forgets more slowly, such as drifting coefficients, is exact on the
        whole history and in ``update``, which needs the new bars alone.
    state_ : History or None
        Newest bars and sums from which ``update`` goes on.
    history_ : DataFrame
        ``member, epoch, val_loss`` of the content heads.

    Notes
    -----
    Parameters are checked by ``fit``, as in scikit-learn. Losses divide target and forecast by the
    asset's recent volatility (exponential mean, half-life 12 bars). Channels read the panel behind
    the windows, from its first row to each window's end, never beyond.

    A horizon of several bars is forecast from next-bar coefficients, added up over what is already
    known of each bar, mixed on next bars; a regression on the horizon's own return adds what it
    can show on validation. Of a duration that is not the same number of bars everywhere, the usual
    number is added up.

    ``target="volatility"`` has one part, log-linear in tokens of its own
    (:mod:`crossattn.tokens.volatility`): slow and fast means of squared returns and ranges, falls,
    the other features, hour and weekday. It is fitted by QLIKE, so that a forecast is the root of
    the expected squared volatility, above 0. ``contributions`` and ``intercept`` then add up to the
    *log* of the forecast: a token multiplies it by the exponential of its share. ``n_models``,
    ``varying``, ``content`` and ``epochs`` play no part in it, and ``coefficients`` are 0.

    Built in chapter: The full model.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=800)
    >>> data = prepare_cross_attention_data(market.frames, lookback=24, horizon=1)
    >>> train, val, test = data.split()
    >>> forecaster = CrossAttentionForecaster(n_models=1, epochs=2).fit(train, val)
    >>> forecaster
    CrossAttentionForecaster(epochs=2, n_models=1)
    >>> forecaster.predict(test).shape == test.y.shape
    True

    Choose ``max_lag`` on walk-forward folds, each purged by the horizon:

    >>> from sklearn.base import clone
    >>> from crossattn.windows.splits import walk_forward_folds
    >>> folds = walk_forward_folds(train, train_size=200, test_size=60)
    >>> scores = {}
    >>> for max_lag in (3, 7):
    ...     model = clone(forecaster).set_params(max_lag=max_lag)
    ...     scores[max_lag] = np.mean(
    ...         [model.fit(fold.train[0]).score(fold.test[0]) for fold in folds]
    ...     )
    >>> max(scores, key=scores.get) in (3, 7)
    True
    """

    def __init__(
        self,
        max_lag: int = 23,
        n_models: int = 3,
        *,
        target: str = "return",
        seed: int = 0,
        device: str = "auto",
        progress: bool = True,
        tokens_per_follower: int = TOKENS_PER_FOLLOWER,
        varying: bool = True,
        content: bool = True,
        epochs: int = EPOCHS,
    ):
        self.max_lag = max_lag
        self.n_models = n_models
        self.target = target
        self.seed = seed
        self.device = device
        self.progress = progress
        self.tokens_per_follower = tokens_per_follower
        self.varying = varying
        self.content = content
        self.epochs = epochs

    def fit(
        self, train: CrossAttentionData, val: CrossAttentionData | None = None
    ) -> CrossAttentionForecaster:
        """Fit all parts on ``train`` and mix them on ``val``.

        Parameters
        ----------
        train : CrossAttentionData
            Scaling and coefficients come from here; the static and the varying part are fitted once
            more on both.
        val : CrossAttentionData, optional
            Later windows, which choose penalties, epochs and the mix; without them the last tenth
            of ``train``, purged by the horizon.

        Returns
        -------
        CrossAttentionForecaster
            Itself.

        Raises
        ------
        InvalidInputError
            A parameter is wrong or the data does not fit it.
        """
        self._check_parameters()
        check_windows("train", train)
        if val is None:
            train, val = hold_out(train, VALIDATION_SHARE)
        check_windows("val", val)
        if train.lookback <= self.max_lag:
            raise InvalidInputError(
                f"lookback must be above max_lag={self.max_lag}, got {train.lookback}"
            )
        self._remember(train)
        self.sources_ = train.sources
        self._spacing, _ = spacing_of(train.clock, train.closes)
        tokenizer = VolatilityTokenizer if self.target == "volatility" else Tokenizer
        self._tokenizer = tokenizer(self.max_lag).fit(train)
        val = self._aligned(val)
        data, train_rows, val_rows = _together(train, val)
        series = self._tokenizer.series(data)
        index = TokenIndex(series.channels)
        self.channels_ = tuple(dict.fromkeys(channel.name for channel in series.channels))
        self._centre = _token_means(index, train_rows)
        self._spread = _token_spreads(index, train_rows)
        self._varying = self._content = self._calendar = None
        # where hours differ no number of bars makes up the horizon: the usual one stands for it
        self._bars_ahead = data.usual_horizon
        if self.target == "volatility":
            self._fit_volatility(index, series, data, train_rows, val_rows)
            self._remember_history(data, val)
            return self
        parts = {
            "static": lambda: self._fit_static(index, series, train_rows, val_rows),
            "varying": lambda: VaryingPart(self.max_lag + 1).fit(series, train_rows),
            "content": lambda: self._fit_content(series, train_rows, val_rows),
        }
        fitted = {
            name: parts[name]()
            for name in progress(
                [name for name in parts if name == "static" or getattr(self, name)],
                shown=self.progress,
                desc="part",
            )
        }
        first, final = fitted.pop("static")
        held_out = {name: part.forecast(index, val_rows) for name, part in first.items()}
        held_out |= {name: part.forecast(series, val_rows) for name, part in fitted.items()}
        self._varying, self._content = fitted.get("varying"), fitted.get("content")
        self.history_ = pd.DataFrame(self._content.history if self.content else [], columns=HISTORY)
        # Next bars choose the mix, for any horizon: targets of 24 bars overlap, and hold 24 times
        # the noise with hardly more of what is forecast.
        following, volatility = series.next_returns, series.volatility
        drift = common_drift(following[train_rows], volatility[train_rows])
        self.weights_ = mix_weights(
            held_out, following[val_rows] - drift, volatility[val_rows], 1, first
        )
        first, final = (
            {k: m.ahead(index, self._bars_ahead, self._centre) for k, m in maps.items()}
            for maps in (first, final)
        )
        target, volatility = data.targets, volatility * np.sqrt(self.horizon_)
        if self.horizon_ > 1:
            base = self._mix(_mixed(first, self.weights_), index, series, val_rows)
            drift = common_drift(target[train_rows], volatility[train_rows], self.horizon_)
            direct = SparseRegressions(index, self.tokens_per_follower, overlap=self.horizon_)
            direct.fit(target, volatility, train_rows, val_rows)
            whole = {f"{name}, whole horizon": m for name, m in direct.first.items()}
            self.weights_ |= mix_weights(
                {name: m.forecast(index, val_rows) for name, m in whole.items()},
                target[val_rows] - drift - base,
                volatility[val_rows],
                self.horizon_,
                whole,
            )
            final |= {f"{name}, whole horizon": m for name, m in direct.final.items()}
        both = np.concatenate([train_rows, val_rows])
        self.drift_ = common_drift(target[both], volatility[both], self.horizon_)
        self._static = _mixed(final, self.weights_)
        if self.weights_.get("varying"):
            self._varying.fit(series, both)
        else:
            self._varying = None
        if not self.weights_.get("content"):
            self._content = None
        self._remember_history(data, val)
        return self

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` in the units and the order of what is forecast.

        Known at each window's last close; NaN where the asset has no bar there. Averages over the
        past begin at the first row behind the windows: of a history that goes on after the
        training data, at least ``minimum_tail_`` bars are wanted, and refused where there are less.
        """
        out = self._forecast(*self._read(data))
        out = out[:, [self.symbols_.index(symbol) for symbol in data.symbols]]
        known = np.isfinite(data.panel[data.ends]).any(axis=2)
        return np.where(data.has_bar & known, out, np.nan)

    def update(
        self, frames: Mapping[str, pd.DataFrame], exogenous: pd.DataFrame | None = None
    ) -> np.ndarray:
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
            :func:`~crossattn.windows.dataset.windows_of_features`: ``close`` and these features,
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
        self._check_fitted()
        if self.state_ is None:
            raise InvalidInputError(
                "update needs a forecaster that was fitted on windows with times, of bars or of "
                "features by close time; give predict windows with at least "
                f"minimum_tail_ = {self.minimum_tail_} bars instead"
            )
        self.state_, _, forecasts = self._go_on(self.state_.with_bars(frames, exogenous))
        return forecasts[-1]

    def newest(
        self,
        frames: Mapping[str, pd.DataFrame],
        exogenous: pd.DataFrame | None = None,
        last: int = 1,
    ) -> tuple[pd.DatetimeIndex, np.ndarray]:
        """Return the last closes and the forecasts at them, as ``update`` would; keep no state.

        There may be fewer than ``last``: the state reaches back some hundred bars.
        """
        self._check_fitted()
        return self._go_on(self.state_.with_bars(frames, exogenous), last)[1:]

    def _go_on(
        self, history: History, last: int = 1
    ) -> tuple[History, pd.DatetimeIndex, np.ndarray]:
        """Return the next state, the last closes, and the forecasts at them."""
        memory, rows = history.memory(self.max_lag), history.rows()
        series = self._tokenizer.series(rows, memory)
        reach = self.max_lag + max(MOVE_BARS) if history.sums else self.max_lag
        newest = np.arange(max(len(rows.clock) - last, reach), len(rows.clock))
        forecasts = self._forecast(series, newest)
        known = np.isfinite(rows.closes) & np.isfinite(rows.panel).any(axis=2)
        forecasts[~known[newest]] = np.nan
        return history.moved_on(memory.after), rows.clock[newest], forecasts

    def catch_up(self) -> CrossAttentionForecaster:
        """Read the bars that came after validation in the data of ``fit``; return itself.

        ``update`` then goes on from the newest of them, and what is saved is small.
        """
        self._check_fitted()
        if self.state_ is not None:
            self.state_ = self._go_on(self.state_.caught_up())[0]
        return self

    def intercept(self, data: CrossAttentionData) -> np.ndarray:
        """Return what is forecast before any token is read, ``(n, n_assets)``.

        The drift, plus what centring the tokens leaves; of a volatility its log, with the calendar.
        """
        self._check_fitted()
        level = self.drift_ + self._static.offset + self._static.coefficient @ self._centre
        if self._calendar is None:
            return np.tile(level, (len(data), 1))
        return level + self._calendar.at(data.timestamps.hour, data.timestamps.day_of_week)

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

    def contribution_batches(
        self,
        data: CrossAttentionData,
        by_channel: bool = False,
        followers: np.ndarray | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield contributions and the windows they belong to, a batch at a time.

        ``followers`` are positions in ``symbols_``: only their forecasts are split.
        """
        n_assets, n_sources, n_lags = self._shape
        chosen = np.arange(n_assets) if followers is None else np.asarray(followers)
        n_channels = len(self.channels_) if by_channel else 1
        share = len(chosen) * n_channels / n_assets
        moving_at = None
        for series, index, rows, place in self._batches(data, share):
            moving_at = moving_at or self._moving_coefficients(series, chosen)
            out = np.zeros((len(rows), len(chosen), n_sources, n_lags, n_channels))
            returns = _lagged_at(series.returns, rows, n_lags)[:, None]  # (b, 1, S, L)
            moving = moving_at(rows)
            if moving is not None:
                out[:, :, :n_assets, :, 0] += moving * returns[:, :, :n_assets]
            self._add_static(out, index, rows, by_channel, chosen)
            yield (out if by_channel else out[..., 0]), place

    def channel_values(self, data: CrossAttentionData) -> np.ndarray:
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
        return np.concatenate([batch[0] for batch in self._coefficient_batches(data)])

    def attention(self, data: CrossAttentionData) -> np.ndarray:
        """Return attention ``(n, n_assets, n_sources, n_lags)``: over sources and lags jointly.

        A token's share is the size of its coefficient times the token's standard deviation, summed
        over channels: how much a forecast moves for a usual move of the token. Rows sum to 1, or
        to 0 where the forecast reads no token at all.
        """
        batches = [self._sensitivity(*batch[:2]) for batch in self._coefficient_batches(data)]
        size = np.concatenate(batches)
        total = size.sum((2, 3), keepdims=True)
        return np.divide(size, total, out=np.zeros_like(size), where=total > 0)

    def leaders(self, data: CrossAttentionData) -> np.ndarray:
        """Return the source with the largest pull on each asset's next bar, ``(n, n_assets)``.

        The pull is the attention that a source gets before it is made to sum to 1, over all lags;
        the asset itself is left out. -1 only where every other source is missing.
        """
        found = []
        for coefficients, others, series, rows in self._coefficient_batches(data):
            pull = self._sensitivity(coefficients, others).sum(-1)  # (b, N, S)
            n_assets = pull.shape[1]
            pull[:, np.arange(n_assets), np.arange(n_assets)] = -1.0
            seen = np.stack([series.known[rows - k] for k in range(self._shape[2])]).any(0)
            pull = np.where(seen[:, None, :], pull, -1.0)
            found.append(np.where(pull.max(-1) >= 0, pull.argmax(-1), -1))
        return np.concatenate(found)

    def lead_lag(self, data: CrossAttentionData, alpha: float = 0.05) -> LeadLagReport:
        """Test who leads whom on ``data``, which must be later than what was fitted on."""
        from crossattn.evidence.leadlag import analyze_lead_lag_relationships

        return analyze_lead_lag_relationships(self, data, alpha=alpha)

    def save(self, directory: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` to a folder."""
        from crossattn.tokens.storage import save_forecaster

        self._check_fitted()
        save_forecaster(self, check_path("directory", directory))

    @classmethod
    def load(cls, directory: str | Path) -> CrossAttentionForecaster:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DamagedFileError
            A file is missing or not what was written.
        """
        from crossattn.tokens.storage import load_forecaster

        return load_forecaster(cls, check_path("directory", directory))

    # ---- fitting

    def _check_parameters(self) -> None:
        check_int("max_lag", self.max_lag, at_least=0)
        for name in ("n_models", "tokens_per_follower", "epochs"):
            check_int(name, getattr(self, name))
        check_seed("seed", self.seed)
        check_choice("target", self.target, ("return", "volatility"))

    @property
    def _forecasts_volatility(self) -> bool:
        return self.target == "volatility"

    def _target_of(self, data: CrossAttentionData) -> np.ndarray:
        return data.realised_volatility if self.target == "volatility" else data.y

    def _fit_volatility(
        self, index: TokenIndex, series: TokenSeries, data: CrossAttentionData, train, val
    ) -> None:
        fitted = fit_volatility(index, series, data, train, val, self.tokens_per_follower)
        self._static, self.drift_, self._calendar = fitted.tokens, fitted.level, fitted.calendar
        self.weights_, self.history_ = fitted.weights, pd.DataFrame(columns=HISTORY)

    def _fit_static(
        self, index: TokenIndex, series: TokenSeries, train, val
    ) -> tuple[dict[str, LinearMap], dict[str, LinearMap]]:
        """Fit regressions of the next bar; return those of train, and of train and val."""
        target, volatility = series.next_returns, series.volatility
        sparse = SparseRegressions(index, self.tokens_per_follower)
        sparse.fit(target, volatility, train, val)
        ridge, final_ridge = fit_ridge(index, target, volatility, train, val)
        return {**sparse.first, "ridge": ridge}, {**sparse.final, "ridge": final_ridge}

    def _fit_content(self, series: TokenSeries, train, val) -> ContentPart:
        return ContentPart.fit(
            series,
            train,
            val,
            n_members=self.n_models,
            n_lags=self.max_lag + 1,
            seed=self.seed,
            device=select_device(self.device),
            epochs=self.epochs,
        )

    def _mix(
        self, static: LinearMap, index: TokenIndex, series: TokenSeries, rows: np.ndarray
    ) -> np.ndarray:
        """Forecast the horizon's return, without the drift."""
        out = static.forecast(index, rows)
        if self._varying is not None:
            out += self.weights_["varying"] * self._varying_forecast(series, rows)
        if self._content is not None:
            out += self.weights_["content"] * self._content.forecast(series, rows)
        return out

    def _forecast(self, series: TokenSeries, rows: np.ndarray) -> np.ndarray:
        """Forecast the target at some rows, also where an asset has no bar."""
        out = self.drift_ + self._mix(self._static, TokenIndex(series.channels), series, rows)
        if self._calendar is not None:
            out = np.exp(out + self._calendar.at(series.hour[rows], series.weekday[rows]))
        return out

    def _remember_history(self, data: CrossAttentionData, val: CrossAttentionData) -> None:
        """Keep the newest bars and the sums before them, from which ``update`` goes on."""
        last = len(data.panel) - 1
        before_val = last - int(val.ends[-1])  # rows of training data that are not behind val
        tail = self.max_lag + max(MOVE_BARS) + LATE
        start = max(before_val, last + 1 - tail)
        memory = Memory(keep=start - 1 if start else None, lags=self.max_lag)
        series = self._tokenizer.series(data, memory)
        newest = np.arange(max(self.max_lag, last - 31), last + 1)
        whole = self._forecast(series, newest)
        self._first_row = data.clock[0]
        self.minimum_tail_ = self._measure_tail(data, newest, whole)
        self.state_ = History.of_windows(
            val, last - before_val, start - before_val, tail, memory.after
        )

    def _measure_tail(self, data, newest: np.ndarray, whole: np.ndarray) -> int:
        """Bars from which the newest forecasts are within 1 % of those from all bars."""
        allowed = 0.01 * np.sqrt(np.mean(whole**2))
        first = int(newest[0]) - FEWEST_BARS + 1
        if first <= 0:
            return FEWEST_BARS
        series = self._tokenizer.series(rows_from(data, first))
        missed = np.abs(self._forecast(series, newest - first) - whole)
        return FEWEST_BARS * (1 if missed.max() <= allowed else 2)

    # ---- reading

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(self.symbols_), len(self.sources_), self.max_lag + 1

    def _aligned(self, data: CrossAttentionData) -> CrossAttentionData:
        """Return the data with the forecaster's symbols and features, in its order."""
        if set(data.symbols) != set(self.symbols_):
            odd = sorted(set(data.symbols) ^ set(self.symbols_))
            raise InvalidInputError(f"data must hold the symbols of training; {odd[0]!r} differs")
        missing = [name for name in self.features_ if name not in data.features]
        if missing:
            raise InvalidInputError(f"data lacks the model's feature {missing[0]!r}")
        if data.sources[len(data.symbols) :] != self.sources_[len(self.symbols_) :]:
            raise InvalidInputError("data must hold the exogenous series of training")
        self._check_spans("data", data)
        self._check_spacing(data)
        return data.select(self.symbols_, self.features_)

    def _check_spacing(self, data: CrossAttentionData) -> None:
        """Refuse bars of another spacing than those of training."""
        if not hasattr(self, "_spacing"):
            return
        order = [data.symbols.index(symbol) for symbol in self.symbols_]
        given, _ = spacing_of(data.clock[-RECENT:], data.closes[-RECENT:, order])
        for symbol, new, known in zip(self.symbols_, given, self._spacing, strict=True):
            if new and known and not known / OTHER_SPACING <= new <= known * OTHER_SPACING:
                new, known = (pd.Timedelta(int(span), unit=UNIT) for span in (new, known))
                raise InvalidInputError(
                    f"{symbol}: data has bars {new} apart, but the forecaster was fitted on bars "
                    f"{known} apart"
                )

    def _read(self, data: CrossAttentionData) -> tuple[TokenSeries, np.ndarray]:
        """Return the token series up to the last window, and the rows that windows end at."""
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

    def _batches(self, data: CrossAttentionData, share: float) -> Iterator[tuple]:
        """Yield series, index, rows and places of as many windows as fit in memory.

        ``share`` is the size of what is made of each window, of all contributions without channels.
        """
        series, rows = self._read(data)
        index = TokenIndex(series.channels)
        size = max(1, int(CHUNK_CELLS / (np.prod(self._shape) * share)))
        for start in range(0, len(rows), size):
            place = np.arange(start, min(start + size, len(rows)))
            yield series, index, rows[place], place

    def _varying_forecast(self, series: TokenSeries, rows: np.ndarray) -> np.ndarray:
        if self._bars_ahead == 1:
            return self._varying.forecast(series, rows)
        view, out, (n_assets, _, n_lags) = self._varying.view(series), [], self._shape
        for part in np.array_split(rows, 1 + len(rows) * n_assets**2 * n_lags // CHUNK_CELLS):
            moving = self._varying.coefficients(view, part, np.arange(n_assets))
            moving = _over_horizon(moving, self._bars_ahead)
            returns = _lagged_at(series.returns[:, :n_assets], part, n_lags)
            moved = np.ascontiguousarray(moving * returns[:, None])
            out.append(moved.reshape(*moved.shape[:2], -1).sum(-1))
        return np.concatenate(out)

    def _moving_coefficients(
        self, series: TokenSeries, followers: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray | None]:
        """Return a function of rows that reads the parts which change from bar to bar.

        It gives weighted coefficients ``(b, F, N, L)``, or None where no such part is in the mix.
        What the parts read of the whole panel is made here, once for all batches of rows.
        """
        varying, content = self._varying, self._content
        view = None if varying is None else varying.view(series)
        loudness = None if content is None else content.inputs(series)[1]

        def at(rows: np.ndarray) -> np.ndarray | None:
            moving = None
            if varying is not None:
                moving = varying.coefficients(view, rows, followers)
                moving = _over_horizon(moving, self._bars_ahead)
                moving *= self.weights_["varying"]
            if content is not None:
                pulls = self.weights_["content"] * content.coefficients(loudness, rows, followers)
                moving = pulls if moving is None else moving + pulls
            return moving

        return at

    def _coefficient_batches(self, data: CrossAttentionData) -> Iterator[tuple]:
        """Yield return coefficients ``(b, N, S, L)``, sizes of the others', series and rows."""
        n_assets = len(self.symbols_)
        fixed = others = moving_at = None
        for series, index, rows, _ in self._batches(data, 1):
            if fixed is None:
                fixed, others = self._fixed_coefficients(index)
                moving_at = self._moving_coefficients(series, np.arange(n_assets))
            out = np.repeat(fixed[None], len(rows), axis=0)
            moving = moving_at(rows)
            if moving is not None:
                out[:, :, :n_assets] += moving
            yield out, others, series, rows

    def _fixed_coefficients(self, index: TokenIndex) -> tuple[np.ndarray, np.ndarray]:
        """Static coefficients of returns, and sizes of those of other channels, ``(N, S, L)``."""
        returns, others = np.zeros((2, *self._shape))
        is_return = np.array([channel.name == "return" for channel in index.channels])
        for i in range(len(self.symbols_)):
            tokens, beta = self._static.row(i)
            plain = is_return[index.channel[tokens]]
            place = index.source[tokens], index.lag[tokens] - 1
            np.add.at(returns[i], tuple(p[plain] for p in place), beta[plain])
            size = np.abs(beta) * self._spread[tokens]
            np.add.at(others[i], tuple(p[~plain] for p in place), size[~plain])
        self._return_spread = np.ones(len(self.sources_))
        near = index.where("return")
        newest = near[index.lag[near] == 1]
        self._return_spread[index.source[newest]] = self._spread[newest]
        return returns, others

    def _sensitivity(self, coefficients: np.ndarray, others: np.ndarray) -> np.ndarray:
        """How much a usual move of each (source, lag) moves each forecast, ``(b, N, S, L)``."""
        return np.abs(coefficients) * self._return_spread[:, None] + others

    def _add_static(
        self,
        out: np.ndarray,
        index: TokenIndex,
        rows: np.ndarray,
        by_channel: bool,
        followers: np.ndarray,
    ) -> None:
        names = np.array([self.channels_.index(channel.name) for channel in index.channels])
        cells = out.reshape(*out.shape[:2], -1)  # (b, F, S * L * C), a view
        for k, i in enumerate(followers):
            tokens, beta = self._static.row(i)
            values = (index.values(rows, tokens) - self._centre[tokens]) * beta  # (b, K)
            channel = names[index.channel[tokens]] if by_channel else 0 * tokens
            place = index.source[tokens], index.lag[tokens] - 1, channel
            place = np.ravel_multi_index(place, out.shape[2:])
            place, which = np.unique(place, return_inverse=True)
            cells[:, k, place] += values @ (which[:, None] == np.arange(len(place)))


def _together(
    train: CrossAttentionData, val: CrossAttentionData
) -> tuple[CrossAttentionData, np.ndarray, np.ndarray]:
    """Return one data set that holds both parts, and the rows at which their windows end."""
    if train.panel is val.panel:
        return train.until(int(max(train.ends[-1], val.ends[-1]))), train.ends, val.ends
    first, second = train.until(int(train.ends[-1])), val.until(int(val.ends[-1]))
    return first.followed_by(second), train.ends, val.ends + len(first.panel)


def _mixed(parts: dict[str, LinearMap], weights: dict[str, float]) -> LinearMap:
    """Return the weighted sum of linear maps."""
    used = [name for name in parts if weights[name] > 0]
    some = next(iter(parts.values()))
    if not used:
        return LinearMap(0.0 * some.coefficient, np.zeros(len(some.offset)))
    coefficient = sum(weights[name] * parts[name].coefficient for name in used)
    coefficient.eliminate_zeros()
    return LinearMap(coefficient, sum(weights[name] * parts[name].offset for name in used))


def _token_means(index: TokenIndex, rows: np.ndarray) -> np.ndarray:
    return _by_token(index, rows, lambda x: x.mean(0))


def _token_spreads(index: TokenIndex, rows: np.ndarray) -> np.ndarray:
    return _by_token(index, rows, lambda x: x.std(0))


def _by_token(index: TokenIndex, rows: np.ndarray, statistic) -> np.ndarray:
    """Return a statistic of every token; lags of one series share that of the newest."""
    out = np.zeros(len(index))
    for k, channel in enumerate(index.channels):
        values = statistic(channel.values[rows].astype(float))
        out[index.block(k)[0]] = np.repeat(values, len(channel.lags))
    return out


def _lagged_at(values: np.ndarray, rows: np.ndarray, n_lags: int) -> np.ndarray:
    """Return ``(b, S, L)`` values at some rows and the bars before them, newest first."""
    return values[rows[:, None] - np.arange(n_lags)].transpose(0, 2, 1)


def _over_horizon(coefficients: np.ndarray, horizon: int) -> np.ndarray:
    """Add up coefficients of later lags: what each token says of every bar of the horizon."""
    if horizon == 1:
        return coefficients
    return running_sum(coefficients[..., ::-1], horizon)[..., ::-1]
