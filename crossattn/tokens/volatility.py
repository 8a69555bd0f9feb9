"""Forecast volatility from (source, lag, channel) tokens: a log-linear model fitted by QLIKE.

Tokens are logs of slow and fast means of squared returns and ranges, standardised falls and moves,
and the features. What all followers share is fitted on all of them at once: how a variance follows
from its own tokens and from the market's mean of each; a sparse regression then adds what single
sources add for single followers, as far as validation confirms it. Everything is linear in the log
of volatility, so that a forecast is a product of what each token multiplies it by.

Built in chapter: Forecasting risk.
"""

from dataclasses import replace
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from crossattn.errors import InvalidInputError
from crossattn.tokens.channels import RANGE, Channel, TokenIndex, Tokenizer, TokenSeries
from crossattn.tokens.drift import CALENDAR_ROWS, Calendar
from crossattn.tokens.linear_map import LinearMap
from crossattn.tokens.memory import Memory
from crossattn.tokens.mix import mix_weights
from crossattn.tokens.sparse import SparseRegressions
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.variance import fit_log_linear, known_moments

VARIANCE, SQUARED_RANGE = "variance", "squared_range"  # channels: each with its half-life
HALF_LIVES = {VARIANCE: (1.5, 5.0, 21.0, 63.0, 250.0), SQUARED_RANGE: (1.5, 5.0, 21.0)}  # bars
USUAL = 21.0  # half-life of the exponential mean that the shared fit is shrunk towards
FALL_HALF_LIFE = 5.0
FLOOR = 0.02  # of the slower mean, below which no faster mean of squares is counted
MOVE_LIMIT = 5.0
OWN_PRICE, LEVEL_PRICE = 1.0, 6.0  # the latter of other features and exogenous series
RIDGE_ROWS = 120.0  # rows' worth of trust in the exponential mean, for one asset
FEW_ROWS = 250.0  # independent rows below which that trust grows
FIT_CELLS = 300_000  # most cells (rows times assets) of the shared fit
LEAST_ROWS = 50
RATIO_LIMIT = 12.0  # largest ratio of realised to forecast variance that the sparse fit reads
LEVEL_ROWS = 30.0  # rows' worth of trust in the shared level, against an asset's own
CALENDAR_CAUTION = 6.0  # squared t


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
        means = {kind: self._log_means(kind, x, memory) for kind, x in sizes.items()}
        deviation = np.exp((means[VARIANCE][USUAL] + self.centre[f"mean {VARIANCE}"]) / 2)
        moves = np.clip(series.returns / deviation, -MOVE_LIMIT, MOVE_LIMIT)
        fall = np.minimum(moves, 0.0)
        slow = memory.mean("fall", fall, series.known, FALL_HALF_LIFE)
        size = np.abs(moves) - np.where(series.known, np.sqrt(2 / np.pi), 0.0)
        lags = tuple(range(1, self.max_lag + 2))
        channels = [
            Channel(f"{kind}_{half_life:g}", "means", mean, (1,), OWN_PRICE)
            for kind, by_half_life in means.items()
            for half_life, mean in by_half_life.items()
        ]
        channels += [
            Channel("fall", "fall", fall, (1,), OWN_PRICE),
            Channel(f"fall_{FALL_HALF_LIFE:g}", "fall", slow, (1,), OWN_PRICE),
            Channel("size", "size", size, lags, OWN_PRICE),
        ]
        levels = {name: self._standard(name, x) for name, x in self._levels(data).items()}
        outside = levels.pop("exogenous", None)
        for name in sorted(levels):
            if name not in ("log_range", RANGE):
                channels.append(Channel(name, name, levels[name], (1,), LEVEL_PRICE))
        if outside is not None:
            outside = np.pad(outside, ((0, 0), (len(data.symbols), 0)))  # none of the assets has it
            channels.append(Channel("level", "level", outside, (1,), LEVEL_PRICE))
        return replace(series, channels=channels)

    def _sizes(self, series: TokenSeries, data: CrossAttentionData) -> dict[str, np.ndarray]:
        """Moves whose squares are averaged: returns, and ranges where there are any."""
        sizes = {VARIANCE: np.where(series.known, series.returns, np.nan)}
        if RANGE in data.features:
            ranges = np.asarray(data.panel[:, :, data.features.index(RANGE)], float)
            sizes[SQUARED_RANGE] = np.where(ranges > 0, ranges, np.nan)
        return sizes

    def _log_means(self, kind, sizes, memory: Memory) -> dict[float, np.ndarray]:
        """Log of exponential means of squares, relative to training; 0 before the first one."""
        known = np.isfinite(sizes)
        squares = np.where(known, sizes, 0.0) ** 2 / np.exp(self.centre[f"mean {kind}"])
        means, slower = {}, memory.mean(f"{kind} so far", squares, known, np.inf)
        seen = slower > 0
        slower = np.where(seen, slower, 1.0)
        for half_life in reversed(HALF_LIVES[kind]):
            mean = memory.mean(f"{kind} {half_life:g}", squares, known, half_life)
            slower = np.maximum(np.where(seen, mean, 1.0), FLOOR * slower)
            means[half_life] = np.log(slower)
        return dict(reversed(means.items()))


def fit_volatility(
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
    shared = _SharedFit(series, realised, data.horizon).fit(train)
    ratio = np.minimum(realised / np.exp(shared.forecast()), RATIO_LIMIT) - 1.0
    extra, weights = _fit_single_sources(
        series.index, ratio, train, val, tokens_per_follower, data.horizon
    )
    shared.fit(both)
    tokens = LinearMap(csr_array(shared.coefficient() + extra.coefficient), extra.offset)
    log_variance = tokens.forecast(series.index, both) + shared.calendar_at(both)
    level = own_levels(realised[both], log_variance)
    # from log variance to log volatility
    tokens = LinearMap(0.5 * tokens.coefficient, 0.5 * tokens.offset)
    hours, weekdays = shared.calendar.hours, shared.calendar.weekdays
    calendar = Calendar(0.5 * hours, 0.5 * weekdays)
    return tokens, {"shared": 1.0, **weights}, 0.5 * level, calendar


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
    count = np.isfinite(wanted).sum(axis=1)
    mean = np.nansum(wanted, axis=1) / np.where(count > 0, count, np.nan)
    held_out, final = {}, {}
    for name, target in (("source", wanted), ("hub", mean[:, None])):
        spread = np.broadcast_to(np.nanstd(target[train], axis=0) + 1e-12, target.shape)
        sparse = SparseRegressions(apart, tokens_per_follower, overlap=horizon)
        sparse.fit(target, spread, train, val)
        for variant in ("tokens", "tokens_lasso"):
            key = f"{name}, {variant}"
            held_out[key] = sparse.held_out[variant] + np.zeros(n_assets)
            final[key] = sparse.final[variant]
    unit = np.broadcast_to(np.nanstd(wanted[train], axis=0) + 1e-12, (len(val), n_assets))
    weights = mix_weights(held_out, wanted[val], unit, horizon)
    coefficient, offset = np.zeros((n_assets, len(index))), np.zeros(n_assets)
    for key, part in final.items():
        coefficient += weights[key] * part.coefficient.toarray()
        offset += weights[key] * part.offset
    for k, channel in enumerate(index.channels):
        place = index.block(k)
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


class _SharedFit:
    """Fit one log-linear model of all followers: own tokens, the market's means, a calendar.

    Coefficients ``own_beta`` and ``shared_beta`` of log variance belong to the (channel, lag 1)
    pairs of ``self.channels``; an exogenous series enters as a shared regressor of its own.
    """

    def __init__(self, series: TokenSeries, realised: np.ndarray, horizon: int):
        self.index, self.realised, self.horizon = series.index, realised, horizon
        self.hour, self.weekday = series.hour, series.weekday
        index, n_assets = series.index, realised.shape[1]
        shared = [k for k, c in enumerate(index.channels) if c.name != "size"]
        self.channels = [k for k in shared if index.channels[k].name != "level"]
        self.own = np.stack(
            [index.channels[k].values[:, :n_assets] for k in self.channels], axis=2
        )  # (n_rows, N, C), float32
        outside = (index.source >= n_assets) & np.isin(index.channel, shared)
        self.outside = np.flatnonzero(outside)  # tokens of exogenous series
        price = [index.channels[k].price for k in self.channels]
        self.ridge = np.array([0.0, *price, *price, *index.price[self.outside]]) ** 2
        extra = index.values(np.arange(len(realised)), self.outside)
        self.shared = np.concatenate([self.own.mean(axis=1), extra], axis=1)  # (n_rows, C + E)
        self.usual = [index.channels[k].name for k in self.channels].index(f"{VARIANCE}_{USUAL:g}")

    def fit(self, rows: np.ndarray) -> Self:
        """Fit on some rows: coefficients and the calendar in turn, then levels."""
        share = self.horizon / len(rows)  # one over the number of independent rows
        penalty = RIDGE_ROWS * share * (1.0 + FEW_ROWS * share) / np.sqrt(self.realised.shape[1])
        rows = rows[:: -(-len(rows) * self.realised.shape[1] // FIT_CELLS)]
        realised, n_own = self.realised[rows], self.own.shape[2]
        base = np.log(np.nanmean(realised, axis=0))
        known = np.isfinite(realised)
        row, _ = np.nonzero(known)
        regressors = [np.ones((len(row), 1)), self.own[rows][known], self.shared[rows][row]]
        x = np.concatenate(regressors, axis=1)  # (cells, 1 + C + C + E), float64
        spread = np.where(x.std(axis=0) > 1e-6, x.std(axis=0), np.inf)
        spread[0] = 1.0
        self.calendar = Calendar(np.zeros((24, 1)), np.zeros((7, 1)))
        for _ in range(2):
            offset = (base + self.own[rows][:, :, self.usual] + self.calendar_at(rows))[known]
            ridge = penalty * self.ridge
            beta = fit_log_linear(x / spread, realised[known], penalty=ridge, offset=offset)
            beta /= spread
            self.own_beta, self.shared_beta = beta[1 : 1 + n_own].copy(), beta[1 + n_own :]
            self.own_beta[self.usual] += 1.0
            tokens = self._tokens_at(rows)
            for _ in range(3):  # large ratios are cut, so a pattern is approached in steps
                fitted = tokens + self.calendar_at(rows)
                self.level = own_levels(realised, fitted)
                more = self._fit_calendar(rows, realised * np.exp(-(fitted + self.level)))
                self.calendar = Calendar(
                    self.calendar.hours + more.hours, self.calendar.weekdays + more.weekdays
                )
        return self

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
            found.append(pattern[:, None])
        return Calendar(*found)

    def calendar_at(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return the seasonal effect at some rows, ``(n, 1)``."""
        return self.calendar.at(self.hour[rows], self.weekday[rows])

    def _tokens_at(self, rows: np.ndarray | slice) -> np.ndarray:
        return self.own[rows] @ self.own_beta + (self.shared[rows] @ self.shared_beta)[:, None]

    def forecast(self) -> np.ndarray:
        """Return log variances of every row, ``(n_rows, n_assets)``."""
        everything = slice(None)
        return self._tokens_at(everything) + self.level + self.calendar_at(everything)

    def coefficient(self) -> csr_array:
        """Return the coefficients ``(n_assets, n_tokens)``: a mean is a share of each source."""
        n_assets = self.own.shape[1]
        index, out = self.index, np.zeros((n_assets, len(self.index)))
        for c, k in enumerate(self.channels):
            here = index.block(k).start + np.arange(n_assets)  # at lag 1 alone
            out[:, here] = self.shared_beta[c] / n_assets
            out[np.arange(n_assets), here] += self.own_beta[c]
        out[:, self.outside] = self.shared_beta[len(self.channels) :]
        return csr_array(out)


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
