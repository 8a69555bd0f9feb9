r"""Regression on lagged returns whose coefficients vary with the hour, the state, volume or time.

.. math:: p_i(t) = \sum_e b_e(\text{context of } t)\, r_e(t), \qquad e = (source, lag)

A context is a partition of the bars: by hour, weekday, both, market state, the token's own volume
or size; or it is another token, whose value multiplies, or a hidden regime, whose expected state
does. Coefficients that drift in time are tracked by a Kalman filter. In the words of attention: a
query is the context, and each context has its own sparse map.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from crossattn.tokens.channels import TokenSeries
from crossattn.tokens.linear_map import by_row, running_sum
from crossattn.tokens.memory import Memory
from crossattn.tokens.regime import Regime
from crossattn.tokens.selection import FACTOR_LIMIT, REGIME, SHARED, Group, Selection
from crossattn.tokens.sparse import TARGET_CLIP
from crossattn.tokens.tracking import Drift

BINS, STATE_BINS = 10, 5
SPELL, BLOCK, ERA = 100, 400, 2000
STATE_HALF_LIVES = (3.0, 24.0)


@dataclass
class View:
    """What the regressions read of a panel, in units of each asset's usual return."""

    tokens: np.ndarray  #: (n_rows, n_assets, n_lags), float32
    target: np.ndarray  #: (n_rows, n_assets): next return in volatilities, 0 where unknown
    inverse_noise: np.ndarray  #: (n_rows, n_assets): 1/volatility, 0 where the target is unknown
    #: number of bins, and the bin of every row, (n_rows,), or of
    #: every token, (n_rows, N, L); of "regime" the expected state instead
    contexts: dict[str, tuple[int, np.ndarray]]
    memory: Memory


@dataclass
class VaryingPart:
    """Fit, track and read the varying coefficients of every follower."""

    n_lags: int
    scale: np.ndarray = field(default_factory=lambda: np.ones(0))
    state_mean: np.ndarray = field(default_factory=lambda: np.zeros(3))
    state_spread: np.ndarray = field(default_factory=lambda: np.ones(3))
    edges: dict[str, np.ndarray] = field(default_factory=dict)
    #: by follower: coefficients ``(K,)`` of each (source, lag index, context), 0 the newest bar
    groups: list[dict[Group, np.ndarray]] = field(default_factory=list)
    #: (n_bins,): what tokens share over the bins of a context
    patterns: dict[str, np.ndarray] = field(default_factory=dict)
    #: by follower: coefficients that are tracked
    drifts: list[Drift | None] = field(default_factory=list)
    regime: Regime | None = None  #: the hidden state behind the context "regime"

    def fit(self, series: TokenSeries, rows: np.ndarray) -> Self:
        """Fit on next-bar returns after the given rows; a fitted part goes on from what it holds.

        Scales and the edges of contexts stay those of the first rows.
        """
        if not self.groups:
            self.scale = series.usual_sizes(rows)
            self._fit_contexts(series, rows)
        Selection(self, self.view(series), rows).run()
        return self

    def forecast(self, series: TokenSeries, rows: np.ndarray, bars_ahead: int = 1) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` of the return over the next bars."""
        view, returns = self.view(series), self._returns(series, rows, bars_ahead)
        out = np.zeros((len(rows), len(self.groups)))
        for i in range(len(self.groups)):
            for _, moved in self._moves(view, i, rows, returns):
                out[:, i] += moved
        return out

    def coefficients(self, view: View, rows: np.ndarray, followers: np.ndarray) -> np.ndarray:
        """Return coefficients of raw returns ``(n, n_followers, n_assets, n_lags)``, newest first.

        Times the returns they sum to the forecast; a product counts for its first token.
        """
        out = np.zeros((len(rows), len(followers), len(self.groups), self.n_lags))
        for k, i in enumerate(followers):
            for j, l, beta in self._tokens_of(view, i, rows):
                out[:, k, j, l] += beta
        out *= self.scale[followers, None, None]
        out /= self.scale[:, None]
        return out

    def by_source(
        self, series: TokenSeries, rows: np.ndarray, followers: np.ndarray, bars_ahead: int
    ) -> np.ndarray:
        """Return what sources add to forecasts, over all lags, ``(n, n_followers, n_assets)``."""
        view, returns = self.view(series), self._returns(series, rows, bars_ahead)
        out = np.zeros((len(rows), len(followers), len(self.groups)))
        for k, i in enumerate(followers):
            for j, moved in self._moves(view, i, rows, returns):
                out[:, k, j] += moved
        return out

    def _returns(self, series: TokenSeries, rows: np.ndarray, bars_ahead: int) -> np.ndarray:
        """Return what coefficients multiply, ``(n, n_assets, n_lags)``, newest first.

        A coefficient also multiplies the returns of the lags before its own, up to the horizon.
        """
        returns = lagged_at(series.returns[:, : len(self.groups)], rows, self.n_lags)
        return running_sum(returns, bars_ahead)

    def _moves(
        self, view: View, follower: int, rows: np.ndarray, returns: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield source and share of a follower's forecasts ``(n,)`` of each coefficient."""
        for j, l, beta in self._tokens_of(view, follower, rows):
            yield j, beta * returns[:, j, l] * (self.scale[follower] / self.scale[j])

    def _tokens_of(
        self, view: View, follower: int, rows: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield source, lag and path ``(n,)`` of each coefficient of a follower."""
        for (j, l, context), beta in self.groups[follower].items():
            yield j, l, by_row(self._factor(view, j, l, context)[rows], beta)
        drift = self.drifts[follower]
        if drift is not None:
            path = self._track(view, follower)[rows]
            for (j, l), beta in zip(drift.tokens, path.T, strict=True):
                yield j, l, beta

    # ---- contexts

    def _fit_contexts(self, series: TokenSeries, rows: np.ndarray) -> None:
        state = self._raw_state(series)
        self.state_mean = state[rows].mean(0)
        spread = state[rows].std(0)
        self.state_spread = np.where(spread > 0, spread, 1.0)
        size = np.abs(series.returns[:, : len(self.scale)] / self.scale)
        state = self._state(series)
        for name, values, bins in (
            ("volume", series.volume, BINS),
            ("size", size, BINS),
            ("state 0", state[:, 0], STATE_BINS),
            ("state 1", state[:, 1], STATE_BINS),
        ):
            self.edges[name] = np.quantile(values[rows], np.arange(1, bins) / bins)

    def _raw_state(self, series: TokenSeries) -> np.ndarray:
        """Mean log range over two half-lives, and log volatility, of all assets together."""
        returns = series.returns[:, : len(self.scale)] / self.scale
        power, log_range = np.square(returns).mean(1), series.log_range.mean(1)
        known = np.ones(len(power), bool)
        memory, (short, long) = series.memory, STATE_HALF_LIVES
        columns = [
            memory.mean("short range", log_range, known, short),
            0.5 * np.log(memory.mean("power", power, known, long) + 1e-12),
            memory.mean("long range", log_range, known, long),
        ]
        return np.stack(columns, 1)

    def _state(self, series: TokenSeries) -> np.ndarray:
        return np.clip((self._raw_state(series) - self.state_mean) / self.state_spread, -8.0, 8.0)

    def view(self, series: TokenSeries) -> View:
        """Return what the regressions read of every row of a panel."""
        n_rows, n_assets = series.volatility.shape
        returns = series.returns[:, :n_assets] / self.scale
        noise = np.maximum(series.volatility / self.scale, 0.1)
        target = np.clip(series.next_returns / self.scale / noise, -TARGET_CLIP, TARGET_CLIP)
        known = np.isfinite(target)
        state = self._state(series)
        day = series.weekday
        by_state = [np.searchsorted(self.edges[f"state {k}"], state[:, k]) for k in (0, 1)]
        contexts = {
            "constant": (1, np.zeros(n_rows, np.int16)),
            "hour": (24, series.hour),
            "weekday": (7, day),
            "session": (48, series.hour + 24 * (day >= 5)),
            "state": (STATE_BINS**2, by_state[0] * STATE_BINS + by_state[1]),
            "spell": (n_rows // SPELL + 1, np.arange(n_rows) // SPELL),
            "time": (n_rows // BLOCK + 1, np.arange(n_rows) // BLOCK),
            "era": (n_rows // ERA + 1, np.arange(n_rows) // ERA),
        }
        for name, values in (("volume", series.volume), ("size", np.abs(returns))):
            bins = np.searchsorted(self.edges[name], values).astype(np.int16)
            contexts[name] = (BINS, lagged(bins, self.n_lags))
        view = View(
            lagged(returns.astype(np.float32), self.n_lags),
            np.where(known, target, 0.0),
            np.where(known, 1.0 / noise, 0.0),
            contexts,
            series.memory,
        )
        if self.regime is not None:
            contexts[REGIME] = (1, self.regime.expected(view))
        return view

    # ---- reading

    def _factor(self, view: View, j: int, l: int, context) -> np.ndarray:
        """Return ``(n_rows, K)``: what multiplies a group's coefficients beside the token."""
        if isinstance(context, tuple):
            return np.clip(
                view.tokens[:, context[1], context[2], None], -FACTOR_LIMIT, FACTOR_LIMIT
            )
        if context == REGIME:
            return view.contexts[REGIME][1][:, None]
        name = context.removeprefix(SHARED)
        bins, index = view.contexts[name]
        index = index if index.ndim == 1 else index[:, j, l]
        if name != context:
            return self.patterns[name][index][:, None]
        return (index[:, None] == np.arange(bins)).astype(np.float32)

    def _steady(self, view: View, follower: int) -> np.ndarray:
        """Return the forecast ``(n_rows,)`` of the coefficients that are not tracked."""
        out = np.zeros(len(view.tokens))
        for (j, l, context), beta in self.groups[follower].items():
            out += view.tokens[:, j, l] * by_row(self._factor(view, j, l, context), beta)
        return out

    def _track(self, view: View, follower: int) -> np.ndarray:
        """Return drifting coefficients ``(n_rows, K)`` known at each row."""
        drift, inverse = self.drifts[follower], view.inverse_noise[:, follower]
        left = view.target[:, follower] - self._steady(view, follower) * inverse
        j, l = np.array(drift.tokens).T
        x = view.tokens[:, j, l].astype(float) * inverse[:, None]
        return drift.track(x, left, view.memory, f"drift {follower}")


def lagged(values: np.ndarray, n_lags: int) -> np.ndarray:
    """Return ``(n_rows, N, n_lags)`` with ``[t, j, l] = values[t - l, j]``, 0 before the start."""
    out = np.zeros((*values.shape, n_lags), values.dtype)
    for l in range(n_lags):
        out[l:, :, l] = values[: len(values) - l]
    return out


def lagged_at(values: np.ndarray, rows: np.ndarray, n_lags: int) -> np.ndarray:
    """Return ``(b, S, L)`` values at some rows and the bars before them, newest first."""
    return values[rows[:, None] - np.arange(n_lags)].transpose(0, 2, 1)
