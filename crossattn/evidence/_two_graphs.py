"""Two lead-lag graphs in one history: a Markov-switching vector autoregression fitted by EM."""

from typing import Self

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit
from sklearn.cluster import KMeans

from crossattn._validation import check_array, check_float, check_int, check_same_names
from crossattn.errors import InvalidInputError
from crossattn.tokens.regime import filtered_odds, smoothed_odds

HALF_LIFE = 24.0  # bars, of the volatility that divides every return
RIDGE = 200.0  # prior precision of each coefficient, in observations
LEAST_NOISE = 1e-6  # of a variance near 1, for an asset that never moves


class TwoGraphDetector:
    """Learn two lead-lag graphs from unlabelled bars, and filter which one is active.

    A regime may change nothing but *who leads whom*. The likelihood of two fitted graphs still
    distinguishes them (a Markov-switching vector autoregression, fitted by EM).

    Parameters
    ----------
    max_lag : int
        Graphs have lags 1 to ``max_lag`` (bars).
    persistence : float
        Probability that a regime lasts one more bar: an assumption, not an estimate (see Notes).
    n_starts, n_iterations : int
        Starts, and steps of EM from each; the start with the best likelihood is kept. A start
        sorts blocks of bars into two groups by the graph that each block alone suggests; the
        blocks double from start to start.
    seed : int
        Seed of the starts.

    Notes
    -----
    With standardised returns :math:`z` the model is :math:`z_{t+1} = B_{s(t)} x_t + e`, where
    :math:`x_t` stacks the last ``max_lag`` rows and :math:`s` is a two-state Markov chain. EM uses
    smoothed probabilities, of the *training* bars only; :meth:`filter` uses the forward pass alone,
    so that its row t is known at t.

    The persistence is fixed: left to EM, heavy tails prefer a "regime" of scattered outliers.

    References
    ----------
    Hamilton, J. (1989), "A New Approach to the Economic Analysis of Nonstationary Time Series and
    the Business Cycle"; Krolzig, H.-M. (1997), "Markov-Switching Vector Autoregressions".

    Built in chapter: Regimes and walk-forward.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> returns = pd.DataFrame(rng.normal(0, 0.01, size=(600, 3)), columns=list("ABC"))
    >>> detector = TwoGraphDetector(max_lag=2, persistence=0.98).fit(returns)
    >>> detector.filter(returns).between(0, 1).all()
    np.True_
    """

    def __init__(
        self,
        max_lag: int = 6,
        *,
        persistence: float = 0.9975,
        n_starts: int = 2,
        n_iterations: int = 30,
        seed: int = 0,
    ):
        self.max_lag = check_int("max_lag", max_lag)
        self.persistence = check_float("persistence", persistence, at_least=0.5, below=1)
        self.n_starts = check_int("n_starts", n_starts)
        self.n_iterations = check_int("n_iterations", n_iterations)
        self.seed = check_int("seed", seed, at_least=0)

    def fit(self, returns: pd.DataFrame) -> Self:
        """Learn both graphs.

        Parameters
        ----------
        returns : DataFrame of shape (T, N)
            Log returns of the training bars, in time order; NaN counts as no move.

        Returns
        -------
        TwoGraphDetector
            This object; ``graphs_`` is the array (2, N, N, max_lag) of coefficients, follower by
            leader by lag, ``noise_`` the variance of each asset's standardised surprise.
        """
        returns = check_returns(returns)
        self.symbols_ = list(returns.columns)
        target, past = self._design(returns)
        if len(target) <= past.shape[1]:
            raise InvalidInputError(
                f"returns: {len(target)} usable rows cannot fit {past.shape[1]} lagged returns"
            )
        guesses = (self._first_guess(target, past, start) for start in range(self.n_starts))
        fits = [self._expectation_maximisation(target, past, guess) for guess in guesses]
        _, coefficients, self.noise_ = max(fits, key=lambda fit: fit[0])
        self._coefficients = coefficients  # (2, K, N)
        shape = (2, self.max_lag, len(self.symbols_), len(self.symbols_))
        self.graphs_ = coefficients.reshape(shape).transpose(0, 3, 2, 1)  # (2, N, N, L)
        return self

    def filter(self, returns: pd.DataFrame) -> pd.Series:
        """Return the probability that the second graph is active, as known at each row.

        Parameters
        ----------
        returns : DataFrame of shape (T, N)
            Log returns of the fitted symbols, in any order of columns.

        Returns
        -------
        Series of shape (T,)
            Row t uses returns up to t; 0.5 until ``max_lag`` rows are known.
        """
        if not hasattr(self, "graphs_"):
            raise InvalidInputError("TwoGraphDetector is not fitted: call fit first")
        returns = check_returns(returns)
        check_same_names("returns: symbols", returns.columns, self.symbols_)
        target, past = self._design(returns[self.symbols_])
        first, second = _log_likelihood(target, past, self._coefficients, self.noise_)
        probability = np.full(len(returns), 0.5)
        probability[self.max_lag :] = expit(self._odds_before(second - first) + second - first)
        return pd.Series(probability, index=returns.index, name="second_graph")

    def _design(self, returns: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Standardised returns (T - L, N) and the L rows before each of them (T - L, L * N)."""
        if len(returns) <= self.max_lag:
            raise InvalidInputError(
                f"returns: max_lag {self.max_lag} needs more rows, got {len(returns)}"
            )
        z = scale_by_volatility(returns, HALF_LIFE).fillna(0.0).to_numpy()
        rows = len(z) - self.max_lag
        past = [z[start : start + rows] for start in reversed(range(self.max_lag))]
        return z[self.max_lag :], np.hstack(past)  # newest first

    def _first_guess(self, target, past, start: int) -> np.ndarray:
        """Weights (T, 2): blocks of bars sorted into two groups by their own coefficients."""
        block = round(2.0 ** (start - 1) / (1 - self.persistence))
        n_blocks = max(2, len(target) // block)
        block_of = np.arange(len(target)) * n_blocks // len(target)
        blocks = [block_of == k for k in range(n_blocks)]
        graphs = [self._regress(target[rows], past[rows], 1.0).ravel() for rows in blocks]
        group = KMeans(2, n_init=10, random_state=self.seed % 2**32).fit_predict(np.stack(graphs))
        second = 0.1 + 0.8 * group[block_of]  # not 0 or 1: the first guess may be wrong
        return np.stack([1 - second, second], axis=1)

    def _expectation_maximisation(self, target, past, weight):
        for _ in range(self.n_iterations):
            coefficients = np.stack([self._regress(target, past, w) for w in weight.T])
            squares = (target - past @ coefficients) ** 2  # (2, T, N)
            noise = np.einsum("ts,stn->n", weight, squares) / len(target)
            noise = np.maximum(noise, LEAST_NOISE)
            first, second = _log_likelihood(target, past, coefficients, noise)
            chance, _ = smoothed_odds(second - first, *self._chain(len(target)))
            weight = np.stack([1 - chance, chance], axis=1)  # (T, 2), of the training bars only
        before = self._odds_before(second - first)
        likelihood = np.logaddexp(first + log_expit(-before), second + log_expit(before)).sum()
        return likelihood, coefficients, noise

    def _odds_before(self, evidence: np.ndarray) -> np.ndarray:
        """Log odds of the second graph given the rows before each one: Hamilton's filter."""
        return filtered_odds(0.0, evidence, *self._chain(len(evidence)))[0]

    def _chain(self, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """No other hint at any row, and the probability of staying in each state."""
        return np.zeros(n_rows), np.full(2, self.persistence)

    def _regress(self, target, past, weight) -> np.ndarray:
        weighted = (past.T * weight).T
        gram = weighted.T @ past + RIDGE * np.eye(past.shape[1])
        return np.linalg.solve(gram, weighted.T @ target)  # (K, N)


def check_returns(
    returns: pd.DataFrame, half_life: float = HALF_LIFE, at_least: int = 1
) -> pd.DataFrame:
    """Return the returns as floats, or refuse what is no table of numbers, finite or NaN."""
    if not isinstance(returns, pd.DataFrame) or returns.shape[1] < at_least or not len(returns):
        raise InvalidInputError(
            f"returns must be a DataFrame (time, asset) of at least {at_least} assets, "
            f"got {type(returns).__name__} of shape {np.shape(returns)}"
        )
    check_float("half_life", half_life, above=0)
    values = check_array("returns", returns, (None, None))
    if np.isinf(values).any():
        raise InvalidInputError("returns must be finite or NaN, got an infinite value")
    return pd.DataFrame(values, returns.index, returns.columns)


def scale_by_volatility(returns: pd.DataFrame, half_life: float) -> pd.DataFrame:
    """Divide returns by the volatility known one bar before, so that no volatile bar dominates."""
    variance = (returns**2).ewm(halflife=half_life, ignore_na=True).mean().shift(1)
    return (returns / np.sqrt(variance.where(variance > 0))).clip(-6, 6)


def _log_likelihood(target, past, coefficients, noise) -> np.ndarray:
    """Gaussian log density of each row under each graph, ``(2, T)``, up to a shared constant."""
    squares = (target - past @ coefficients) ** 2 / noise  # (2, T, N)
    return -0.5 * (squares.sum(axis=2) + np.log(noise).sum())
