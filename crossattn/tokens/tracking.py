r"""Kalman filter for regression coefficients that drift, with speed and size by likelihood.

.. math:: y_t = x_t \cdot \beta_t + \epsilon_t, \qquad \beta_{t+1} = \phi \beta_t + \eta_t

Every coefficient is a stationary autoregression around zero; with a half-life beyond the sample it
is a constant or a random walk. The likelihood of one-step forecasts decides which tokens drift at
all, and how fast, so that nothing is fitted to what came later.

References
----------
Kalman (1960), A new approach to linear filtering and prediction problems. Harvey (1989),
Forecasting, structural time series models and the Kalman filter.
"""

from dataclasses import dataclass

import numpy as np

from crossattn.runtime import compiled_if_worth
from crossattn.tokens.memory import Memory

# half-life in bars and variance of a coefficient: what candidates are tried with
TRIED = ((60, 0.02), (250, 0.01), (1000, 0.01), (1000, 0.003), (4000, 0.005))
ALWAYS = 1e9  # half-life of a coefficient that stays
FALSE_DRIFTS = 0.3  # tokens that noise alone may bring in, per follower
SHORTEST, LONGEST, LARGEST = 16.0, 32_768.0, 0.25
WORTH = 2.0  # log-likelihood that a token must add beside the others


@dataclass
class Drift:
    """Coefficients of one follower that drift, and the filter that tracks them."""

    tokens: list[tuple[int, int]]  #: (source, lag index)
    half_life: float  #: in bars
    variance: float  #: of a coefficient, over all time
    noise: float  #: variance of what they leave unexplained

    def track(self, x: np.ndarray, y: np.ndarray, memory: Memory, name: str) -> np.ndarray:
        """Return coefficients ``(n, K)`` known at each row: its own target comes later."""
        decay = 0.5 ** (1.0 / self.half_life)

        def step(state, *rows):
            path, _, state = kalman(state, *rows, decay, self.variance, self.noise)
            return path, state

        return memory.run(name, step, start_state(x.shape[1], self.variance), x, y)


def start_state(size: int, variance: float) -> np.ndarray:
    """Return coefficients of zero above their covariance, ``(1 + size, size)``."""
    return np.concatenate([np.zeros((1, size)), variance * np.eye(size)])


def kalman_loop(state, x, y, decay, variance, noise):
    """Return coefficients ``(n, K)`` before each row, the log-likelihood of y, and the last state.

    Rows of ``x`` (n, K) that are all zero carry no information. Compiled where rows are many, hence
    the loops.
    """
    n, k = x.shape
    path, pull = np.zeros((n, k)), np.zeros(k)
    beta, cov = state[0].copy(), state[1:].copy()
    fresh, likelihood = variance * (1.0 - decay**2), 0.0
    for t in range(n):
        spread, error = noise, y[t]
        for a in range(k):
            path[t, a] = beta[a]
            pull[a] = 0.0
            for b in range(k):
                pull[a] += cov[a, b] * x[t, b]
            spread += x[t, a] * pull[a]
            error -= x[t, a] * beta[a]
        likelihood -= 0.5 * (np.log(spread / noise) + error * error / spread)
        for a in range(k):
            beta[a] = decay * (beta[a] + pull[a] * error / spread)
            for b in range(k):
                cov[a, b] = decay**2 * (cov[a, b] - pull[a] * pull[b] / spread)
            cov[a, a] += fresh
    return path, likelihood, np.concatenate((beta.reshape(1, k), cov))


def kalman(state, x, y, decay, variance, noise):
    """Run :func:`kalman_loop`, compiled where that is worth importing the compiler."""
    loop = compiled_if_worth(kalman_loop, len(x))
    arrays = (np.ascontiguousarray(z, float) for z in (state, x, y))
    return loop(*arrays, float(decay), float(variance), float(noise))


def _filter(x, y, half_life, variance, noise) -> tuple[np.ndarray, float]:
    """Return path and log-likelihood from the start."""
    state = start_state(x.shape[1], variance)
    return kalman(state, x, y, 0.5 ** (1.0 / half_life), variance, noise)[:2]


def drifting_tokens(x: np.ndarray, y: np.ndarray, have: int, n_tokens: int) -> list[int]:
    """Return the columns whose coefficients drift: the first ``have``, and what is worth adding.

    Greedy: the candidate whose filter explains most of what the others leave comes next, as long
    as it does so clearly better than a constant would. They were picked from ``n_tokens``: a
    likelihood ratio of L has probability 1/L at most where nothing drifts.
    """
    noise = float(np.mean(y**2))
    needed = np.log(n_tokens / FALSE_DRIFTS)
    chosen, left = list(range(have)), y
    if have:
        left = y - (x[:, :have] * _filter(x[:, :have], y, *TRIED[2], noise)[0]).sum(1)
    waiting = list(range(have, x.shape[1]))
    while waiting:
        still = -0.5 * float(left @ left) / noise
        gains = []
        for k in waiting:
            z = x[:, [k]]
            steady = _filter(z, left, ALWAYS, TRIED[-1][1], noise)[1]
            moving = max(_filter(z, left, *tried, noise)[1] for tried in TRIED)
            gains.append(moving - max(steady, still))
        best = int(np.argmax(gains))
        if gains[best] < needed:
            break
        # what gained little will not gain more from fewer errors
        chosen.append(waiting[best])
        waiting = [k for k, g in zip(waiting, gains, strict=True) if k != chosen[-1] and g > 0]
        z = x[:, chosen]
        left = y - (z * _filter(z, y, *TRIED[2], noise)[0]).sum(1)
    return chosen


def fit_drift(x: np.ndarray, y: np.ndarray, tokens: list[tuple[int, int]]) -> Drift | None:
    """Choose half-life and variance of all columns together, and drop columns that add nothing."""
    noise = float(np.mean(y**2))

    def climb(z: np.ndarray, start: tuple[float, float]) -> tuple[float, tuple[float, float]]:
        best, at = _filter(z, y, *start, noise)[1], start
        for factor in (4.0, 2.0):
            improved = True
            while improved:
                improved = False
                for a, b in ((factor, 1), (1 / factor, 1), (1, factor), (1, 1 / factor)):
                    new = at[0] * a, at[1] * b
                    if SHORTEST <= new[0] <= LONGEST and new[1] <= LARGEST:
                        value = _filter(z, y, *new, noise)[1]
                        if value > best + 0.01:
                            best, at, improved = value, new, True
        return best, at

    kept = list(range(len(tokens)))
    best, at = climb(x, TRIED[2])
    while kept:
        without = [[m for m in kept if m != k] for k in kept]
        values = [_filter(x[:, rest], y, *at, noise)[1] for rest in without]
        worst = int(np.argmax(values))
        if values[worst] < best - WORTH:
            break
        kept = without[worst]
        best, at = climb(x[:, kept], at) if kept else (0.0, at)
    if not kept:
        return None
    return Drift([tokens[k] for k in kept], *at, noise)
