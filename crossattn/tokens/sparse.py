"""Sparse regression on (source, lag, channel) tokens: attention with fixed leaders.

One volatility-weighted regression per follower, by coordinate descent on Gram matrices. Four
variants are fitted on the same matrices: the returns of the newest eight bars alone or all tokens,
with an L1 penalty (lasso) or the minimax concave penalty, which leaves large coefficients
unshrunk. A mix on validation rows weighs them (:mod:`crossattn.tokens.mix`).

References
----------
Tibshirani (1996), Regression shrinkage and selection via the lasso. Zhang (2010), Nearly unbiased
variable selection under minimax concave penalty.

Built in chapter: The full model.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from scipy.sparse import csr_array

from crossattn.tokens.channels import TokenIndex

TARGET_CLIP = 6.0
# In standard errors of a coefficient where nothing leads: a token enters once its correlation with
# what is unexplained exceeds as many, times the price of its channel.
PENALTIES = np.geomspace(8.0, 1.4, 20)
PRICING_PENALTY = 3.3
PRICING_ROUNDS = 2
CONCAVITY = 2.0
TOLERANCE, SWEEPS = 1e-3, 300
LENIENCE = 1.0
TOKENS_PER_FOLLOWER = 250
RIDGE_PENALTIES = np.logspace(2, -3, 21)
TINY = 1e-300


@dataclass(frozen=True)
class Variant:
    """Which tokens a regression may use, and how it shrinks them."""

    only_returns: bool
    concavity: float  # 0: lasso
    priced: bool


VARIANTS = {
    "lasso": Variant(only_returns=True, concavity=0.0, priced=False),
    "returns": Variant(only_returns=True, concavity=CONCAVITY, priced=False),
    "tokens_lasso": Variant(only_returns=False, concavity=0.0, priced=True),
    "tokens": Variant(only_returns=False, concavity=CONCAVITY, priced=True),
}


def by_row(x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return ``x @ beta``, each row to the last bit whatever other rows there are."""
    return np.einsum("nk,k->n", np.ascontiguousarray(x, float), beta)


@dataclass(frozen=True)
class LinearMap:
    """A sparse linear forecast of every follower from tokens.

    Attributes
    ----------
    coefficient : csr_array of shape (n_assets, n_tokens)
    offset : ndarray of shape (n_assets,)
        Minus what the forecast would be at the training means of its tokens.
    """

    coefficient: csr_array
    offset: np.ndarray

    def forecast(self, index: TokenIndex, rows: np.ndarray) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` made at some rows."""
        out = np.tile(self.offset, (len(rows), 1))
        for i in range(len(self.offset)):
            tokens, beta = self.row(i)
            if tokens.size:
                out[:, i] += by_row(index.values(rows, tokens), beta)
        return out

    def ahead(self, index: TokenIndex, horizon: int, centre: np.ndarray) -> LinearMap:
        """Return the forecast of the next ``horizon`` bars together, from a forecast of the next.

        What leads by l bars still has its newest l values to be answered, so a token then counts
        as every lag from its own on; a distance from the mean fades by its decay each bar.
        """
        if horizon == 1:
            return self
        out = self.coefficient.toarray()
        for channels in index.ladders():
            blocks = [index.block(k) for k in channels]
            ladder = np.concatenate([out[:, b].reshape(len(out), n, -1) for b, n in blocks], 2)
            ladder = running_sum(ladder[..., ::-1], horizon)[..., ::-1]
            if decay := index.channels[channels[0]].decay:
                ladder = ladder * (1.0 - decay**horizon) / (1.0 - decay)
            for (block, _), part in zip(
                blocks, np.split(ladder, index.splits(channels), 2), strict=True
            ):
                out[:, block] = part.reshape(len(out), -1)
        return LinearMap(csr_array(out), -(out @ centre))

    def row(self, follower: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens that a follower's forecast uses, and their coefficients."""
        matrix = self.coefficient
        part = slice(matrix.indptr[follower], matrix.indptr[follower + 1])
        return matrix.indices[part], matrix.data[part]


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows of one follower's tokens and target: enough to fit a regression."""

    count: float
    weight: float
    x: np.ndarray
    y: float
    xx: np.ndarray
    xy: np.ndarray
    yy: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def mean(self) -> np.ndarray:
        """Weighted means of the tokens."""
        return self.x / max(self.weight, TINY)

    def centred(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Return Gram matrix, cross moments and power of the target, all about their means."""
        level = self.y / max(self.weight, TINY)
        gram = self.xx - self.weight * np.outer(self.mean, self.mean)
        return gram, self.xy - self.weight * self.mean * level, self.yy - self.weight * level**2

    def with_combinations(self, combine: np.ndarray) -> Moments:
        """Append linear combinations ``combine`` (K', K) of the tokens as further tokens."""
        if not len(combine):
            return self
        mixed = combine @ self.xx
        xx = np.block([[self.xx, mixed.T], [mixed, mixed @ combine.T]])
        x = np.concatenate([self.x, combine @ self.x])
        xy = np.concatenate([self.xy, combine @ self.xy])
        return Moments(self.count, self.weight, x, self.y, xx, xy, self.yy)


class SparseRegressions:
    """Fit every variant for every follower; choose each one's penalty on validation rows.

    Parameters
    ----------
    index : TokenIndex
    overlap : int
        Rows over which one target extends: penalties grow by its root.
    tokens_per_follower : int
        Tokens that survive the screening by marginal correlation, which bounds cost and memory:
        both stay linear in the number of tokens.

    Attributes
    ----------
    first, final : dict of str to LinearMap
        By variant: fitted on training rows, and refitted on training and validation rows with the
        penalty that validation chose.
    """

    def __init__(
        self, index: TokenIndex, tokens_per_follower: int = TOKENS_PER_FOLLOWER, overlap: int = 1
    ):
        self.index = index
        self.stretch = float(np.sqrt(overlap))
        self.keep = tokens_per_follower

    def fit(
        self, target: np.ndarray, volatility: np.ndarray, train: np.ndarray, val: np.ndarray
    ) -> SparseRegressions:
        """Fit on the rows ``train``, choose penalties on ``val``.

        Parameters
        ----------
        target, volatility : ndarray of shape (n_rows, n_assets)
            What is forecast at a row (NaN where unknown), and what its loss is divided by.
        train, val : ndarray of int
            Rows.
        """
        target = np.clip(target, -TARGET_CLIP * volatility, TARGET_CLIP * volatility)
        self.target, self.volatility, self.val = target, volatility, val
        self.screened = self._screen(train)
        self.gaps = [self._gaps(i, tokens) for i, tokens in enumerate(self.screened)]
        self.moments = [
            tuple(self._moments(i, rows) for rows in (train, val))
            for i in range(len(self.screened))
        ]
        price = self._prices()
        returns = np.zeros(len(self.index), bool)
        returns[self.index.where("return")] = True
        self.first, self.final = {}, {}
        for name, variant in VARIANTS.items():
            own = price if variant.priced else np.ones(len(self.index))
            own = np.where(returns, own, np.inf) if variant.only_returns else own
            self.first[name], self.final[name] = self._fit_variant(own, variant.concavity)
        del self.moments, self.target, self.volatility
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
        each weak. Returns them as combinations ``(K', K)`` of the tokens, and whose price they pay.
        """
        index, combine, pays = self.index, [], []
        for channel in np.unique(index.channel[index.where("distance")]):
            here = np.flatnonzero(index.channel[tokens] == channel)
            is_own = index.source[tokens[here]] == follower
            for k in here[~is_own] if is_own.any() else ():
                row = np.zeros(len(tokens))
                row[k], row[here[is_own][0]] = 1.0, -1.0
                combine.append(row)
                pays.append(k)
        return np.array(combine).reshape(-1, len(tokens)), np.array(pays, int)

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
        return sums.with_combinations(self.gaps[follower][0])

    def _own_price(self, follower: int, price: np.ndarray) -> np.ndarray:
        tokens, (_, pays) = self.screened[follower], self.gaps[follower]
        return self.stretch * price[np.concatenate([tokens, tokens[pays]])]

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
            for i, tokens in enumerate(self.screened):
                path = penalty_path(
                    self.moments[i][0], self._own_price(i, price), strict, CONCAVITY
                )
                tokens = np.concatenate([tokens, tokens[self.gaps[i][1]]])
                np.add.at(entered, self.index.family[tokens[path[-1] != 0]], 1)
            level = np.sqrt(2 * np.log((size + 1) / (entered + 0.5)))
            price = (level / level.min())[self.index.family]
        return price

    def _fit_variant(self, price: np.ndarray, concavity: float) -> tuple[LinearMap, LinearMap]:
        paths, saved = [], 0.0
        for i, (train, _) in enumerate(self.moments):
            path = penalty_path(train, self._own_price(i, price), PENALTIES, concavity)
            paths.append(self._on_tokens(i, path))
            saved = saved + self._validate(i, paths[i], train)
        best = sparsest_of_the_best(*saved)
        first = self._as_map([path[best] for path in paths], [train for train, _ in self.moments])
        both = [train + val for train, val in self.moments]
        again = [
            self._on_tokens(
                i,
                penalty_path(m, self._own_price(i, price), PENALTIES[: best + 1], concavity)[-1:],
            )[0]
            for i, m in enumerate(both)
        ]
        return first, self._as_map(again, both)

    def _on_tokens(self, follower: int, path: np.ndarray) -> np.ndarray:
        """Map coefficients of the differences back to the tokens that they are made of."""
        combine, _ = self.gaps[follower]
        size = len(self.screened[follower])
        return path[:, :size] + path[:, size:] @ combine

    def _validate(self, follower: int, path: np.ndarray, train: Moments) -> np.ndarray:
        """Forecast times target, and forecast squared, by validation row and penalty."""
        used = np.flatnonzero((path != 0).any(0))
        y = self.target[self.val, follower] / self.volatility[self.val, follower]
        weight = np.where(np.isfinite(y), 1.0 / self.volatility[self.val, follower], 0.0)
        x = self.index.values(self.val, self.screened[follower][used]) - train.mean[used]
        forecast = weight[:, None] * (x @ path[:, used].T)
        return np.stack([forecast * np.nan_to_num(y)[:, None], forecast**2])

    def _as_map(self, coefficients: list[np.ndarray], moments: list[Moments]) -> LinearMap:
        used = [np.flatnonzero(beta) for beta in coefficients]
        offset = [
            -(beta @ m.mean[: len(beta)]) for beta, m in zip(coefficients, moments, strict=True)
        ]
        tokens = [top[u] for top, u in zip(self.screened, used, strict=True)]
        data = [beta[u] for beta, u in zip(coefficients, used, strict=True)]
        pointer = np.concatenate([[0], np.cumsum([len(u) for u in used])])
        shape = (len(coefficients), len(self.index))
        matrix = csr_array((np.concatenate(data), np.concatenate(tokens), pointer), shape=shape)
        return LinearMap(matrix, np.array(offset))


def correlate(
    index: TokenIndex, rows: np.ndarray, weight: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Return the absolute weighted correlation of tokens with followers' targets, up to scale.

    Parameters
    ----------
    weight, target : ndarray of shape (n, n_assets)
        Weights 1/volatility², 0 where the target is unknown.

    Returns
    -------
    ndarray of shape (n_tokens, n_assets), float32
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


def penalty_path(
    moments: Moments, price: np.ndarray, penalties: np.ndarray, concavity: float
) -> np.ndarray:
    """Return coefficients ``(n_penalties, K)``, one row per penalty, by coordinate descent.

    Tokens are scaled to one size; those of infinite price stay out.
    """
    gram, moment, power = moments.centred()
    path = np.zeros((len(penalties), len(price)))
    varies = np.diag(gram) > 1e-12 * np.diag(moments.xx)
    use = np.flatnonzero(np.isfinite(price) & varies)
    if power <= 0 or not use.size:
        return path
    spread = np.sqrt(np.diag(gram)[use])
    error = np.sqrt(power / max(moments.count, 1))
    unit = np.ascontiguousarray(gram[np.ix_(use, use)] / spread[:, None] / spread)
    moment = moment[use] / spread / error
    beta = compiled_descent()(unit, moment, price[use], penalties, concavity, TOLERANCE, SWEEPS)
    path[:, use] = beta / spread * error
    return path


def coordinate_descent(gram, moment, price, penalties, concavity, tolerance, sweeps):
    """Minimise ``beta @ gram @ beta / 2 - moment @ beta + penalty`` along falling penalties.

    ``gram`` (K, K) has a unit diagonal, so that each coordinate has a closed form: soft
    thresholding for the lasso (``concavity`` 0), firm thresholding for the minimax concave penalty,
    which leaves a coefficient alone beyond ``concavity`` times its threshold.
    """
    k = len(moment)
    path = np.zeros((len(penalties), k))
    beta = np.zeros(k)
    gradient = moment.copy()  # moment - gram @ beta
    order = np.arange(k)
    for s in range(len(penalties)):
        for sweep in range(sweeps):
            # every tenth sweep visits all coordinates, the others only those in use
            full = sweep % 10 == 0
            largest_change = 0.0
            if full:  # strongest first: the result must not depend on the order of columns
                order = np.argsort((penalties[s] * price) ** 2 - (gradient + beta) ** 2)
            for j in order:
                if not full and beta[j] == 0.0:
                    continue
                old, z = beta[j], gradient[j] + beta[j]
                threshold, size = penalties[s] * price[j], abs(z)
                if size <= threshold:
                    new = 0.0
                elif concavity > 0.0 and size > concavity * threshold:
                    new = z
                elif concavity > 0.0:
                    new = np.sign(z) * (size - threshold) / (1.0 - 1.0 / concavity)
                else:
                    new = np.sign(z) * (size - threshold)
                if new != old:
                    change = new - old
                    beta[j] = new
                    for m in range(k):
                        gradient[m] -= gram[j, m] * change
                    largest_change = max(largest_change, abs(change))
            if full and largest_change < tolerance:
                break
        path[s] = beta
    return path


@cache
def compiled_descent():
    """Return :func:`coordinate_descent` compiled by numba, which is imported here alone."""
    from numba import njit

    return njit(cache=True)(coordinate_descent)


def sparsest_of_the_best(agreement: np.ndarray, power: np.ndarray) -> int:
    """Return the largest penalty that is not clearly worse than the best on validation rows.

    Parameters
    ----------
    agreement, power : ndarray of shape (n, n_penalties)
        Forecast times target and forecast squared, by row. Each forecast is judged at its best
        common scale, which the mix sets later: shrinkage alone is no fault.
    """
    scale = np.maximum(agreement.sum(0), 0.0) / np.maximum(power.sum(0), TINY)
    saved = 2 * scale * agreement - scale**2 * power  # squared error saved, by row
    best = int(np.argmax(saved.sum(0)))
    lost = saved[:, [best]] - saved
    error = np.sqrt(((lost - lost.mean(0)) ** 2).sum(0))
    return int(np.argmax(lost.sum(0) <= LENIENCE * error))


def running_sum(values: np.ndarray, length: int) -> np.ndarray:
    """Add to each element of the last axis the ``length - 1`` before it.

    Examples
    --------
    >>> running_sum(np.array([1.0, 2.0, 3.0, 4.0]), 3)
    array([1., 3., 6., 9.])
    """
    total = np.cumsum(values, -1)
    total[..., length:] -= total[..., :-length].copy()
    return total


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

    Returns
    -------
    first, final : LinearMap
        Fitted on training rows, and on training and validation rows.
    """
    target = np.clip(target, -TARGET_CLIP * volatility, TARGET_CLIP * volatility)
    level = np.exp(np.log(volatility[train]).mean(0))
    market = np.exp(np.log(volatility / level).mean(1))[:, None]  # (n_rows, 1)
    tokens = index.where("return")
    centre = np.average(index.values(train, tokens), axis=0, weights=market[train, 0] ** -2.0)

    def solve(rows: np.ndarray, penalties: np.ndarray) -> list[np.ndarray]:
        x = (index.values(rows, tokens) - centre) / market[rows]
        y = np.nan_to_num(target[rows]) / market[rows]
        spread = x.std(0) + TINY**0.5
        x /= spread
        n, k = x.shape
        values, vectors = np.linalg.eigh(x.T @ x if k <= n else x @ x.T)
        inner = vectors.T @ (x.T @ y if k <= n else y)
        solved = [(vectors / (values + p * n)) @ inner for p in penalties]
        return [(b if k <= n else x.T @ b) / spread[:, None] for b in solved]

    def as_map(beta: np.ndarray) -> LinearMap:
        dense = np.zeros((beta.shape[1], len(index)))
        dense[:, tokens] = beta.T
        return LinearMap(csr_array(dense), -(centre @ beta))

    paths = solve(train, RIDGE_PENALTIES)
    y, seen = target[val] / volatility[val], index.values(val, tokens) - centre
    forecasts = [(seen @ beta) / volatility[val] for beta in paths]
    agreement = np.array([np.nansum(f * y) for f in forecasts])
    power = np.array([np.nansum(np.where(np.isfinite(y), f, 0.0) ** 2) for f in forecasts])
    best = int(np.argmax(np.maximum(agreement, 0.0) ** 2 / np.maximum(power, TINY)))
    both = np.concatenate([train, val])
    return as_map(paths[best]), as_map(solve(both, RIDGE_PENALTIES[best : best + 1])[0])
