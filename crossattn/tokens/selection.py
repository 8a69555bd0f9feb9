"""Choose which coefficients vary, and with what: the rounds behind ``VaryingPart``'s fit.

Rounds of four steps:

1. *screen* every (follower, token, context): how much of what is unexplained do its bins explain
   beyond a constant (a heteroscedasticity-robust chi-square)?
2. *regress* on what passed: one Gaussian prior per group of coefficients, its width by marginal
   likelihood (automatic relevance determination, MacKay 1992).
3. *share*: where one pattern over a context's bins explains most of what many tokens do, the
   pattern becomes a context with a single coefficient per token.
4. *follow*: tokens whose coefficients differ between blocks of time are tracked where the
   likelihood says so. Where one pattern of signs explains most of them, it is a regime instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from crossattn.tokens.memory import Memory
from crossattn.tokens.regime import Regime
from crossattn.tokens.tracking import drifting_tokens, fit_drift

if TYPE_CHECKING:
    from crossattn.tokens.varying import VaryingPart, View

ROUNDS = 5
# tokens that noise alone may bring in, per follower: as constants, and by each context
FALSE_CONSTANTS, FALSE_CONTEXTS = 0.33, 0.001
SHARED_Z = 3.0
CANDIDATES = 6  # per context, follower and round
DRIFT_Z, DRIFT_CANDIDATES = 2.0, 12
REGRESSION_STEPS = 25  # of the fixed point of prior variances and noise
PRODUCT_TOKENS = 240  # that may multiply one another
FACTOR_LIMIT = 4.0
SHARED_VARIATION, NOISE_MARGIN, FEWEST_SHARING = 0.5, 1.5, 4
CLOCK = ("hour", "weekday", "session")
DRIFT = ("spell", "time", "era")
SHARED = "shared "
REGIME = "regime"
BY_REGIME = ("state", SHARED + "state", REGIME)  # given up where a regime is found

Group = tuple  # (source, lag index, context name, or ("times", source, lag index))


class Selection:
    """The rounds of screening, regression, sharing and following, on the training rows."""

    def __init__(self, part: VaryingPart, view: View, rows: np.ndarray):
        self.part, self.view, self.rows = part, view, rows
        n_assets = view.target.shape[1]
        self.x = view.tokens[rows]
        self.inverse = view.inverse_noise[rows]
        self.residual = view.target[rows].copy()
        self.tracked = np.zeros_like(self.residual)  # by coefficients that are tracked
        self.tried: set[tuple] = set()  # (follower, *group)
        # tokens and what was left when last searched, by follower and kind of search
        self.searched: dict[tuple[int, str], tuple[list, np.ndarray]] = {}
        self.screened: dict[str, tuple[np.ndarray, np.ndarray | None, dict[str, np.ndarray]]] = {}
        part.groups = part.groups or [{} for _ in range(n_assets)]
        part.drifts = part.drifts or [None] * n_assets

    def run(self) -> None:
        """Fit what the part holds to these rows, then repeat all steps until nothing is added."""
        for i, drift in enumerate(self.part.drifts):
            if drift is not None:
                self._track(i, drift.tokens)
            self.regress(i, list(self.part.groups[i]))
        self._renew_regime(always=True)
        for _ in range(ROUNDS):
            weighted = (self.residual * self.inverse).astype(np.float32)
            scores = self.screen(weighted)
            new = [
                self._passed(i, {k: z[i] for k, z in scores.items() if k not in DRIFT})
                + self._passed_products(i, weighted[:, i])
                for i in range(len(self.part.groups))
            ]
            for i, groups in enumerate(new):
                if groups:
                    self.regress(i, [*self.part.groups[i], *groups])
            self.share()
            if not self.follow(scores) and not any(new):
                break
        for i, drift in enumerate(self.part.drifts):
            if drift is not None:
                self._track(i, drift.tokens)

    # ---- screen

    def screen(self, weighted: np.ndarray) -> dict[str, np.ndarray]:
        """Return by context how well it explains what is left, ``(follower, source, lag)``.

        ``weighted`` (n, n_assets) is what is left, times what it counts.
        """
        n_assets, n_lags = self.x.shape[1:]
        scores = {}
        for name in self.view.contexts:
            scores |= self._renewed_scores(name, weighted)
        scores = {k: z.reshape(n_assets, n_assets, n_lags) for k, z in scores.items()}
        for z in scores.values():
            z[np.arange(n_assets), np.arange(n_assets)] = 0.0  # a follower does not lead itself
        return scores

    def _renewed_scores(self, name: str, weighted: np.ndarray) -> dict[str, np.ndarray]:
        """Scores ``(n_assets, n_tokens)`` of a context, as before where no residual has changed."""
        pattern = self.part.patterns.get(name)
        before, old, scores = self.screened.get(name, (None, None, {}))
        if name == REGIME or before is None or not np.array_equal(pattern, old):
            scores = self._context_scores(name, weighted, pattern)
        elif (changed := (weighted != before).any(0)).any():
            for k, z in self._context_scores(name, weighted[:, changed], pattern).items():
                scores[k][changed] = z
        self.screened[name] = weighted, pattern, scores
        return scores

    def _context_scores(
        self, name: str, weighted: np.ndarray, pattern: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Normal scores ``(n_followers, n_tokens)`` of a context, and of its shared pattern.

        Within each bin, the sum of token times residual is compared with its robust variance.
        """
        bins, index = self.view.contexts[name]
        index = index[self.rows]
        x = self.x.reshape(len(self.x), -1)
        if name == REGIME:
            weighted, index = weighted * index[:, None], np.zeros(len(x), int)
        weighted2 = weighted**2
        # written in place: what is summed over bins is large
        chi, total, power, moment, spread, ratio = np.zeros(
            (6, weighted.shape[1], x.shape[1]), np.float32
        )
        used, sums = 0, 0.0
        for b in range(bins):
            here = index == b
            if not here.any():
                continue
            if index.ndim == 1:
                token, left, left2 = x[here], weighted[here], weighted2[here]
            else:
                token, left, left2 = x * here.reshape(len(x), -1), weighted, weighted2
            np.matmul(left.T, token, out=moment)
            np.matmul(left2.T, np.square(token, out=token), out=spread)
            spread += 1e-9
            used += 1
            total += moment
            power += spread
            if pattern is not None:
                p = pattern[b]
                sums = sums + np.stack([p * moment, p * spread, p**2 * spread])
            np.square(moment, out=ratio)
            ratio /= spread
            chi += ratio
        if bins == 1:
            return {name: np.abs(total) / np.sqrt(power)}
        # what a constant explains is left to the constant
        found = {name: normal_score(chi - total**2 / power, max(used - 1, 1))}
        if pattern is not None:
            mean = sums[1] / power
            error = np.sqrt(np.maximum(sums[2] - mean * sums[1], 0.0) + 1e-9)
            found[SHARED + name] = np.abs(sums[0] - mean * total) / error
        return found

    def _passed(self, i: int, scores: dict[str, np.ndarray]) -> list[Group]:
        have, drift = self.part.groups[i], self.part.drifts[i]
        used = {group[:2] for group in have}
        found = {}
        for name, z in scores.items():
            one_column = name.startswith((SHARED, REGIME))
            two_sided = name == "constant" or one_column
            allowed = FALSE_CONSTANTS if name == "constant" else FALSE_CONTEXTS
            needed = -ndtri(allowed / (1 + two_sided) / z.size)
            for place in _top(z, CANDIDATES):
                token = divmod(int(place), z.shape[1])
                if z[token] > needed:
                    found[*token, name] = z[token]
            if one_column:
                plain = name.removeprefix(SHARED)
                found |= {(*e, name): z[e] for e in used if z[e] > SHARED_Z or (*e, plain) in have}
        # hours lie within sessions: keep the strongest of the family
        for group in [g for g in found if g[2] in CLOCK]:
            if found[group] < max(found.get((*group[:2], c), 0.0) for c in CLOCK):
                del found[group]
        tracked = [] if drift is None else [(*token, "constant") for token in drift.tokens]
        barred = {*have, *tracked}
        return [g for g in found if g not in barred and (i, *g) not in self.tried]

    def _passed_products(self, i: int, weighted: np.ndarray) -> list[Group]:
        """Pairs of tokens whose product explains what is left of follower i."""
        n_rows, n_assets, n_lags = self.x.shape
        lags = min(n_lags, PRODUCT_TOKENS // n_assets)
        if not lags or not self._is_new(i, "products", [], weighted):
            return []
        x = np.clip(self.x[:, :, :lags], -FACTOR_LIMIT, FACTOR_LIMIT).reshape(n_rows, -1)
        w = weighted[:, None]
        z = np.abs((x * w).T @ x) / np.sqrt((x**2 * w**2).T @ x**2 + 1e-9)
        own = np.arange(n_assets * lags) // lags == i
        z[own], z[:, own] = 0.0, 0.0
        z = np.triu(z, 1)
        needed = -ndtri(FALSE_CONTEXTS / z.size)
        found = []
        for place in _top(z, 3):
            a, b = divmod(int(place), n_assets * lags)
            group = (*divmod(a, lags), ("times", *divmod(b, lags)))
            if z[a, b] > needed and (i, *group) not in self.tried:
                found.append(group)
        return found

    def _is_new(self, i: int, kind: str, tokens: list, left: np.ndarray) -> bool:
        """Tell whether tokens or what is left of a follower differ from what was last searched."""
        before = self.searched.get((i, kind))
        self.searched[i, kind] = tokens, left.copy()
        return before is None or before[0] != tokens or not np.array_equal(before[1], left)

    # ---- regress

    def regress(self, i: int, names: list[Group]) -> None:
        """Fit all groups of a follower together, and keep those that matter."""
        part, target = self.part, self.view.target[self.rows, i] - self.tracked[:, i]
        part.groups[i], self.residual[:, i] = {}, target
        if not names:
            return
        factors = [part._factor(self.view, *group)[self.rows] for group in names]
        columns = [
            (self.x[:, j, l] * self.inverse[:, i])[:, None] * factor
            for (j, l, _), factor in zip(names, factors, strict=True)
        ]
        sizes = [factor.shape[1] for factor in factors]
        design = np.concatenate(columns, 1).astype(np.float32)
        beta, _, kept = relevance_regression(design, sizes, target)
        parts = np.split(beta, np.cumsum(sizes)[:-1])
        part.groups[i] = {g: c for g, c, k in zip(names, parts, kept, strict=True) if k}
        self.tried |= {(i, *group) for group in names}
        used = np.repeat(kept, sizes)
        self.residual[:, i] = target - design[:, used] @ beta[used]

    # ---- share

    def share(self) -> None:
        """Look for patterns that tokens share over a context's bins; renew those there are."""
        part = self.part
        before = dict(part.patterns)
        for name in self.view.contexts:
            if name in ("constant", REGIME, *DRIFT):
                continue
            if (found := common_pattern(*self._coefficient_table(name))) is not None:
                part.patterns[name] = found[0]
        for i, groups in enumerate(part.groups):
            if any(context == SHARED + name for _, _, context in groups for name in before):
                self.regress(i, list(groups))
        self._renew_regime()

    def _coefficient_table(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (tokens in use, bins), unshrunk, and their precision."""
        bins, index = self.view.contexts[name]
        index = index[self.rows].astype(int)
        table, precision = [], []
        for i, groups in enumerate(self.part.groups):
            for j, l in sorted({g[:2] for g in groups if not isinstance(g[2], tuple)}):
                x = self.x[:, j, l] * self.inverse[:, i]
                at = index if index.ndim == 1 else index[:, j, l]
                fitted = groups.get((j, l, "constant"), 0.0) + groups.get((j, l, name), 0.0)
                if (j, l, SHARED + name) in groups:
                    fitted = fitted + groups[j, l, SHARED + name] * self.part.patterns[name]
                power = np.bincount(at, x**2, bins) + 1e-9
                table.append(fitted + np.bincount(at, x * self.residual[:, i], bins) / power)
                precision.append(power)
        return np.array(table).reshape(-1, bins), np.array(precision).reshape(-1, bins)

    # ---- follow

    def follow(self, scores: dict[str, np.ndarray]) -> bool:
        """Track tokens whose coefficients drift, or find the regime behind them."""
        moved = np.max([scores[name] for name in DRIFT], axis=0)
        added = False
        for i, z in enumerate(moved):
            have = [] if self.part.drifts[i] is None else self.part.drifts[i].tokens
            order = _top(z, DRIFT_CANDIDATES + len(have))
            found = [divmod(int(k), z.shape[1]) for k in order if z.flat[k] > DRIFT_Z]
            tokens = have + [token for token in found if token not in have]
            steady = self.residual[:, i] + self.tracked[:, i]
            if len(tokens) > len(have) and self._is_new(i, "drift", tokens, steady):
                chosen = drifting_tokens(self._columns(i, tokens), steady, len(have), z.size)
                if len(chosen) > len(have):
                    self._track(i, [tokens[k] for k in chosen])
                    added = True
        return self._find_regime() or added

    def _columns(self, i: int, tokens: list[tuple[int, int]]) -> np.ndarray:
        j, l = np.array(tokens).T
        return (self.x[:, j, l] * self.inverse[:, i, None]).astype(float)

    def _track(self, i: int, tokens: list[tuple[int, int]]) -> None:
        """Fit the filter of a follower's drifting tokens, which then need no constant."""
        part = self.part
        constants = [(*token, "constant") for token in tokens]
        x, left = self._columns(i, tokens), self.residual[:, i] + self.tracked[:, i]
        for k, group in enumerate(constants):
            left = left + x[:, k] * part.groups[i].pop(group, 0.0)
        drift = part.drifts[i] = fit_drift(x, left, tokens)
        self.tracked[:, i] = 0.0
        if drift is not None:
            x = self._columns(i, drift.tokens)
            self.tracked[:, i] = (x * drift.track(x, left, Memory(), "")).sum(1)
        self.regress(i, list(part.groups[i]))

    def _find_regime(self) -> bool:
        """Explain what drifts by one common sign, where one pattern in time dominates."""
        part, view, rows = self.part, self.view, self.rows
        moving = [
            {g[:2] for g in groups if g[2] in BY_REGIME} | set(drift.tokens if drift else ())
            for groups, drift in zip(part.groups, part.drifts, strict=True)
        ]
        tokens = [(i, *token) for i, found in enumerate(moving) for token in sorted(found)]
        if part.regime is not None or len(tokens) < FEWEST_SHARING:
            return False
        index = view.contexts["spell"][1][rows]
        index = index - index[0]
        table, precision = np.zeros((2, len(tokens), index[-1] + 1))
        for k, (i, *token) in enumerate(tokens):
            x = self._columns(i, [token])[:, 0]
            precision[k] = np.bincount(index, x**2) + 1e-9
            table[k] = np.bincount(index, x * view.target[rows, i]) / precision[k]
        if (found := common_pattern(table, precision)) is None:
            return False
        before = [list(part.groups), list(part.drifts), self.tracked.copy(), self.residual.copy()]
        self._set_regime(Regime.fit(view, rows, tokens, found[1]))
        self._use_regime(moving)
        if np.sum(self.residual**2) < np.sum(before[-1] ** 2):
            return True
        part.groups, part.drifts, self.tracked, self.residual = before
        self._set_regime(None)
        return False

    def _set_regime(self, regime: Regime | None) -> None:
        """Put a regime, or none, in place of the one there is, also among the contexts."""
        self.part.regime = regime
        self.view.contexts.pop(REGIME, None)
        if regime is not None:
            self.view.contexts[REGIME] = (1, regime.expected(self.view))

    def _use_regime(self, tokens: list[set[tuple[int, int]]]) -> None:
        """Regress on the expected state, for these tokens, in place of what stood for it."""
        part = self.part
        for i, chosen in enumerate(tokens):
            self.tried -= {(i, *g) for g in part.groups[i] if g[2] in BY_REGIME}
            part.drifts[i], self.tracked[:, i] = None, 0.0
            kept = [g for g in part.groups[i] if g[2] not in BY_REGIME]
            levels = [(*t, "constant") for t in chosen if (*t, "constant") not in kept]
            self.regress(i, kept + levels + [(*t, REGIME) for t in chosen])

    def _renew_regime(self, always: bool = False) -> None:
        """Estimate the regime again where tokens have joined or left it, or always."""
        part = self.part
        found = {
            (i, *group[:2]): float(beta[0])
            for i, groups in enumerate(part.groups)
            for group, beta in groups.items()
            if group[2] == REGIME
        }
        if part.regime is None or (set(found) == set(part.regime.tokens) and not always):
            return
        kept = len(found) >= FEWEST_SHARING
        direction = np.array(list(found.values()))
        self._set_regime(Regime.fit(self.view, self.rows, list(found), direction) if kept else None)
        for i, groups in enumerate(part.groups):
            self.regress(i, [group for group in groups if kept or group[2] != REGIME])


def common_pattern(
    table: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the first singular pattern of coefficients by token and bin, where it dominates.

    It must exceed by half what the largest singular value of noise alone would be, and hold half
    of what all patterns together exceed it by. ``table`` and ``precision`` (n_tokens, n_bins) are
    unshrunk coefficients and 1 / variance of their errors. The pattern (n_bins,) has mean square 1;
    beside it stands what each token has of it (n_tokens,), in standard errors.
    """
    n_tokens, bins = table.shape
    if n_tokens < FEWEST_SHARING:
        return None
    level = (table * precision).sum(1, keepdims=True) / precision.sum(1, keepdims=True)
    u, s, _ = np.linalg.svd((table - level) * np.sqrt(precision), full_matrices=False)
    noise = (np.sqrt(n_tokens) + np.sqrt(bins)) ** 2
    excess = np.maximum(s**2 - noise, 0.0)
    if s[0] ** 2 < NOISE_MARGIN * noise or excess[0] < SHARED_VARIATION * excess.sum():
        return None
    # in units of coefficients, levels included where a token has no constant of its own
    weight = (u[:, 0] * s[0] / np.sqrt(precision.mean(1)))[:, None]
    pattern = (weight * table * precision).sum(0) / ((weight**2 * precision).sum(0) + 1e-9)
    pattern *= np.sign(pattern.sum())
    return pattern / np.sqrt((pattern**2).mean()), u[:, 0] * np.sign(u[:, 0].sum())


def _top(values: np.ndarray, count: int) -> np.ndarray:
    """Return the flat places of the largest values, the largest first."""
    flat = values.ravel()
    count = min(count, flat.size)
    chosen = np.sort(np.argpartition(flat, flat.size - count)[flat.size - count :])
    return chosen[np.argsort(-flat[chosen], kind="stable")]


def normal_score(chi_square: np.ndarray, degrees: float) -> np.ndarray:
    """Turn a chi-square into a standard normal score (Wilson and Hilferty 1931)."""
    shift = 2.0 / (9.0 * degrees)
    return ((np.maximum(chi_square, 0.0) / degrees) ** (1 / 3) - (1.0 - shift)) / np.sqrt(shift)


def relevance_regression(
    x: np.ndarray, sizes: list[int], y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regression with one prior variance per group of columns, by marginal likelihood.

    ``sizes`` are the columns of each group, in order. Returns coefficients (K,), prior variances
    (n_groups,), and False for groups whose variance vanished. MacKay (1992), "Bayesian
    interpolation".
    """
    gram, moment = (x.T @ x).astype(float), (x.T @ y).astype(float)
    sizes = np.array(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    noise, width = y.var(), np.full(len(sizes), 0.01)
    beta = np.zeros(len(moment))
    for _ in range(REGRESSION_STEPS):
        covariance = np.linalg.inv(gram / noise + np.diag(1 / width[owner]))
        beta = covariance @ moment / noise
        free = sizes - np.bincount(owner, np.diag(covariance), len(sizes)) / width
        energy = np.bincount(owner, beta**2, len(sizes))
        width = np.clip(energy / np.maximum(free, 1e-6), 1e-8, 1.0)
        error = y @ y - 2 * beta @ moment + beta @ gram @ beta
        noise = max(1e-3, error / (len(y) - free.sum()))
    return beta, width, width > 1e-6
