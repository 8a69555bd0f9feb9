"""Token channels: what is known about each source at each bar, as causal series.

A token is one channel of one source at one lag. Every channel is a series ``(n_rows, n_sources)``
whose row t uses nothing later than row t, so that the value of a token at lag l is the row l - 1
bars earlier. Missing values are 0: no news.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.tokens.memory import Memory
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.variance import known_moments

NEAR_LAGS = 8  # every channel of a return is read at these lags; later ones carry the return alone
LEVEL_LAGS = 3
LEVEL_LIMIT = 8.0  # standard deviations at which standardised levels are cut
SLOW_HALF_LIVES = (12.0, 48.0, 192.0)
FAR_PRICE = 1.15  # penalty of a token that is no recent return, relative to one that is
VOLATILITY_HALF_LIFE = 12.0
RETURN, VOLUME, RANGE = "log_return", "relative_volume", "range"
# Events: an answer grows from none to all between two limits, so that any step between is met. In
# standard deviations of training, and of recent bars, to which the bar itself belongs.
EVENTS = {"1sd": (1.0, 2.0), "2sd": (2.0, 3.0), "1vol": (1.0, 1.85), "2vol": (1.85, 2.5)}
DIRECTIONS = {"rise": 1.0, "fall": -1.0}
#: channels that have the sign of the return that they are made from
SIGNED_CHANNELS = ("return", "fall", "gated_return", "signed_root")
SIGNED_CHANNELS += tuple(f"{direction}_{name}" for name in EVENTS for direction in DIRECTIONS)
# names of channels, families and scales of the tokenizers' own, which no feature may bear
RESERVED = {*SIGNED_CHANNELS, *EVENTS, "size", "late", "gate", "root", "distance", "means", "level"}
RESERVED |= {"exogenous", "log_range"}


@dataclass(frozen=True)
class Channel:
    """One series per source, and the lags at which it is read."""

    #: as reported; ``family`` may be finer, and shares one price in the sparse regression
    name: str
    family: str
    values: np.ndarray  #: (n_rows, n_sources), kept as float32
    lags: tuple[int, ...]  #: 1 is the newest known bar
    price: float = FAR_PRICE  #: factor of the penalty of its tokens
    #: what a value is worth one bar later, where it fades by itself (0: it does not carry over)
    decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.ascontiguousarray(self.values, np.float32))


@dataclass(frozen=True)
class TokenSeries:
    """Everything that the forecaster's parts read, for every row of a panel."""

    channels: list[Channel]
    #: (n_rows, n_sources), float64: log return of each source, 0 where it is missing; exogenous
    #: series last, standardised
    returns: np.ndarray
    known: np.ndarray  #: (n_rows, n_sources), bool
    #: (n_rows, n_assets): of the next bar's return, from bars up to the row (exponential mean,
    #: half-life 12 bars)
    volatility: np.ndarray
    volume: np.ndarray  #: (n_rows, n_assets): standardised relative volume, 0 where unknown
    log_range: np.ndarray  #: (n_rows, n_assets): standardised, 0 where unknown
    #: (n_rows, n_assets): simple return of the next bar, NaN where unknown
    next_returns: np.ndarray
    hour: np.ndarray  #: (n_rows,), int: of the row's close, UTC; 0 where it is unknown
    weekday: np.ndarray  #: (n_rows,), int: the same
    memory: Memory  #: where the sums over earlier rows go on from, also those of the parts

    @cached_property
    def index(self) -> "TokenIndex":
        """The table of all tokens of the channels."""
        return TokenIndex(self.channels)

    def usual_sizes(self, rows: np.ndarray) -> np.ndarray:
        """Return the root mean square return of each asset at some rows, 1 where that is 0."""
        power = np.square(self.returns[rows, : self.volatility.shape[1]]).mean(0)
        return np.sqrt(np.where(power > 0, power, 1.0))


@dataclass
class Tokenizer:
    """Turn a panel of features into token channels, with scales from training rows alone.

    Every feature of the data is read: ``log_return`` and ``relative_volume`` as the channels that
    are made from them, ``range`` by the content heads, and each feature, these two apart, as a
    channel of its own, standardised per asset.
    """

    #: oldest bar that is read, counted back from the newest (lags 1 to ``max_lag + 1``)
    max_lag: int
    #: means (n_assets,) by feature, and of the exogenous series under ``"exogenous"``
    centre: dict[str, np.ndarray] = field(default_factory=dict)
    #: standard deviations, likewise
    spread: dict[str, np.ndarray] = field(default_factory=dict)

    def fit(self, data: CrossAttentionData) -> Self:
        """Take means and standard deviations from the rows that windows of ``data`` end at."""
        if RETURN not in data.features:
            raise InvalidInputError(f"data must hold the feature {RETURN!r}, got {data.features}")
        if taken := [name for name in data.features if name in RESERVED]:
            raise InvalidInputError(f"data: rename the feature: a channel is named {taken[0]!r}")
        for name, values in self._levels(data).items():
            self.centre[name], self.spread[name] = known_moments(values[data.ends])
        returns = np.asarray(data.panel[data.ends, :, data.features.index(RETURN)], float)
        self.spread[RETURN] = known_moments(returns)[1]
        return self

    def series(self, data: CrossAttentionData, memory: Memory | None = None) -> TokenSeries:
        """Return the channels for every row of the panel behind ``data``.

        ``memory`` holds the sums over the rows before the panel's first; by default there are none.
        """
        memory = memory or Memory()
        panel = np.asarray(data.panel, float)
        n_assets = len(data.symbols)
        raw = panel[:, :, data.features.index(RETURN)]
        levels = {name: self._standard(name, x) for name, x in self._levels(data).items()}
        outside = levels.pop("exogenous", np.empty((len(panel), 0)))
        known = np.concatenate([np.isfinite(raw), np.ones(outside.shape, bool)], 1)
        returns = np.concatenate([np.where(np.isfinite(raw), raw, 0.0), outside], 1)
        nothing = np.zeros((len(panel), n_assets))
        volume, log_range = levels.get(VOLUME, nothing), levels.get("log_range", nothing)
        volatility = recent_volatility(np.where(known, returns, np.nan), memory=memory)
        return TokenSeries(
            [*self._channels(returns, levels, memory), *self._events(returns, volatility)],
            returns,
            known,
            volatility[:, :n_assets],
            volume,
            log_range,
            data.next_returns,
            *hour_and_weekday(data.clock),
            memory,
        )

    def _levels(self, data: CrossAttentionData) -> Mapping[str, np.ndarray]:
        """Every feature but the return, the log of the range, and exogenous series, raw."""
        levels = {
            name: np.asarray(data.panel[:, :, k], float)
            for k, name in enumerate(data.features)
            if name != RETURN
        }
        if RANGE in levels:
            levels["log_range"] = np.log(np.maximum(levels[RANGE], 1e-7))
        if data.exogenous is not None:
            levels["exogenous"] = np.asarray(data.exogenous, float)
        return levels

    def _standard(self, name: str, values: np.ndarray) -> np.ndarray:
        scaled = (values - self.centre[name]) / self.spread[name]
        return np.nan_to_num(np.clip(scaled, -LEVEL_LIMIT, LEVEL_LIMIT))

    def _channels(self, returns, levels, memory: Memory) -> list[Channel]:
        lags = tuple(range(1, self.max_lag + 2))
        near, few = lags[:NEAR_LAGS], lags[:LEVEL_LAGS]
        channels = [
            Channel("return", "return", returns, near, price=1.0),
            Channel("return", "late", returns, lags[NEAR_LAGS:]),
            Channel("fall", "fall", np.minimum(returns, 0.0), near),
            Channel("signed_root", "root", np.sign(returns) * np.sqrt(np.abs(returns)), near),
            Channel("size", "size", np.abs(returns), few),
        ]
        if VOLUME in levels:
            volume = levels[VOLUME]
            gated = returns[:, : volume.shape[1]] * (2.0 / (1.0 + np.exp(-volume)))
            channels += [
                Channel("gated_return", "gate", gated, near),
                Channel(VOLUME, VOLUME, volume, near),
            ]
        for name in sorted(levels):
            if name not in (VOLUME, "log_range"):
                channels.append(Channel(name, name, levels[name], few))
        for half_life in SLOW_HALF_LIVES:
            values = distance_from_mean(returns, half_life, memory)
            decay = 0.5 ** (1.0 / half_life)
            channels.append(Channel("distance", "distance", values, (1,), decay=decay))
        return [channel for channel in channels if channel.lags]

    def _events(self, returns: np.ndarray, volatility: np.ndarray) -> list[Channel]:
        """Large moves whatever their size, by direction: no line through returns follows them."""
        usual = np.ones(returns.shape[1])  # of exogenous series, which come last
        usual[: len(self.spread[RETURN])] = self.spread[RETURN]
        lags, channels = tuple(range(1, min(NEAR_LAGS, self.max_lag + 1) + 1)), []
        for name, (low, high) in EVENTS.items():
            moves = returns / (volatility if name.endswith("vol") else usual)
            share = np.clip((np.abs(moves) - low) / (high - low), 0.0, 1.0)
            for direction, sign in DIRECTIONS.items():
                values = np.where(sign * moves > 0, sign * share, 0.0)
                channels.append(Channel(f"{direction}_{name}", name, values, lags))
        return channels


def hour_and_weekday(clock: pd.DatetimeIndex) -> tuple[np.ndarray, np.ndarray]:
    """Return both of each time, ints: 0 where it is unknown, so that no part tells rows apart."""
    unknown = clock.isna()
    hour, weekday = (np.where(unknown, 0, part) for part in (clock.hour, clock.day_of_week))
    return hour.astype(int), weekday.astype(int)


def distance_from_mean(
    returns: np.ndarray, half_life: float, memory: Memory | None = None
) -> np.ndarray:
    """Return how far each log price lies above its own exponentially weighted mean.

    The mean gives a price k bars old the weight ``(1 - decay) * decay**k``; the distance is then
    the sum of past returns, each multiplied by ``decay`` once per bar of its age, plus one.
    """
    decay, memory = 0.5 ** (1.0 / half_life), memory or Memory()
    return decay * memory.decayed_sum(f"distance {half_life:g}", returns, half_life)


def recent_volatility(
    returns: np.ndarray, half_life: float = VOLATILITY_HALF_LIFE, memory: Memory | None = None
) -> np.ndarray:
    """Return the standard deviation of a bar's return, from the bars up to each row.

    The exponential mean skips what is NaN in ``returns`` (n_rows, n_assets); ``memory`` holds sums
    over earlier rows.
    """
    known, memory = np.isfinite(returns), memory or Memory()
    squares = np.where(known, returns, 0.0) ** 2
    variance = memory.mean("volatility", squares, known, half_life)
    so_far = memory.mean("volatility so far", squares, known, np.inf)
    return np.sqrt(np.maximum(variance, np.where(so_far > 0, 1e-4 * so_far, 1.0)))


class TokenIndex:
    """The table of all tokens of some channels, and their values where asked for.

    Values are gathered when needed and never held as one matrix: N sources, L lags and C channels
    are N·L·C columns. ``channel``, ``source``, ``lag`` (1 is the newest bar), ``family`` and
    ``price`` (n_tokens,) are those of each token, sorted by channel, then source, then lag.
    """

    def __init__(self, channels: list[Channel]):
        self.channels = channels
        grids = [np.ix_([k], range(c.values.shape[1]), c.lags) for k, c in enumerate(channels)]
        parts = [np.stack(np.broadcast_arrays(*grid), axis=-1).reshape(-1, 3) for grid in grids]
        self.channel, self.source, self.lag = np.concatenate(parts).T
        _, family = np.unique([c.family for c in channels], return_inverse=True)
        self.family = family[self.channel]
        self.price = np.array([c.price for c in channels])[self.channel]

    def __len__(self) -> int:
        return len(self.channel)

    def where(self, family: str) -> np.ndarray:
        """Return the positions of all tokens of a channel family."""
        named = [k for k, c in enumerate(self.channels) if c.family == family]
        return np.flatnonzero(np.isin(self.channel, named))

    def block(self, channel: int) -> slice:
        """Return where a channel's tokens are, source by source."""
        first = int(np.searchsorted(self.channel, channel))
        stop = int(np.searchsorted(self.channel, channel, side="right"))
        return slice(first, stop)

    def ladders(self) -> list[list[int]]:
        """Return the channels that carry one series over consecutive lags, together."""
        names: dict[tuple, list[int]] = {}
        for k, channel in enumerate(self.channels):
            names.setdefault((channel.name, channel.decay), []).append(k)
        return list(names.values())

    def values(self, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the values ``(n, K)`` of some tokens for forecasts made at some rows, float32."""
        out = np.empty((len(tokens), len(rows)), np.float32)
        pairs = self.channel[tokens] * (1 << 32) + self.lag[tokens]
        for pair in np.unique(pairs):
            here = np.flatnonzero(pairs == pair)
            channel, lag = divmod(int(pair), 1 << 32)
            at_rows = self.channels[channel].values.take(rows - lag + 1, 0)  # (n, S)
            out[here] = at_rows.T[self.source[tokens[here]]]
        return out.T
