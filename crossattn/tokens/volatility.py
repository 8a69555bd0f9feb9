"""Forecast volatility from (source, lag, channel) tokens: a log-linear model fitted by QLIKE.

Tokens are logs of slow and fast means of squared returns and ranges, standardised falls and moves,
and the features. What all followers share is fitted on all of them at once: how a variance follows
from its own tokens and from the market's mean of each; a sparse regression then adds what single
sources add for single followers, as far as validation confirms it. Everything is linear in the log
of volatility, so that a forecast is a product of what each token multiplies it by.

Built in chapter: Forecasting risk.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from crossattn.errors import InvalidInputError
from crossattn.tokens.channels import RANGE, Channel, TokenIndex, Tokenizer, TokenSeries
from crossattn.tokens.linear_map import LinearMap
from crossattn.tokens.memory import Memory
from crossattn.tokens.mix import mix_weights
from crossattn.tokens.sparse import SparseRegressions
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.variance import fit_log_linear, known_moments

VARIANCE, SQUARED_RANGE = "variance", "squared_range"  # channels: each with its half-life
HALF_LIVES = (1.5, 5.0, 21.0, 63.0, 250.0)  # bars
RANGE_HALF_LIVES = (1.5, 5.0, 21.0)
USUAL = 21.0  # half-life of the exponential mean that the shared fit is shrunk towards
FALL_HALF_LIFE = 5.0
FLOOR = 0.02  # of the slower mean, below which no faster mean of squares is counted
MOVE_LIMIT = 5.0
OWN_FAMILIES = ("means", "fall", "size")
LEVEL_PRICE = 6.0  # of a token made from another feature or an exogenous series
RIDGE_ROWS = 120.0  # rows' worth of trust in the exponential mean, for one asset
FEW_ROWS = 250.0  # independent rows below which that trust grows
FIT_CELLS = 300_000  # most cells (rows times assets) of the shared fit
LEAST_ROWS = 50
RATIO_LIMIT = 12.0  # largest ratio of realised to forecast variance that the sparse fit reads
LEVEL_ROWS = 30.0  # rows' worth of trust in the shared level, against an asset's own
CALENDAR_ROWS, CALENDAR_CAUTION = 20, 6.0  # fewest independent rows of an hour; squared t


class VolatilityTokenizer(Tokenizer):
    """Turn a panel of features into the token channels of a volatility forecast.

    ``centre["mean variance"]`` holds the log of each source's mean squared return in training.
    """

    def fit(self, data: CrossAttentionData) -> Self:
        """Take means and standard deviations from the rows that windows of ``data`` end at."""
        super().fit(data)
        for name, values in self._sizes(super().series(data), data).items():
            level, _ = known_moments(values[data.ends] ** 2)
            self.centre[f"mean {name}"] = np.log(np.where(level > 0, level, 1.0))
        return self

    def series(self, data: CrossAttentionData, memory: Memory | None = None) -> TokenSeries:
        """Return the channels for every row of the panel behind ``data``."""
        memory = memory or Memory()
        series = super().series(data, memory)
        sizes = self._sizes(series, data)
        made: list[tuple[str, str, np.ndarray, tuple[int, ...]]] = []  # variances first
        for kind, half_lives in ((VARIANCE, HALF_LIVES), (SQUARED_RANGE, RANGE_HALF_LIVES)):
            if kind in sizes:
                means = self._log_means(kind, sizes[kind], half_lives, memory)
                made += [(f"{kind}_{k:g}", "means", x, (1,)) for k, x in means.items()]
        usual = next(x for name, _, x, _ in made if name == f"{VARIANCE}_{USUAL:g}")
        deviation = np.exp((usual + self.centre[f"mean {VARIANCE}"]) / 2)
        moves = np.clip(series.returns / deviation, -MOVE_LIMIT, MOVE_LIMIT)
        fall = np.minimum(moves, 0.0)
        slow = memory.mean("fall", fall, series.known, FALL_HALF_LIFE)
        size = np.abs(moves) - np.where(series.known, np.sqrt(2 / np.pi), 0.0)
        lags = tuple(range(1, self.max_lag + 2))
        made += [("fall", "fall", fall, (1,)), (f"fall_{FALL_HALF_LIFE:g}", "fall", slow, (1,))]
        made.append(("size", "size", size, lags))
        levels = {name: self._standard(name, x) for name, x in self._levels(data).items()}
        outside = levels.pop("exogenous", None)
        made += [(k, k, levels[k], (1,)) for k in sorted(levels) if k not in ("log_range", RANGE)]
        if outside is not None:
            blank = np.zeros((len(outside), len(data.symbols)))
            made.append(("level", "level", np.concatenate([blank, outside], 1), (1,)))
        channels = [
            Channel(
                name,
                family,
                np.ascontiguousarray(x, np.float32),
                at,
                1.0 if family in OWN_FAMILIES else LEVEL_PRICE,
            )
            for name, family, x, at in made
        ]
        return replace(series, channels=channels)

    def _sizes(self, series: TokenSeries, data: CrossAttentionData) -> dict[str, np.ndarray]:
        """Moves whose squares are averaged: returns, and ranges where there are any."""
        sizes = {VARIANCE: np.where(series.known, series.returns, np.nan)}
        if RANGE in data.features:
            ranges = np.asarray(data.panel[:, :, data.features.index(RANGE)], float)
            sizes[SQUARED_RANGE] = np.where(ranges > 0, ranges, np.nan)
        return sizes

    def _log_means(self, kind, sizes, half_lives, memory: Memory) -> dict[float, np.ndarray]:
        """Log of exponential means of squares, relative to training; 0 before the first one."""
        known = np.isfinite(sizes)
        squares = np.where(known, sizes, 0.0) ** 2 / np.exp(self.centre[f"mean {kind}"])
        means, slower = {}, memory.mean(f"{kind} so far", squares, known, np.inf)
        seen = slower > 0
        slower = np.where(seen, slower, 1.0)
        for half_life in reversed(half_lives):
            mean = memory.mean(f"{kind} {half_life:g}", squares, known, half_life)
            slower = np.maximum(np.where(seen, mean, 1.0), FLOOR * slower)
            means[half_life] = np.log(slower)
        return {half_life: means[half_life] for half_life in half_lives}


@dataclass(frozen=True)
class Calendar:
    """Seasonality of log volatility: effects of hour and weekday (UTC) of a window's last close."""

    hours: np.ndarray  #: (24,)
    weekdays: np.ndarray  #: (7,)

    def at(self, hour: np.ndarray, weekday: np.ndarray) -> np.ndarray:
        """Return the seasonal effect, ``(n, 1)``."""
        places = (np.nan_to_num(np.asarray(x, float)).astype(int) for x in (hour, weekday))
        return (self.hours[next(places)] + self.weekdays[next(places)])[:, None]

    def scaled(self, factor: float) -> "Calendar":
        return Calendar(factor * self.hours, factor * self.weekdays)


def fit_volatility(
    index: TokenIndex,
    series: TokenSeries,
    data: CrossAttentionData,
    train: np.ndarray,
    val: np.ndarray,
    tokens_per_follower: int,
) -> tuple[LinearMap, dict[str, float], np.ndarray, Calendar]:
    """Fit on the rows ``train``, choose penalties and weights on ``val``, refit on both.

    Returns tokens, the weight of every part, the log volatility of the horizon where every token is
    0, ``(n_assets,)``, and the calendar, all in logs of volatility.
    """
    realised = data.volatility_targets**2
    both = np.concatenate([train, val])
    for symbol, known in zip(data.symbols, np.nansum(realised[both] > 0, axis=0), strict=True):
        if known < LEAST_ROWS:
            raise InvalidInputError(
                f"train: {symbol} has {known} known moves, a volatility needs at least {LEAST_ROWS}"
            )
    shared = _SharedFit(index, series, realised, data.horizon)
    first, final = shared.fit(train), shared.fit(both)
    ratio = np.minimum(realised / np.exp(shared.forecast(first)), RATIO_LIMIT) - 1.0
    extra, weights = _fit_single_sources(
        index, ratio, train, val, tokens_per_follower, data.horizon
    )
    shared_map = shared.as_map(final)
    tokens = LinearMap(
        csr_array(shared_map.coefficient + extra.coefficient), shared_map.offset + extra.offset
    )
    log_variance = tokens.forecast(index, both)
    log_variance += final.calendar.at(series.hour[both], series.weekday[both])
    level = own_levels(realised[both], log_variance)
    tokens = LinearMap(0.5 * tokens.coefficient, 0.5 * tokens.offset)
    return tokens, {"shared": 1.0, **weights}, 0.5 * level, final.calendar.scaled(0.5)


def _fit_single_sources(
    index: TokenIndex,
    ratio: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    tokens_per_follower: int,
    horizon: int,
) -> tuple[LinearMap, dict[str, float]]:
    """Sparse regressions of what the shared fit misses on single sources, mixed on ``val``.

    One set is fitted follower by follower, one on their mean, which finds a hub that all follow.
    Each token enters as its distance from the mean over assets, which the shared fit reads already.
    """
    n_assets = ratio.shape[1]
    apart = TokenIndex([_apart(channel, n_assets) for channel in index.channels])
    wanted = ratio - np.nanmean(ratio[train], axis=0)
    seen = np.isfinite(wanted)
    mean = np.where(seen, wanted, 0.0).sum(axis=1) / np.where(seen.any(axis=1), seen.sum(axis=1), 1)
    mean = np.where(seen.any(axis=1), mean, np.nan)[:, None]
    held_out, final = {}, {}
    for name, target in (("source", wanted), ("hub", mean)):
        spread = np.broadcast_to(np.nanstd(target[train], axis=0) + 1e-12, target.shape)
        sparse = SparseRegressions(apart, tokens_per_follower, overlap=horizon)
        sparse.fit(target, spread, train, val)
        for variant in ("tokens", "tokens_lasso"):
            key = f"{name}, {variant}"
            held_out[key] = sparse.first[variant].forecast(apart, val) + np.zeros(n_assets)
            final[key] = sparse.final[variant]
    unit = np.broadcast_to(np.nanstd(wanted[train], axis=0) + 1e-12, (len(val), n_assets))
    weights = mix_weights(held_out, wanted[val], unit, horizon)
    coefficient, offset = np.zeros((n_assets, len(index))), np.zeros(n_assets)
    for key, part in final.items():
        coefficient += weights[key] * part.coefficient.toarray()
        offset += weights[key] * part.offset
    for k, channel in enumerate(index.channels):
        place = index.block(k)[0]
        block = coefficient[:, place].reshape(n_assets, -1, len(channel.lags))
        if channel.name != "level":
            block[:, :n_assets] -= block[:, :n_assets].mean(axis=1, keepdims=True)
        coefficient[:, place] = block.reshape(n_assets, -1)
    return LinearMap(csr_array(coefficient), offset), weights


def _apart(channel: Channel, n_assets: int) -> Channel:
    """Return a channel less its mean over assets; exogenous series stay."""
    if channel.name == "level":
        return channel
    values = channel.values.copy()
    values[:, :n_assets] -= values[:, :n_assets].mean(axis=1, keepdims=True)
    return replace(channel, values=values)


@dataclass(frozen=True)
class _Shared:
    """Coefficients that all followers share, of log variance, and a calendar."""

    own: np.ndarray
    market: np.ndarray
    level: np.ndarray
    calendar: Calendar


class _SharedFit:
    """Fit one log-linear model of all followers: own tokens, the market's means, a calendar.

    ``own`` and ``market`` coefficients belong to the (channel, lag 1) pairs of ``self.channels``;
    an exogenous series enters as a "market" regressor of its own.
    """

    def __init__(self, index: TokenIndex, series: TokenSeries, realised: np.ndarray, horizon: int):
        self.index, self.realised, self.horizon = index, realised, horizon
        self.hour, self.weekday = series.hour, series.weekday
        n_assets = realised.shape[1]
        shared = [k for k, c in enumerate(index.channels) if c.name != "size"]
        self.channels = [k for k in shared if index.channels[k].name != "level"]
        self.own = np.stack(
            [index.channels[k].values[:, :n_assets] for k in self.channels], axis=2
        )  # (n_rows, N, C), float32
        extra = [index.channels[k].values[:, n_assets:] for k in shared]
        self.extra_tokens = [
            (k, source)
            for k, x in zip(shared, extra, strict=True)
            for source in range(n_assets, n_assets + x.shape[1])
        ]
        priced = [*self.channels, *self.channels, *(k for k, _ in self.extra_tokens)]
        self.ridge = np.array([0.0, *(index.channels[k].price for k in priced)]) ** 2
        self.shared = np.concatenate([self.own.mean(axis=1), *extra], axis=1)  # (n_rows, C + E)
        self.usual = [index.channels[k].name for k in self.channels].index(f"{VARIANCE}_{USUAL:g}")

    def fit(self, rows: np.ndarray) -> _Shared:
        """Fit on some rows: coefficients and the calendar in turn, then levels."""
        share = self.horizon / len(rows)  # one over the number of independent rows
        penalty = RIDGE_ROWS * share * (1.0 + FEW_ROWS * share) / np.sqrt(self.realised.shape[1])
        rows = rows[:: -(-len(rows) * self.realised.shape[1] // FIT_CELLS)]
        realised, (n_assets, n_own) = self.realised[rows], self.own.shape[1:]
        n_shared = self.shared.shape[1]
        base = np.log(np.nanmean(realised, axis=0))
        known = np.isfinite(realised)
        x = np.concatenate(
            [
                np.ones((len(rows), n_assets, 1), np.float32),
                self.own[rows],
                np.broadcast_to(self.shared[rows][:, None], (len(rows), n_assets, n_shared)),
            ],
            axis=2,
        )[known].astype(float)
        spread = np.where(x.std(axis=0) > 1e-6, x.std(axis=0), np.inf)
        spread[0] = 1.0
        calendar = Calendar(np.zeros(24), np.zeros(7))
        for _ in range(2):
            offset = base + self.own[rows][:, :, self.usual] + self._calendar_at(calendar, rows)
            options = {"penalty": penalty * self.ridge, "offset": offset[known]}
            beta = fit_log_linear(x / spread, realised[known], **options) / spread
            own, market = beta[1 : 1 + n_own].copy(), beta[1 + n_own :]
            own[self.usual] += 1.0
            tokens = self.own[rows] @ own + (self.shared[rows] @ market)[:, None]
            for _ in range(3):  # large ratios are cut, so a pattern is approached in steps
                fitted = tokens + self._calendar_at(calendar, rows)
                level = own_levels(realised, fitted)
                more = self._fit_calendar(rows, realised * np.exp(-(fitted + level)))
                calendar = Calendar(calendar.hours + more.hours, calendar.weekdays + more.weekdays)
        return _Shared(own, market, level, calendar)

    def _fit_calendar(self, rows: np.ndarray, ratio: np.ndarray) -> Calendar:
        """Log ratio by hour, then by weekday, each shrunk by its standard error."""
        seen = np.isfinite(ratio).any(axis=1)
        mean = np.nanmean(np.minimum(ratio[seen], RATIO_LIMIT), axis=1)
        rows, mean, found = rows[seen], mean / mean.mean(), []
        for place, size in ((self.hour[rows], 24), (self.weekday[rows], 7)):
            pattern, groups = np.zeros(size), np.unique(place)
            for group in groups if len(groups) > 1 else ():
                some = mean[place == group]
                value = np.log(max(some.mean(), 1e-3))
                # rows of one hour overlap where the horizon is above a day of bars
                overlap = self.horizon if size == 7 else max(1.0, self.horizon / len(groups))
                if len(some) < CALENDAR_ROWS * overlap:
                    continue
                error = some.std() * np.sqrt(overlap / len(some))
                kept = 1.0 - CALENDAR_CAUTION * (error / value) ** 2 if value else 0.0
                pattern[group] = max(0.0, kept) * value
            mean = mean * np.exp(-pattern[place])
            found.append(pattern)
        return Calendar(*found)

    def _calendar_at(self, calendar: Calendar, rows: np.ndarray | slice) -> np.ndarray:
        return calendar.at(self.hour[rows], self.weekday[rows])

    def forecast(self, fitted: _Shared, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return log variances ``(n, n_assets)``."""
        tokens = self.own[rows] @ fitted.own + (self.shared[rows] @ fitted.market)[:, None]
        return tokens + fitted.level + self._calendar_at(fitted.calendar, rows)

    def as_map(self, fitted: _Shared) -> LinearMap:
        """Return the token part of the forecast as a map: the mean is a share of each source."""
        n_assets = self.own.shape[1]
        index, out = self.index, np.zeros((n_assets, len(self.index)))
        for c, k in enumerate(self.channels):
            here = index.block(k)[0].start + np.arange(n_assets) * len(index.channels[k].lags)
            out[:, here] = fitted.market[c] / n_assets
            out[np.arange(n_assets), here] += fitted.own[c]
        for (k, source), value in zip(
            self.extra_tokens, fitted.market[len(self.channels) :], strict=True
        ):
            out[:, index.block(k)[0].start + source * len(index.channels[k].lags)] = value
        return LinearMap(csr_array(out), np.zeros(n_assets))


def own_levels(realised: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    """Levels of log variance at which forecasts are right on average, ``(n_assets,)``.

    The mean ratio of realised to forecast variance of each asset minimises its QLIKE; it counts for
    as much as its rows, against thirty rows of the mean over assets of logs.
    """
    ratio = realised * np.exp(-log_variance)
    count = np.isfinite(ratio).sum(axis=0)
    level = np.log(np.maximum(np.nanmean(ratio, axis=0), 1e-300))
    trust = count / (count + LEVEL_ROWS)
    usual = np.log(np.nanmean(realised, axis=0))
    return usual + trust * (level - usual) + (1 - trust) * (level - usual).mean()
