"""Vector autoregressions on lagged log returns: the linear answer to "who leads whom".

With ``penalty="lasso"`` and ``volatility_weights=True`` this is the strongest linear baseline.

Built in chapter: Honest comparison.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.linear_model import lasso_path

from crossattn._validation import check_bool, check_choice, check_int
from crossattn.baselines.base import Baseline
from crossattn.windows.lagged import lagged_log_returns, recent_volatility
from crossattn.windows.splits import hold_out

PENALTIES = ("none", "ridge", "lasso")
CLIP = 6.0
VOLATILITY_HALF_LIFE = 12.0
RIDGE_GRID = np.logspace(2, -4, 25)  # penalty over number of rows, regressors of unit variance
LASSO_GRID = np.logspace(0, -2.5, 26)  # penalty over the smallest that leaves nothing


@dataclass(eq=False, repr=False)
class VAR(Baseline):
    """Vector autoregression (VAR): regress each asset's target on all assets' lagged log returns.

    Parameters
    ----------
    max_lag : int
        Regressors are the returns 0 to ``max_lag`` bars before the window's last bar.
    penalty : {"none", "ridge", "lasso"}
        Shrinkage, on regressors scaled to unit variance. Its strength, one for all followers, is
        the one with the least validation error.
    volatility_weights : bool
        Divide target and regressors by the follower's volatility, known at the window's last bar
        (exponentially weighted, half-life 12 bars), and clip the target there at ±6.
    own_lags : bool
        Let an asset's own past into its equation.

    Attributes
    ----------
    coefficient_ : ndarray of shape (n_assets, n_assets, max_lag + 1)
        ``[i, j, k]``: change of asset i's target for one unit of asset j's log return k bars
        before the window's last bar, which is reported as lag k + 1.
    intercept_ : ndarray of shape (n_assets,)
    strength_ : float
        The chosen penalty: for the lasso as a fraction of the smallest that leaves nothing, for
        the ridge over the number of rows, 0 for "none".

    Notes
    -----
    Missing returns enter as 0; rows without a target are skipped, follower by follower. One Gram
    matrix a follower, (N L)² numbers, makes a path of penalties cost little more than one fit.

    References
    ----------
    Sims (1980), "Macroeconomics and Reality", Econometrica 48(1). Tibshirani (1996), "Regression
    Shrinkage and Selection via the Lasso", JRSS B 58(1).

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=3000, predictability=0.1, seed=0)
    >>> data = prepare_cross_attention_data(
    ...     market.frames, lookback=8, horizon=1, features=["log_return"]
    ... )
    >>> train, val, test = data.split()
    >>> model = VAR(penalty="lasso", volatility_weights=True).fit(train, val)
    >>> model.coefficient_.shape, model.predict(test).shape[1]
    ((3, 3, 8), 3)
    """

    max_lag: int = 7
    _: KW_ONLY
    penalty: str = "none"
    volatility_weights: bool = False
    own_lags: bool = True

    def contributions(self, data) -> np.ndarray:
        """Split each forecast into what every source and lag adds to it.

        Parameters
        ----------
        data : CrossAttentionData
            Windows of the fitted symbols, in any order.

        Returns
        -------
        ndarray of shape (n, n_assets, n_assets, max_lag + 1)
            ``[k, i, j, l]``: coefficient times source j's return, in units of the target; the sum
            over sources and lags plus the intercept is the forecast of follower i.
        """
        lags = lagged_log_returns(self._as_fitted(data), self.max_lag + 1)
        place = self._places(data)
        return (self.coefficient_ * lags[:, None])[:, place][:, :, place]

    def _fit(self, train, val):
        check_choice("penalty", self.penalty, PENALTIES)
        check_int("max_lag", self.max_lag, at_least=0)
        for name in ("volatility_weights", "own_lags"):
            check_bool(name, getattr(self, name))
        if val is None and self.penalty != "none":
            train, val = hold_out(train)
        problems = [_LeastSquares(*rows) for rows in self._rows(train)]
        grid = {"none": np.zeros(1), "ridge": RIDGE_GRID, "lasso": LASSO_GRID}[self.penalty]
        if self.penalty == "lasso":
            largest = max(p.largest_penalty for p in problems)
            paths = [_lasso_path(p, grid * largest) for p in problems]
        else:
            paths = [_ridge_path(p, grid) for p in problems]
        best = 0
        if self.penalty != "none":
            best = int(np.argmin(self._validation_errors(problems, paths, val)))
        self.strength_ = float(grid[best])
        shape = (len(problems), self.max_lag + 1)
        found = [p.unscale(path[best], shape) for p, path in zip(problems, paths, strict=True)]
        self.coefficient_, self.intercept_ = (np.array(each) for each in zip(*found, strict=True))

    def _predict(self, data):
        lags = lagged_log_returns(data, self.max_lag + 1)
        return np.einsum("kjl,ijl->ki", lags, self.coefficient_) + self.intercept_

    def _rows(self, data) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Iterate over regressors, target and volatility of each follower, where it is known."""
        lags = lagged_log_returns(data, self.max_lag + 1)
        targets, scales = np.asarray(data.y, float), np.ones(data.y.shape)
        if self.volatility_weights:
            scales = recent_volatility(data, slice(None), VOLATILITY_HALF_LIFE)
            limit = CLIP * np.sqrt(self.horizon_) * scales
            targets = np.clip(targets, -limit, limit)
        for i, (target, scale) in enumerate(zip(targets.T, scales.T, strict=True)):
            known = np.isfinite(target)
            seen = lags[known]
            if not self.own_lags:
                seen[:, i] = 0.0
            yield seen.reshape(len(seen), lags[0].size), target[known], scale[known]

    def _validation_errors(self, problems, paths, val) -> np.ndarray:
        total = 0.0
        for problem, path, rows in zip(problems, paths, self._rows(val), strict=True):
            regressors, target, scale = rows
            fitted = (regressors - problem.centre) / problem.spread @ path.T + problem.level
            errors = ((target[:, None] - fitted) / scale[:, None]) ** 2  # (n, penalties)
            total = total + errors.sum(axis=0) / max(problem.target_variance, 1e-300)
        return total


class _LeastSquares:
    """One follower's weighted least squares: regressors centred and scaled, as a Gram matrix."""

    def __init__(self, regressors: np.ndarray, target: np.ndarray, scale: np.ndarray) -> None:
        if not len(target):
            regressors, target, scale = np.zeros((1, regressors.shape[1])), np.zeros(1), np.ones(1)
        share = scale**-2 / (scale**-2).sum()
        self.centre = share @ regressors
        self.level = float(share @ target)
        centred = (regressors - self.centre) / scale[:, None]
        spread = np.sqrt((centred**2).mean(axis=0))
        self.varies = spread > 0
        self.spread = np.where(self.varies, spread, 1.0)
        self.regressors = centred / self.spread
        self.target = (target - self.level) / scale
        self.target_variance = float((self.target**2).mean())
        self.gram = self.regressors.T @ self.regressors
        self.moment = self.regressors.T @ self.target

    @property
    def largest_penalty(self) -> float:
        """Return the smallest lasso penalty at which every coefficient is zero."""
        return max(float(np.abs(self.moment).max()) / len(self.target), 1e-300)

    def unscale(self, coefficient: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, float]:
        """Return coefficients on the raw regressors, and the intercept."""
        raw = np.where(self.varies, coefficient / self.spread, 0.0)
        return raw.reshape(shape), self.level - float(raw @ self.centre)


def _ridge_path(problem: _LeastSquares, penalties: np.ndarray) -> np.ndarray:
    """Solve for every penalty by one eigendecomposition: (penalties, N L)."""
    values, vectors = np.linalg.eigh(problem.gram)
    usable = values > 1e-10 * max(values[-1], 1e-300)
    rotated = np.where(usable, vectors.T @ problem.moment, 0.0)
    damped = np.where(usable, values, 1.0) + penalties[:, None] * len(problem.target)
    return rotated / damped @ vectors.T


def _lasso_path(problem: _LeastSquares, penalties: np.ndarray) -> np.ndarray:
    """Solve for every penalty by coordinate descent, each from the one before."""
    _, path, _ = lasso_path(
        problem.regressors,
        problem.target,
        alphas=penalties,
        precompute=problem.gram,
        Xy=problem.moment,
        tol=1e-5,
        max_iter=5000,
    )
    return path.T
