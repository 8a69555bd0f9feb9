"""The recommended forecaster: attention over (source, lag, channel) tokens, mixed from three parts.

Built in chapter: The full model.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossattn._io import progress
from crossattn._validation import check_bool, check_choice, check_int
from crossattn.errors import InvalidInputError
from crossattn.runtime import select_device
from crossattn.tokens.channels import TokenIndex, Tokenizer, TokenSeries
from crossattn.tokens.content import EPOCHS, HISTORY, ContentPart
from crossattn.tokens.drift import Calendar, calendar_drift, common_drift
from crossattn.tokens.fitted import FittedForecaster
from crossattn.tokens.history import spacing_of
from crossattn.tokens.linear_map import LinearMap
from crossattn.tokens.mix import mix_weights
from crossattn.tokens.mixture import Mixture
from crossattn.tokens.sparse import TOKENS_PER_FOLLOWER, SparseRegressions, fit_ridge
from crossattn.tokens.varying import VaryingPart
from crossattn.tokens.volatility import VolatilityTokenizer, fit_volatility
from crossattn.windows.checks import check_later, check_windows
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.splits import hold_out

if TYPE_CHECKING:
    from crossattn.evidence.leadlag import LeadLagReport

VALIDATION_SHARE = 0.1
# Fewer targets cannot tell a lead from luck: blocks of training join validation, each held out.
FEW_TARGETS, BLOCKS = 8000, 3
CARRIES = 0.25  # weight of the content part from which on validation alone weighs all parts


@dataclass(eq=False, repr=False)
class CrossAttentionForecaster(FittedForecaster):
    """Forecast every asset from every other by attention over (source, lag, channel) tokens.

    Sources are the assets and any exogenous series; channels are what is known about a source at a
    bar: its return, the part below zero, the part that came on volume, its size, its signed root,
    whether it is a large rise or fall, its relative volume, its distance from its own slow mean,
    and every feature of the data. Three parts read the tokens, and non-negative least squares mixes
    them on validation windows, which blocks of training join where they are few:

    - *static*: sparse regressions, attention on fixed leaders, strong where data are few;
    - *varying*: coefficients that change with hour, weekday, market state, volume or size, drift
      in time, or turn with a hidden regime;
    - *content*: attention heads that score sources by volume and moves, whatever their names.

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
        Forecast where every token is 0: one drift for all assets, in units of each one's
        volatility and shrunk by its standard error. Where hours or weekdays differ beyond luck,
        :meth:`intercept` has them too.
    features_, lookback_, horizon_
        Of the training data.
    minimum_tail_ : int
        Bars that ``predict`` needs up to its newest window where the data begins later than the
        training data: 256, in which features settle, or 512 where that is more than 1 % off in the
        newest forecasts. What forgets more slowly, such as drifting coefficients, is exact on the
        whole history and in ``update``, which needs the new bars alone.
    fitted_until_ : Timestamp
        End of the last window that was fitted on, validation included; NaT where windows have no
        times.
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

    max_lag: int = 23
    n_models: int = 3
    _: KW_ONLY
    target: str = "return"
    seed: int = 0
    device: str = "auto"
    progress: bool = True
    tokens_per_follower: int = TOKENS_PER_FOLLOWER
    varying: bool = True
    content: bool = True
    epochs: int = EPOCHS

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
        check_later("val", val, "train", train)
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
        self.channels_ = tuple(dict.fromkeys(channel.name for channel in series.channels))
        common = {
            "centre": _by_token(series.index, train_rows, np.mean),
            "spread": _by_token(series.index, train_rows, np.std),
            "shape": (len(self.symbols_), len(self.sources_), self.max_lag + 1),
            "channels": self.channels_,
            # where hours differ no number of bars makes up the horizon: the usual one stands for it
            "bars_ahead": data.usual_horizon,
        }
        fit = self._fit_volatility if self.target == "volatility" else self._fit_returns
        self._mixture, history = fit(common, series, data, train_rows, val_rows)
        self.weights_, self.drift_ = self._mixture.weights, self._mixture.drift
        self.history_ = pd.DataFrame(history, columns=HISTORY)
        self._remember_history(data, val)
        return self

    def lead_lag(self, data: CrossAttentionData, alpha: float = 0.05) -> LeadLagReport:
        """Test who leads whom on ``data``, which must be later than what was fitted on.

        Else a :class:`~crossattn.errors.CrossAttentionWarning` says that leaders may be false.
        """
        from crossattn.evidence.leadlag import analyze_lead_lag_relationships

        return analyze_lead_lag_relationships(self, data, alpha=alpha)

    def _check_parameters(self) -> None:
        check_int("max_lag", self.max_lag, at_least=0)
        for name in ("n_models", "tokens_per_follower", "epochs"):
            check_int(name, getattr(self, name))
        check_int("seed", self.seed, at_least=0)
        check_choice("target", self.target, ("return", "volatility"))
        for name in ("progress", "varying", "content"):
            check_bool(name, getattr(self, name))

    def _fit_volatility(
        self, common: dict, series: TokenSeries, data, train, val
    ) -> tuple[Mixture, list]:
        parts = fit_volatility(series, data, train, val, self.tokens_per_follower)
        return Mixture(*parts, is_log=True, **common), []

    def _fit_returns(
        self, common: dict, series: TokenSeries, data, train, val
    ) -> tuple[Mixture, list]:
        """Fit the parts on next bars, mix them on validation; return the history of content too."""
        index, both = series.index, np.concatenate([train, val])
        is_short = len(val) * len(self.symbols_) < FEW_TARGETS
        blocks = np.array_split(train, BLOCKS) if is_short else []
        folds = [(np.setdiff1d(both, block), block) for block in blocks] + [(train, val)]
        parts = {
            "static": lambda: self._fit_static(series, folds),
            "varying": lambda: self._fit_varying(series, train),
            "content": lambda: self._fit_content(series, train, val),
        }
        fitted = {
            name: parts[name]()
            for name in progress(
                [name for name in parts if name == "static" or getattr(self, name)],
                shown=self.progress,
                desc="part",
            )
        }
        held_out, first, final = fitted.pop("static")
        held_out |= {name: [part.forecast(series, val)] for name, part in fitted.items()}
        # Next bars choose the mix, for any horizon: targets of 24 bars overlap, and hold 24 times
        # the noise with hardly more of what is forecast.
        following, volatility = series.next_returns, series.volatility
        drift, calendar = _fit_drift(series, following, volatility, train)
        left = following - drift - calendar.at(series.hour, series.weekday)

        def mixed(rows: np.ndarray, names: Collection[str], flattered: Collection[str]) -> dict:
            apart = {name: np.concatenate(held_out[name])[-len(rows) :] for name in names}
            return mix_weights(apart, left[rows], volatility[rows], 1, first, flattered)

        weights = mixed(val, held_out, ("content",))
        if blocks and weights.get("content", 0.0) < CARRIES:  # it takes too long to fit again
            if "varying" in fitted:
                held_out["varying"][:0] = [
                    self._fit_varying(series, rows).forecast(series, block)
                    for rows, block in folds[:-1]
                ]
            names = [name for name in held_out if name != "content"]
            weights = dict.fromkeys(held_out, 0.0) | mixed(both, names, names)
        moving = {name: part for name, part in fitted.items() if weights.get(name)}
        first, final = (
            {k: m.ahead(index, common["bars_ahead"], common["centre"]) for k, m in maps.items()}
            for maps in (first, final)
        )
        target, volatility = data.targets, volatility * np.sqrt(self.horizon_)
        if self.horizon_ > 1:
            drift = _fit_drift(series, target, volatility, train, self.horizon_)
            mixture = Mixture(_mixed(first, weights), weights, *drift, **moving, **common)
            direct = SparseRegressions(index, self.tokens_per_follower, overlap=self.horizon_)
            direct.fit(target, volatility, train, val)
            ahead = {f"{name}, whole horizon": m for name, m in direct.first.items()}
            weights |= mix_weights(
                dict(zip(ahead, direct.held_out.values(), strict=True)),
                target[val] - mixture.forecast(series, val),
                volatility[val],
                self.horizon_,
                ahead,
            )
            final |= {f"{name}, whole horizon": m for name, m in direct.final.items()}
        drift = _fit_drift(series, target, volatility, both, self.horizon_)
        if "varying" in moving:
            moving["varying"].fit(series, both)
        history = fitted["content"].history if self.content else []
        return Mixture(_mixed(final, weights), weights, *drift, **moving, **common), history

    def _fit_static(
        self, series: TokenSeries, folds: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[dict[str, list[np.ndarray]], dict[str, LinearMap], dict[str, LinearMap]]:
        """Fit regressions of the next bar.

        Returns what they forecast for the rows that each fold holds out; and, of the last fold,
        the regressions of train, and of train and val.
        """
        index, target, volatility = series.index, series.next_returns, series.volatility
        sparse = SparseRegressions(index, self.tokens_per_follower)
        sparse.fit(target, volatility, *folds[-1], *folds[:-1])
        apart = []
        for rows, unseen in folds:
            ridge, final_ridge = fit_ridge(index, target, volatility, rows, unseen)
            apart.append(ridge.forecast(index, unseen))
        held_out = {name: [made] for name, made in sparse.held_out.items()} | {"ridge": apart}
        return held_out, {**sparse.first, "ridge": ridge}, {**sparse.final, "ridge": final_ridge}

    def _fit_varying(self, series: TokenSeries, rows) -> VaryingPart:
        return VaryingPart(self.max_lag + 1).fit(series, rows)

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


def _together(
    train: CrossAttentionData, val: CrossAttentionData
) -> tuple[CrossAttentionData, np.ndarray, np.ndarray]:
    """Return one data set that holds both parts, and the rows at which their windows end."""
    if train.panel is val.panel:
        return train.until(int(max(train.ends[-1], val.ends[-1]))), train.ends, val.ends
    first, second = train.until(int(train.ends[-1])), val.until(int(val.ends[-1]))
    return first.followed_by(second), train.ends, val.ends + len(first.panel)


def _fit_drift(
    series: TokenSeries, target, volatility, rows: np.ndarray, overlap: int = 1
) -> tuple[np.ndarray, Calendar]:
    """Return the drift of all assets and how it differs by hour and weekday, from some rows."""
    target, volatility = target[rows], volatility[rows]
    drift = common_drift(target, volatility, overlap)
    clock = series.hour[rows], series.weekday[rows]
    return drift, calendar_drift(target, volatility, *clock, overlap)


def _mixed(parts: dict[str, LinearMap], weights: dict[str, float]) -> LinearMap:
    """Return the weighted sum of linear maps."""
    used = [name for name in parts if weights[name] > 0]
    some = next(iter(parts.values()))
    if not used:
        return LinearMap(0.0 * some.coefficient, np.zeros(len(some.offset)))
    coefficient = sum(weights[name] * parts[name].coefficient for name in used)
    coefficient.eliminate_zeros()
    return LinearMap(coefficient, sum(weights[name] * parts[name].offset for name in used))


def _by_token(index: TokenIndex, rows: np.ndarray, statistic) -> np.ndarray:
    """Return a statistic of every token; lags of one series share that of the newest."""
    out = np.zeros(len(index))
    for k, channel in enumerate(index.channels):
        values = statistic(channel.values[rows].astype(float), 0)
        out[index.block(k)] = np.repeat(values, len(channel.lags))
    return out
