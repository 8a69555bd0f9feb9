"""Gradient-boosted trees on lagged returns: the usual non-linear answer on tables.

Built in chapter: Honest comparison.
"""

from dataclasses import KW_ONLY, dataclass
from itertools import islice

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from crossattn._validation import check_float, check_int
from crossattn.baselines.base import Baseline
from crossattn.baselines.linear import CLIP, VOLATILITY_HALF_LIFE
from crossattn.windows.lagged import lagged_log_returns, recent_volatility
from crossattn.windows.splits import hold_out


@dataclass(eq=False, repr=False)
class BoostedTrees(Baseline):
    """Gradient-boosted trees, one ensemble per follower, on all assets' newest log returns.

    Parameters
    ----------
    max_lag : int
        As in :class:`.VAR`.
    n_trees : int
        At most; the number with the least validation error is used.
    learning_rate : float
    max_depth : int
    seed : int

    Notes
    -----
    Errors are divided by the follower's recent volatility and the target is cut at six of them, as
    in :class:`crossattn.baselines.linear.VAR`.

    References
    ----------
    Friedman (2001), "Greedy Function Approximation: A Gradient Boosting Machine".

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=400, seed=0)
    >>> data = prepare_cross_attention_data(market.frames, lookback=8, horizon=1)
    >>> train, val, test = data.split()
    >>> BoostedTrees(n_trees=5).fit(train, val).predict(test).shape == test.y.shape
    True
    """

    max_lag: int = 7
    _: KW_ONLY
    n_trees: int = 200
    learning_rate: float = 0.05
    max_depth: int = 4
    seed: int = 0

    def _fit(self, train, val):
        check_int("max_lag", self.max_lag, at_least=0)
        for name in ("n_trees", "max_depth"):
            check_int(name, getattr(self, name))
        check_float("learning_rate", self.learning_rate, above=0)
        check_int("seed", self.seed, at_least=0)
        if val is None:
            train, val = hold_out(train)
        fitted, chosen = self._scaled(train), self._scaled(val)
        self.trees_ = [
            self._ensemble(*_known(*fitted, i), *_known(*chosen, i))
            for i in range(len(self.symbols_))
        ]

    def _ensemble(self, x, y, x_val, y_val):
        """Return the fitted trees and how many of them are used; None where nothing is known."""
        if not len(y):
            return None, 0
        trees = HistGradientBoostingRegressor(
            learning_rate=self.learning_rate,
            max_iter=self.n_trees,
            max_depth=self.max_depth,
            early_stopping=False,
            random_state=self.seed % 2**32,  # the range of scikit-learn
        ).fit(x, y)
        if not len(y_val):
            return trees, self.n_trees
        errors = [np.square(y_val).sum()]
        errors += [np.square(y_val - f).sum() for f in trees.staged_predict(x_val)]
        return trees, int(np.argmin(errors))

    def _scaled(self, data) -> tuple[np.ndarray, np.ndarray]:
        x = self._regressors(data, slice(None))
        return x, np.clip(data.y / self._volatility(data), -CLIP, CLIP)

    def _regressors(self, data, order) -> np.ndarray:
        """Lagged returns of assets in some order, ``(n, N * L)``; chapter 14 adds columns."""
        return lagged_log_returns(data, self.max_lag + 1, order).reshape(len(data), -1)

    def _volatility(self, data) -> np.ndarray:
        recent = recent_volatility(data, slice(None), VOLATILITY_HALF_LIFE)
        return recent * np.sqrt(self.horizon_)

    def _predict(self, data):
        x = self._regressors(data, slice(None))
        return self._volatility(data) * np.stack([_first(*t, x) for t in self.trees_], axis=1)


def _known(x: np.ndarray, y: np.ndarray, follower: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.isfinite(y[:, follower])
    return x[rows], y[rows, follower]


def _first(trees, count: int, x: np.ndarray) -> np.ndarray:
    """Forecast with the first ``count`` trees of an ensemble; 0 with none."""
    return next(islice(trees.staged_predict(x), count - 1, None)) if count else np.zeros(len(x))
