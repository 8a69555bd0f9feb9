r"""Regression on lagged returns whose coefficients vary with the hour, the state, volume or time.

.. math:: p_i(t) = \sum_e b_e(\text{context of } t)\, r_e(t), \qquad e = (source, lag)

A context is a partition of the bars: by hour, weekday, both, market state, the token's own volume
or size, or blocks of time; or it is another token, whose value multiplies. Rounds of three steps:

1. *screen* every (follower, token, context): how much of what is unexplained do its bins explain
   beyond a constant (a heteroscedasticity-robust chi-square)?
2. *regress* on what passed: one Gaussian prior per group of coefficients, its width by marginal
   likelihood (automatic relevance determination, MacKay 1992).
3. *share*: where one pattern over a context's bins explains most of what many tokens do, the
   pattern becomes a context with a single coefficient per token.

Coefficients that vary with time are then tracked by ridge regression on an exponentially forgotten
past. In the words of attention: a query is the context, and each context has its own sparse map.

Built in chapter: The full model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from crossattn.tokens.channels import TokenSeries
from crossattn.tokens.memory import Memory
from crossattn.tokens.sparse import TARGET_CLIP

ROUNDS = 5
# tokens that noise alone may bring in, per follower: as constants, and by each context
FALSE_CONSTANTS, FALSE_CONTEXTS = 0.33, 0.001
SHARED_Z = 3.0
CANDIDATES = 6  # per context, follower and round
BINS, STATE_BINS, BLOCK, ERA = 10, 5, 400, 2000
PRODUCT_TOKENS = 240  # that may multiply one another
FACTOR_LIMIT = 4.0
SHARED_VARIATION, NOISE_MARGIN, FEWEST_SHARING = 0.5, 1.5, 4
HALF_LIVES = (60, 120, 250, 500, 1000, 2000)
MOOD_HALF_LIVES = (5, 10, 20, 40, 80, 160, 320, 640)
MOOD_PRIOR = 0.05
STATE_HALF_LIVES = (3.0, 24.0)
CLOCK = ("hour", "weekday", "session")
DRIFT = ("time", "era")
SHARED = "shared "

Group = tuple  # (source, lag index, context name, or ("times", source, lag index))


@dataclass
class Mood:
    """One common sign of tokens that drift together, estimated from how it has fared lately."""

    tokens: list[tuple[int, int, int]]  # follower, source, lag index
    weights: np.ndarray
    constants: np.ndarray
    solution: np.ndarray
    edges: np.ndarray


@dataclass
class View:
    """What the regressions read of a panel, in units of each asset's usual return.

    Attributes
    ----------
    tokens : ndarray of shape (n_rows, n_assets, n_lags), float32
    target, inverse_noise : ndarray of shape (n_rows, n_assets)
        Next return in volatilities, and 1/volatility; 0 where the target is unknown.
    noise : ndarray of shape (n_rows, n_assets)
    state : ndarray of shape (n_rows, 3)
    contexts : dict of str to (int, ndarray)
        Number of bins, and the bin of every row, (n_rows,), or of every token, (n_rows, N, L).
    """

    tokens: np.ndarray
    target: np.ndarray
    inverse_noise: np.ndarray
    noise: np.ndarray
    state: np.ndarray
    contexts: dict[str, tuple[int, np.ndarray]]
    memory: Memory


@dataclass
class VaryingPart:
    """Fit, track and read the varying coefficients of every follower.

    Attributes
    ----------
    groups : list of dict
        By follower: coefficients ``(K,)`` of each (source, lag index, context), 0 the newest bar.
    widths : dict
        Prior variance by (follower, source, lag index, context).
    patterns : dict of str to ndarray of shape (n_bins,)
        What tokens share over the bins of a context.
    speeds : ndarray of shape (6,)
        Weights of the half-lives at which drifting coefficients are tracked.
    """

    n_lags: int
    scale: np.ndarray = field(default_factory=lambda: np.ones(0))
    state_mean: np.ndarray = field(default_factory=lambda: np.zeros(3))
    state_spread: np.ndarray = field(default_factory=lambda: np.ones(3))
    edges: dict[str, np.ndarray] = field(default_factory=dict)
    groups: list[dict[Group, np.ndarray]] = field(default_factory=list)
    widths: dict[tuple, float] = field(default_factory=dict)
    patterns: dict[str, np.ndarray] = field(default_factory=dict)
    mood: Mood | None = None
    speeds: np.ndarray = field(default_factory=lambda: np.zeros(len(HALF_LIVES)))

    def fit(self, series: TokenSeries, rows: np.ndarray) -> VaryingPart:
        """Fit on next-bar returns after the given rows."""
        n_assets = series.volatility.shape[1]
        power = np.square(series.returns[rows, :n_assets]).mean(0)
        self.scale = np.sqrt(np.where(power > 0, power, 1.0))
        self._fit_contexts(series, rows)
        fit = _Fit(self, self.view(series), rows)
        fit.run()
        return self

    def forecast(self, series: TokenSeries, rows: np.ndarray) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` of the next bar's return."""
        view = self.view(series)
        out = np.stack([self._steady(view, i) for i in range(len(self.groups))], 1)
        for i in self._followers_that_drift():
            out[:, i] += self.speeds @ self._tracked(view, i)
        return out[rows] * self.scale

    def coefficients(self, view: View, rows: np.ndarray) -> np.ndarray:
        """Return coefficients of raw returns ``(n, n_assets, n_assets, n_lags)``, newest first.

        Times the returns they sum to the forecast; a product counts for its first token.
        """
        n_assets = len(self.groups)
        out = np.zeros((len(rows), n_assets, n_assets, self.n_lags))
        for i, groups in enumerate(self.groups):
            drifting = self._drifting(i)
            for (j, l, context), beta in groups.items():
                if not _is_tracked(context, (j, l), drifting):
                    out[:, i, j, l] += self._factor(view, j, l, context)[rows] @ beta
            if drifting:
                for half_life, weight in zip(HALF_LIVES, self.speeds, strict=True):
                    if weight:
                        path = self._track(view, i, half_life)[rows]
                        for k, (j, l) in enumerate(drifting):
                            out[:, i, j, l] += weight * path[:, k]
        return out * self.scale[:, None, None] / self.scale[:, None]

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
            self.edges[name] = quantile_edges(values[rows], bins)

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
            noise,
            state,
            contexts,
            series.memory,
        )
        if self.mood is not None:
            contexts["mood"] = (BINS, self._mood_bins(view))
        return view

    def _mood_features(
        self, view: View, tokens, weights: np.ndarray, constants: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Past success of a common pattern of coefficients at several half-lives, and the state."""
        pull, level = np.zeros((2, *view.target.shape))
        for (i, j, l), weight, constant in zip(tokens, weights, constants, strict=True):
            pull[:, i] += weight * view.tokens[:, j, l]
            level[:, i] += constant * view.tokens[:, j, l]
        pull, level = pull * view.inverse_noise, level * view.inverse_noise
        agreed, size = (pull * (view.target - level)).sum(1), (pull**2).sum(1)
        sums = [
            [view.memory.past(f"mood {h}: {k}", x, h) for k, x in enumerate((agreed, size))]
            for h in MOOD_HALF_LIVES
        ]
        features = [a / (s + 1 / MOOD_PRIOR) for a, s in sums]
        bins, index = view.contexts["state"]
        features += [index == b for b in range(bins)] + list(view.state.T)
        return np.stack(features, 1).astype(float), agreed, size

    def _mood_score(self, view: View) -> np.ndarray:
        mood = self.mood
        features, _, _ = self._mood_features(view, mood.tokens, mood.weights, mood.constants)
        return features @ mood.solution

    def _mood_bins(self, view: View) -> np.ndarray:
        return np.searchsorted(self.mood.edges, self._mood_score(view))

    # ---- reading

    def _factor(self, view: View, j: int, l: int, context) -> np.ndarray:
        """Return ``(n_rows, K)``: what multiplies a group's coefficients beside the token."""
        if isinstance(context, tuple):
            return np.clip(
                view.tokens[:, context[1], context[2], None], -FACTOR_LIMIT, FACTOR_LIMIT
            )
        name = context.removeprefix(SHARED)
        bins, index = view.contexts[name]
        index = index if index.ndim == 1 else index[:, j, l]
        if name != context:
            return self.patterns[name][index][:, None]
        return (index[:, None] == np.arange(bins)).astype(np.float32)

    def _drifting(self, follower: int) -> list[tuple[int, int]]:
        return sorted({(j, l) for j, l, context in self.groups[follower] if context in DRIFT})

    def _followers_that_drift(self) -> list[int]:
        return [i for i in range(len(self.groups)) if self._drifting(i)]

    def _steady(self, view: View, follower: int) -> np.ndarray:
        """Return the forecast ``(n_rows,)`` of the coefficients that do not drift."""
        drifting = self._drifting(follower)
        out = np.zeros(len(view.tokens))
        for (j, l, context), beta in self.groups[follower].items():
            if not _is_tracked(context, (j, l), drifting):
                out += view.tokens[:, j, l] * (self._factor(view, j, l, context) @ beta)
        return out

    def _left(self, view: View, follower: int) -> np.ndarray:
        steady = self._steady(view, follower) * view.inverse_noise[:, follower]
        return view.target[:, follower] - steady

    def _track(self, view: View, follower: int, half_life: int) -> np.ndarray:
        """Return drifting coefficients ``(n_rows, d)`` known at each row.

        Ridge on the exponentially forgotten past: row t's own target, which comes later, is out.
        """
        tokens = self._drifting(follower)
        z = np.stack([view.tokens[:, j, l] for j, l in tokens], 1)
        z = z * view.inverse_noise[:, follower, None]
        width = [
            max(self.widths[follower, j, l, c] for c in DRIFT if (j, l, c) in self.groups[follower])
            for j, l in tokens
        ]
        name, left = f"track {follower} {half_life}", self._left(view, follower)[:, None]
        gram = view.memory.past(f"{name}: gram", z[:, :, None] * z[:, None, :], half_life)
        moment = view.memory.past(f"{name}: moment", z * left, half_life)
        gram = gram + np.diag(1 / np.array(width))
        return np.linalg.solve(gram, moment[..., None])[..., 0]

    def _tracked(self, view: View, follower: int) -> np.ndarray:
        """Return forecasts ``(n_half_lives, n_rows)`` of the drifting coefficients."""
        x = np.stack([view.tokens[:, j, l] for j, l in self._drifting(follower)], 1)
        return np.stack([(x * self._track(view, follower, h)).sum(1) for h in HALF_LIVES])


class _Fit:
    """The rounds of screening, regression and sharing, on the training rows of one panel."""

    def __init__(self, part: VaryingPart, view: View, rows: np.ndarray):
        self.part, self.view, self.rows = part, view, rows
        n_assets = view.target.shape[1]
        self.refined = False
        self.x = view.tokens[rows]
        self.inverse = view.inverse_noise[rows]
        self.residual = view.target[rows].copy()
        part.groups = [{} for _ in range(n_assets)]
        part.widths, part.patterns = {}, {}

    def run(self) -> None:
        for _ in range(ROUNDS):
            new = self.screen()
            if not any(new):
                break
            for i, groups in enumerate(new):
                if groups:
                    self.regress(i, [*self.part.groups[i], *groups])
            self.share()
        self.choose_speeds()

    # ---- screen

    def screen(self) -> list[list[Group]]:
        """Return, per follower, the groups that explain what is left."""
        n_assets, n_lags = self.x.shape[1:]
        weighted = (self.residual * self.inverse).astype(np.float32)
        scores = {}
        for name in self.view.contexts:
            scores |= self._context_scores(name, weighted)
        scores = {k: z.T.reshape(n_assets, n_assets, n_lags) for k, z in scores.items()}
        return [
            self._passed(i, {k: z[i] for k, z in scores.items()})
            + self._passed_products(i, weighted[:, i])
            for i in range(n_assets)
        ]

    def _context_scores(self, name: str, weighted: np.ndarray) -> dict[str, np.ndarray]:
        """Normal scores ``(n_tokens, n_assets)`` of a context, and of its shared pattern.

        Within each bin, the sum of token times residual is compared with its robust variance.
        """
        bins, index = self.view.contexts[name]
        index = index[self.rows]
        x = self.x.reshape(len(self.x), -1)
        squares, weighted2 = x**2, weighted**2
        pattern = self.part.patterns.get(name)
        chi = total = power = used = 0.0
        sums = 0.0
        for b in range(bins):
            here = index == b
            if not here.any():
                continue
            if index.ndim == 1:
                moment = x[here].T @ weighted[here]
                spread = squares[here].T @ weighted2[here]
            else:
                here = here.reshape(len(x), -1)
                moment, spread = (x * here).T @ weighted, (squares * here).T @ weighted2
            spread = spread + 1e-9
            chi, total, power, used = (
                chi + moment**2 / spread,
                total + moment,
                power + spread,
                used + 1,
            )
            if pattern is not None:
                p = pattern[b]
                sums = sums + np.stack([p * moment, p * spread, p**2 * spread])
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
        have = self.part.groups[i]
        used = {group[:2] for group in have}
        found = {}
        for name, z in scores.items():
            z[i] = 0.0  # a follower does not lead itself
            two_sided = name == "constant" or name.startswith(SHARED)
            allowed = FALSE_CONSTANTS if name == "constant" else FALSE_CONTEXTS
            needed = -ndtri(allowed / (1 + two_sided) / z.size)
            for place in np.argsort(z, axis=None)[::-1][:CANDIDATES]:
                token = divmod(int(place), z.shape[1])
                if z[token] > needed:
                    found[*token, name] = z[token]
            if name.startswith(SHARED):
                plain = name.removeprefix(SHARED)
                found |= {(*e, name): z[e] for e in used if z[e] > SHARED_Z or (*e, plain) in have}
        # hours lie within sessions, and blocks within eras: keep the strongest of each family
        for family in (CLOCK, DRIFT):
            for group in [g for g in found if g[2] in family]:
                rivals = [found[*group[:2], c] for c in family if (*group[:2], c) in found]
                if found[group] < max(rivals):
                    del found[group]
        return [g for g in found if g not in have and (i, *g) not in self.part.widths]

    def _passed_products(self, i: int, weighted: np.ndarray) -> list[Group]:
        """Pairs of tokens whose product explains what is left of follower i."""
        n_rows, n_assets, n_lags = self.x.shape
        lags = min(n_lags, PRODUCT_TOKENS // n_assets)
        if not lags:
            return []
        x = np.clip(self.x[:, :, :lags], -FACTOR_LIMIT, FACTOR_LIMIT).reshape(n_rows, -1)
        w = weighted[:, None]
        z = np.abs((x * w).T @ x) / np.sqrt((x**2 * w**2).T @ x**2 + 1e-9)
        own = np.arange(n_assets * lags) // lags == i
        z[own], z[:, own] = 0.0, 0.0
        z = np.triu(z, 1)
        needed = -ndtri(FALSE_CONTEXTS / z.size)
        found = []
        for place in np.argsort(-z, axis=None)[:3] if z.size <= 10_000 else _top(z, 3):
            a, b = divmod(int(place), n_assets * lags)
            group = (*divmod(a, lags), ("times", *divmod(b, lags)))
            if z[a, b] > needed and (i, *group) not in self.part.widths:
                found.append(group)
        return found

    # ---- regress

    def regress(self, i: int, names: list[Group]) -> None:
        part, target = self.part, self.view.target[self.rows, i]
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
        beta, width, kept = relevance_regression(design, sizes, target)
        parts = np.split(beta, np.cumsum(sizes)[:-1])
        part.groups[i] = {g: c for g, c, k in zip(names, parts, kept, strict=True) if k}
        part.widths |= {(i, *g): float(t) for g, t in zip(names, width, strict=True)}
        used = np.repeat(kept, sizes)
        self.residual[:, i] = target - design[:, used] @ beta[used]

    # ---- share

    def share(self) -> None:
        part = self.part
        before = dict(part.patterns)
        for name in list(self.view.contexts):
            if name == "mood" and not self.refined and self._refine_mood():
                continue
            if name in ("constant", "era") or (name == "time" and part.mood is not None):
                continue
            found = self._common_pattern(name)
            if found is None:
                continue
            tokens, pattern, weights = found
            if name == "time":
                self._add_mood(tokens, weights)
            else:
                part.patterns[name] = pattern
        for i, groups in enumerate(part.groups):
            if any(context == SHARED + name for _, _, context in groups for name in before):
                self.regress(i, list(groups))

    def _common_pattern(self, name: str) -> tuple[list, np.ndarray, np.ndarray] | None:
        """Return the first singular pattern of a context's coefficients, where it dominates.

        It must explain half of the variation beyond noise, and exceed by half what the largest
        singular value of noise alone would be.
        """
        bins = self.view.contexts[name][0]
        tokens, table, precision = self._coefficient_table(name)
        if len(tokens) < FEWEST_SHARING:
            return None
        level = (table * precision).sum(1, keepdims=True) / precision.sum(1, keepdims=True)
        u, s, _ = np.linalg.svd((table - level) * np.sqrt(precision), full_matrices=False)
        noise = (np.sqrt(len(tokens)) + np.sqrt(bins)) ** 2
        variation = max((s**2).sum() - len(tokens) * (bins - 1), 1e-9)
        if s[0] ** 2 < NOISE_MARGIN * noise or (s[0] ** 2 - noise) / variation < SHARED_VARIATION:
            return None
        # in units of coefficients, levels included where a token has no constant of its own
        weight = (u[:, 0] * s[0] / np.sqrt(precision.mean(1)))[:, None]
        pattern = (weight * table * precision).sum(0) / ((weight**2 * precision).sum(0) + 1e-9)
        pattern *= np.sign(pattern.sum())
        direction = u[:, 0] * np.sign(u[:, 0].sum())
        return tokens, pattern / np.sqrt((pattern**2).mean()), direction

    def _coefficient_table(self, name: str) -> tuple[list, np.ndarray, np.ndarray]:
        """Coefficients (tokens in use, bins), unshrunk, and their precision."""
        bins, index = self.view.contexts[name]
        index = index[self.rows].astype(int)
        tokens, table, precision = [], [], []
        for i, groups in enumerate(self.part.groups):
            for j, l in sorted({g[:2] for g in groups if not isinstance(g[2], tuple)}):
                x = self.x[:, j, l] * self.inverse[:, i]
                at = index if index.ndim == 1 else index[:, j, l]
                fitted = groups.get((j, l, "constant"), 0.0) + groups.get((j, l, name), 0.0)
                if (j, l, SHARED + name) in groups:
                    fitted = fitted + groups[j, l, SHARED + name] * self.part.patterns[name]
                power = np.bincount(at, x**2, bins) + 1e-9
                tokens.append((i, j, l))
                table.append(fitted + np.bincount(at, x * self.residual[:, i], bins) / power)
                precision.append(power)
        return tokens, np.array(table).reshape(-1, bins), np.array(precision).reshape(-1, bins)

    def _refine_mood(self) -> bool:
        """Estimate the common sign once more, from the coefficients that the first one taught."""
        found = [
            ((i, j, l), beta[0])
            for i, groups in enumerate(self.part.groups)
            for (j, l, context), beta in groups.items()
            if context == SHARED + "mood"
        ]
        if len(found) < FEWEST_SHARING:
            return False
        self.refined = True
        self.part.patterns.pop("mood")
        self._add_mood([token for token, _ in found], np.array([w for _, w in found]))
        return True

    def _add_mood(self, tokens: list, weights: np.ndarray) -> None:
        """Make the common sign of tokens that drift together a context, by its recent success."""
        part, rows = self.part, self.rows
        constants = np.array(
            [float(np.sum(part.groups[i].get((j, l, "constant"), 0.0))) for i, j, l in tokens]
        )
        features, agreed, size = part._mood_features(self.view, tokens, weights, constants)
        seen = features[rows]
        gram = (seen * size[rows, None]).T @ seen + np.eye(seen.shape[1]) / MOOD_PRIOR
        solution = np.linalg.solve(gram, seen.T @ agreed[rows])
        score = features @ solution
        part.mood = Mood(tokens, weights, constants, solution, quantile_edges(score[rows], BINS))
        self.view.contexts["mood"] = (BINS, np.searchsorted(part.mood.edges, score))
        replaced = (*DRIFT, "state", SHARED + "state", "mood", SHARED + "mood")
        for i, groups in enumerate(part.groups):
            # time and state may come back for what is left
            for group in [g for g in groups if g[2] in replaced]:
                part.widths.pop((i, *group), None)
            kept = [g for g in groups if g[2] not in replaced]
            self.regress(i, kept + [(j, l, "mood") for k, j, l in tokens if k == i])

    # ---- drift

    def choose_speeds(self) -> None:
        """Weigh the half-lives of tracking by how well each forecast the training rows."""
        from scipy.optimize import nnls  # a second of imports that no forecast needs

        part, view, rows = self.part, self.view, self.rows
        drifting = part._followers_that_drift()
        if drifting:
            told = [part._tracked(view, i)[:, rows] * self.inverse[:, i] for i in drifting]
            left = [part._left(view, i)[rows] for i in drifting]
            part.speeds = nnls(np.concatenate(told, 1).T, np.concatenate(left))[0]


def _is_tracked(context, token: tuple[int, int], drifting: list[tuple[int, int]]) -> bool:
    return context in DRIFT or (context == "constant" and token in drifting)


def _top(values: np.ndarray, count: int) -> np.ndarray:
    return np.argpartition(-values, count, axis=None)[:count]


def lagged(values: np.ndarray, n_lags: int) -> np.ndarray:
    """Return ``(n_rows, N, n_lags)`` with ``[t, j, l] = values[t - l, j]``, 0 before the start."""
    out = np.zeros((*values.shape, n_lags), values.dtype)
    for l in range(n_lags):
        out[l:, :, l] = values[: len(values) - l]
    return out


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the inner edges of bins that hold equally many values."""
    return np.quantile(values, np.arange(1, bins) / bins)


def normal_score(chi_square: np.ndarray, degrees: float) -> np.ndarray:
    """Turn a chi-square into a standard normal score (Wilson and Hilferty 1931)."""
    shift = 2.0 / (9.0 * degrees)
    return ((np.maximum(chi_square, 0.0) / degrees) ** (1 / 3) - (1.0 - shift)) / np.sqrt(shift)


def relevance_regression(
    x: np.ndarray, sizes: list[int], y: np.ndarray, steps: int = 25
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regression with one prior variance per group of columns, by marginal likelihood.

    Parameters
    ----------
    x : ndarray of shape (n, K)
    sizes : list of int
        Columns of each group, in order.
    y : ndarray of shape (n,)

    Returns
    -------
    beta : ndarray of shape (K,)
    width : ndarray of shape (n_groups,)
        Prior variances.
    kept : ndarray of bool, shape (n_groups,)
        False where a group's variance vanished.

    References
    ----------
    MacKay (1992), Bayesian interpolation.
    """
    gram, moment = (x.T @ x).astype(float), (x.T @ y).astype(float)
    sizes = np.array(sizes)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    noise, width = y.var(), np.full(len(sizes), 0.01)
    beta = np.zeros(len(moment))
    for _ in range(steps):
        covariance = np.linalg.inv(gram / noise + np.diag(1 / width[owner]))
        beta = covariance @ moment / noise
        free = sizes - np.bincount(owner, np.diag(covariance), len(sizes)) / width
        energy = np.bincount(owner, beta**2, len(sizes))
        width = np.clip(energy / np.maximum(free, 1e-6), 1e-8, 1.0)
        error = y @ y - 2 * beta @ moment + beta @ gram @ beta
        noise = max(1e-3, error / (len(y) - free.sum()))
    return beta, width, width > 1e-6
