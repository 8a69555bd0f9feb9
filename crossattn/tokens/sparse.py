"""Sparse regression on (source, lag, channel) tokens: attention with fixed leaders.

One volatility-weighted regression per follower, by coordinate descent on Gram matrices
(:mod:`crossattn.tokens.descent`). Four
variants are fitted on the same matrices: the returns of the newest eight bars alone or all tokens,
with an L1 penalty (lasso) or the minimax concave penalty, which leaves large coefficients
unshrunk. A mix on validation rows weighs them (:mod:`crossattn.tokens.mix`).
"""

from collections.abc import Callable
from copy import copy
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from crossattn.tokens.channels import TokenIndex
from crossattn.tokens.descent import TINY, Moments, penalty_path, sparsest_of_the_best
from crossattn.tokens.linear_map import LinearMap

TARGET_CLIP = 6.0
# In standard errors of a coefficient where nothing leads: a token enters once its correlation with
# what is unexplained exceeds as many, times the price of its channel.
PENALTIES = np.geomspace(8.0, 1.4, 20)
PRICING_PENALTY = 3.3
PRICING_ROUNDS = 2
CONCAVITY = 2.0
TOKENS_PER_FOLLOWER = 250
RIDGE_PENALTIES = np.logspace(2, -3, 21)


# by name: whether a regression reads returns alone, all at one price, and its concavity (0: lasso)
VARIANTS = {
    "lasso": (True, 0.0),
    "returns": (True, CONCAVITY),
    "tokens_lasso": (False, 0.0),
    "tokens": (False, CONCAVITY),
}


class SparseRegressions:
    """Fit every variant for every follower; choose each one's penalty on validation rows.

    ``tokens_per_follower`` survive the screening by marginal correlation, which keeps cost and
    memory linear in the number of tokens. A target extends over ``overlap`` rows: penalties grow by
    its root. By variant, ``first`` holds the map fitted on training rows, ``final`` the one
    refitted on training and validation rows with the chosen penalty, and ``held_out`` the forecasts
    of rows that were left out: of each block, then of validation.
    """

    def __init__(
        self, index: TokenIndex, tokens_per_follower: int = TOKENS_PER_FOLLOWER, overlap: int = 1
    ):
        self.index = index
        self.stretch = float(np.sqrt(overlap))
        self.keep = tokens_per_follower

    def fit(
        self,
        target: np.ndarray,
        volatility: np.ndarray,
        train: np.ndarray,
        val: np.ndarray,
        *others: tuple[np.ndarray, np.ndarray],
    ) -> Self:
        """Fit on the rows ``train``, choose penalties on ``val``.

        ``target`` (n_rows, n_assets) is what is forecast at a row, NaN where unknown, and
        ``volatility`` what its loss is divided by. ``others`` are folds (rows fitted, rows held
        out) that choose as well.
        """
        self.target = np.clip(target, -TARGET_CLIP * volatility, TARGET_CLIP * volatility)
        self.volatility = volatility
        fits = [copy(self)._prepare(*fold) for fold in others] + [self._prepare(train, val)]
        self.first, self.held_out, best = {}, {}, {}
        for name in VARIANTS:
            paths = [fit._paths(name) for fit in fits]
            saved = [fit._validate(path) for fit, path in zip(fits, paths, strict=True)]
            best[name] = sparsest_of_the_best(*np.concatenate(saved, axis=1))
            maps = [fit._map_at(best[name], path) for fit, path in zip(fits, paths, strict=True)]
            self.first[name] = maps[-1]
            forecasts = [m.forecast(self.index, f.val) for f, m in zip(fits, maps, strict=True)]
            self.held_out[name] = np.concatenate(forecasts)
        again, means = {name: [] for name in VARIANTS}, []
        for i, moments in enumerate(self.moments):
            moments = moments + self._moments(i, val)  # a follower at a time: they are large
            means.append(moments.mean)
            for name in VARIANTS:
                again[name].append(self._path(i, moments, name, PENALTIES[: best[name] + 1])[-1])
        self.final = {name: self._as_map(found, means) for name, found in again.items()}
        del self.moments, self.target, self.volatility
        return self

    def _prepare(self, train: np.ndarray, val: np.ndarray) -> Self:
        """Screen and price the tokens and add up their moments on the rows ``train``."""
        self.val = val
        self.screened = self._screen(train)
        gaps = [self._gaps(i, tokens) for i, tokens in enumerate(self.screened)]
        self.combine, self.priced = zip(*gaps, strict=True)
        self.moments = [self._moments(i, train) for i in range(len(self.screened))]
        of_returns = np.full(len(self.index), np.inf)
        of_returns[self.index.where("return")] = 1.0
        self.price = {True: of_returns, False: self._prices()}  # by whether returns alone are read
        return self

    def _screen(self, rows: np.ndarray) -> list[np.ndarray]:
        """Tokens that correlate most with each follower's target, near returns in any case."""
        known = np.isfinite(self.target[rows])
        weight = np.where(known, self.volatility[rows] ** -2.0, 0.0)
        target = np.where(known, self.target[rows], 0.0)
        score = correlate(self.index, rows, weight, target) / self.index.price[:, None]
        near, distance = self.index.where("return"), self.index.where("distance")
        chosen = []
        for i, s in enumerate(score.T):
            parts = [
                largest(s, self.keep),
                near[largest(s[near], self.keep // 2)],
                distance[largest(s[distance], self.keep // 4)],
                distance[self.index.source[distance] == i],
            ]
            chosen.append(np.unique(np.concatenate(parts)))
        return chosen

    def _gaps(self, follower: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Differences between a source's distance from its mean and the follower's own.

        What draws two prices together is their difference: one regressor instead of two that are
        each weak. Returns them as combinations ``(K', K)`` of the tokens, and the token whose price
        is paid by each token and each combination, ``(K + K',)``.
        """
        index, combine, priced = self.index, [], list(tokens)
        for channel in np.unique(index.channel[index.where("distance")]):
            here = np.flatnonzero(index.channel[tokens] == channel)
            is_own = index.source[tokens[here]] == follower
            for k in here[~is_own] if is_own.any() else ():
                row = np.zeros(len(tokens))
                row[k], row[here[is_own][0]] = 1.0, -1.0
                combine.append(row)
                priced.append(tokens[k])
        return np.array(combine).reshape(-1, len(tokens)), np.array(priced)

    def _moments(self, follower: int, rows: np.ndarray) -> Moments:
        rows = rows[np.isfinite(self.target[rows, follower])]
        weight = 1.0 / self.volatility[rows, follower]
        x = self.index.values(rows, self.screened[follower]) * weight[:, None].astype(np.float32)
        y, w = self.target[rows, follower] * weight, weight.astype(np.float32)
        sums = Moments(
            len(rows),
            float(weight @ weight),
            (x.T @ w).astype(float),
            float(y @ weight),
            (x.T @ x).astype(float),
            (x.T @ y.astype(np.float32)).astype(float),
            float(y @ y),
        )
        return sums.with_combinations(self.combine[follower])

    def _prices(self) -> np.ndarray:
        """Price of every token: high where tokens of its family rarely matter, over all followers.

        Empirical Bayes: where a share s of a family's tokens enters, its threshold is
        ``sqrt(2 log(1 / s))``, at which a token of it is as likely a leader as luck.
        """
        size = np.bincount(self.index.family) * len(self.screened)
        price = self.index.price
        strict = PENALTIES[PENALTIES > PRICING_PENALTY]
        for _ in range(PRICING_ROUNDS):
            entered = np.zeros(len(size))
            for moments, priced in zip(self.moments, self.priced, strict=True):
                path = penalty_path(moments, self.stretch * price[priced], strict, CONCAVITY)
                np.add.at(entered, self.index.family[priced[path[-1] != 0]], 1)
            level = np.sqrt(2 * np.log((size + 1) / (entered + 0.5)))
            price = (level / level.min())[self.index.family]
        return price

    def _paths(self, name: str) -> list[np.ndarray]:
        """Return coefficients by follower and penalty, of a variant."""
        return [self._path(i, moments, name) for i, moments in enumerate(self.moments)]

    def _path(
        self, follower: int, moments: Moments, name: str, penalties: np.ndarray = PENALTIES
    ) -> np.ndarray:
        """Return coefficients by penalty; those of differences go to the tokens that make them."""
        only_returns, concavity = VARIANTS[name]
        own_price = self.stretch * self.price[only_returns][self.priced[follower]]
        path = penalty_path(moments, own_price, penalties, concavity)
        size = len(self.screened[follower])
        return path[:, :size] + path[:, size:] @ self.combine[follower]

    def _validate(self, paths: list[np.ndarray]) -> np.ndarray:
        """Forecast times target, and forecast squared, by held-out row and penalty."""
        saved = 0.0
        for i, path in enumerate(paths):
            used = np.flatnonzero((path != 0).any(0))
            volatility = self.volatility[self.val, i]
            y = self.target[self.val, i] / volatility
            weight = np.where(np.isfinite(y), 1.0 / volatility, 0.0)
            x = self.index.values(self.val, self.screened[i][used]) - self.moments[i].mean[used]
            forecast = weight[:, None] * (x @ path[:, used].T)
            saved = saved + np.stack([forecast * np.nan_to_num(y)[:, None], forecast**2])
        return saved

    def _map_at(self, penalty: int, paths: list[np.ndarray]) -> LinearMap:
        return self._as_map([path[penalty] for path in paths], [m.mean for m in self.moments])

    def _as_map(self, coefficients: list[np.ndarray], means: list[np.ndarray]) -> LinearMap:
        used = [np.flatnonzero(beta) for beta in coefficients]
        offset = [-(beta @ m[: len(beta)]) for beta, m in zip(coefficients, means, strict=True)]
        tokens = [top[u] for top, u in zip(self.screened, used, strict=True)]
        data = [beta[u] for beta, u in zip(coefficients, used, strict=True)]
        pointer = np.concatenate([[0], np.cumsum([len(u) for u in used])])
        shape = (len(coefficients), len(self.index))
        matrix = csr_array((np.concatenate(data), np.concatenate(tokens), pointer), shape=shape)
        return LinearMap(matrix, np.array(offset))


def correlate(
    index: TokenIndex, rows: np.ndarray, weight: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Return the weighted correlation, in size, of tokens with targets, ``(n_tokens, n_assets)``.

    Weights (n, n_assets) are 1/volatility², 0 where the target is unknown.
    """
    both = weight * target
    mass = np.maximum(weight.sum(0), TINY)
    stacked = np.concatenate([both, weight / mass], 1).astype(np.float32)
    weight = weight.astype(np.float32)
    scores = []
    for channel in index.channels:
        block = np.empty((channel.values.shape[1], len(channel.lags), weight.shape[1]), np.float32)
        for k, lag in enumerate(channel.lags):
            x = channel.values[rows - lag + 1]  # (n, S)
            moment, mean = np.split(x.T @ stacked, 2, axis=1)  # (S, N) each
            power = (x * x).T @ weight
            spread = np.maximum(power - mass * mean**2, 1e-12 * power + 1e-30)
            block[:, k] = np.abs(moment - mean * both.sum(0)) / np.sqrt(spread)
        scores.append(block.reshape(-1, weight.shape[1]))
    return np.concatenate(scores)


def largest(score: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of the ``count`` largest scores, in no order."""
    if count >= len(score):
        return np.arange(len(score))
    return np.argpartition(-score, count)[:count]


def fit_ridge(
    index: TokenIndex,
    target: np.ndarray,
    volatility: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
) -> tuple[LinearMap, LinearMap]:
    """Fit ridge regressions of all assets on the near returns of all sources, on one matrix.

    Rows are weighted by the market's volatility instead of each follower's own, so that one Gram
    matrix serves all followers; with more tokens than rows, the kernel matrix is decomposed.
    Returns the maps fitted on training rows, and on training and validation rows.
    """
    target = np.clip(target, -TARGET_CLIP * volatility, TARGET_CLIP * volatility)
    level = np.exp(np.log(volatility[train]).mean(0))
    market = np.exp(np.log(volatility / level).mean(1))[:, None]  # (n_rows, 1)
    tokens = index.where("return")
    centre = np.average(index.values(train, tokens), axis=0, weights=market[train, 0] ** -2.0)

    def solve(rows: np.ndarray) -> tuple[Callable, Callable, Callable]:
        """Return the weights at a penalty, their coefficients, and what weights multiply."""
        x = (index.values(rows, tokens) - centre) / market[rows]
        y = np.nan_to_num(target[rows]) / market[rows]
        spread = x.std(0) + TINY**0.5
        x /= spread
        n, k = x.shape
        values, vectors = np.linalg.eigh(x.T @ x if k <= n else x @ x.T)
        inner = vectors.T @ (x.T @ y if k <= n else y)

        def basis(seen: np.ndarray) -> np.ndarray:
            return seen / spread if k <= n else (seen / spread) @ x.T

        def coefficients(weights: np.ndarray) -> np.ndarray:
            return (weights if k <= n else x.T @ weights) / spread[:, None]

        return lambda penalty: (vectors / (values + penalty * n)) @ inner, coefficients, basis

    def as_map(beta: np.ndarray) -> LinearMap:
        narrow = csr_array(beta.T)
        parts = (narrow.data, tokens[narrow.indices], narrow.indptr)
        return LinearMap(csr_array(parts, shape=(beta.shape[1], len(index))), -(centre @ beta))

    weights, coefficients, basis = solve(train)
    y, seen = target[val] / volatility[val], basis(index.values(val, tokens) - centre)
    gain = []
    for penalty in RIDGE_PENALTIES:
        forecast = (seen @ weights(penalty)) / volatility[val]
        power = np.nansum(np.where(np.isfinite(y), forecast, 0.0) ** 2)
        gain.append(max(np.nansum(forecast * y), 0.0) ** 2 / max(power, TINY))
    best = RIDGE_PENALTIES[int(np.argmax(gain))]
    first = as_map(coefficients(weights(best)))
    weights, coefficients, _ = solve(np.concatenate([train, val]))
    return first, as_map(coefficients(weights(best)))
