"""Robust regression errors, Clark-West test and false discovery rates.

Built in chapter: Who really leads?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class RobustFit:
    """Weighted regression with heteroskedasticity- and autocorrelation-robust errors.

    Attributes
    ----------
    slope, error : ndarray of shape (n_regressors,)
        Coefficients, without the intercept, and their standard errors.
    covariance : ndarray of shape (n_regressors, n_regressors)
    freedom : ndarray of shape (n_regressors,)
        Effective degrees of freedom of each error: small where a few wild bars decide.
    """

    slope: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    freedom: np.ndarray

    @property
    def t(self) -> np.ndarray:
        """Slope over error, 0 where the error is 0."""
        return np.divide(
            self.slope, self.error, out=np.zeros_like(self.slope), where=self.error > 0
        )

    @property
    def p_positive(self) -> np.ndarray:
        """One-sided p-values of "this slope is not above 0"; 1 where the error is 0."""
        return np.where(self.error > 0, stats.t.sf(self.t, self.freedom), 1.0)

    def wald(self, columns: ArrayLike) -> float:
        """Return the p-value of "these slopes are all zero": an F test, or chi-squared."""
        columns = np.asarray(columns)
        part, slope = self.covariance[np.ix_(columns, columns)], self.slope[columns]
        statistic = float(slope @ np.linalg.pinv(part, hermitian=True) @ slope)
        freedom = self.freedom[columns].mean()
        if np.isinf(freedom):
            return float(stats.chi2.sf(statistic, len(columns)))
        return float(stats.f.sf(statistic / len(columns), len(columns), freedom))


@dataclass(frozen=True)
class Overlap:
    """Single bars of overlapping targets, for Hodrick's errors.

    Attributes
    ----------
    bars : ndarray of shape (n_bars,)
        Return of each bar, NaN where it is missing.
    first : ndarray of int, shape (n,)
        Position in ``bars`` of the first bar of each target, none twice.
    horizon : int
        Number of bars of each target.
    """

    bars: np.ndarray
    first: np.ndarray
    horizon: int

    def scores(self, design: np.ndarray) -> np.ndarray:
        """Score each bar by the rows of ``design`` (n, K) whose targets contain it: (n_bars, K)."""
        # running sum: a row enters at its target's first bar and leaves after the last
        steps = np.zeros((len(self.bars) + 1, design.shape[1]))
        steps[self.first] += design
        steps[self.first + self.horizon] -= design
        held = np.cumsum(steps[:-1], axis=0)
        surprise = self.bars - np.nanmean(self.bars)
        rate = np.isfinite(surprise).mean()  # missing bars score 0, the others more
        return held * np.nan_to_num(surprise / np.sqrt(rate))[:, None]


def newey_west_lags(n_rows: int, horizon: int = 1) -> int:
    """Number of autocovariances: a rule by length, and beyond the overlap of targets."""
    # the triangular kernel halves the far autocovariances of overlapping targets, so half again
    return max(int(4 * (n_rows / 100) ** (2 / 9)), int(np.ceil(1.5 * (horizon - 1))))


def robust_regression(
    target: ArrayLike,
    regressors: ArrayLike,
    *,
    scale: ArrayLike | None = None,
    lags: int = 0,
    leverage: bool = False,
    overlap: Overlap | None = None,
) -> RobustFit:
    """Regression with intercept and Newey-West errors, or Hodrick's where targets overlap.

    Parameters
    ----------
    target : array-like of shape (n,)
        Finite numbers.
    regressors : array-like of shape (n, n_regressors)
    scale : array-like of shape (n,), optional
        Standard deviation of each row's noise, known before it; each row is divided by it.
    lags : int
        Autocovariances counted, with the triangular (Bartlett) kernel; 0 is White's estimator.
    leverage : bool
        Divide each residual by one minus its leverage (HC3): a wild bar pulls the fit towards
        itself and would hide its own error.
    overlap : Overlap, optional
        The bars of targets over several bars; ``lags`` and ``leverage`` are then not used.

    Returns
    -------
    RobustFit

    Notes
    -----
    With fat tails a few rows carry most of an error's estimate. ``freedom`` is Satterthwaite's
    count of them, ``2 (sum s²)² / (sum s⁴ - (sum s²)² / n)`` for the score ``s`` of each row.

    Targets over h bars and slow regressors make Newey-West errors too small: on noise with h = 24
    they reject at 5 % in 9 % of cases. With ``overlap`` the scores are summed bar by bar, each
    bar's surprise times all rows whose target contains it. Under the null these terms are
    uncorrelated, so no autocovariance has to be estimated (Hodrick's errors 1B).

    Raises
    ------
    InvalidInputError
        No more rows than coefficients.

    References
    ----------
    White (1980), Econometrica 48. MacKinnon and White (1985), Journal of Econometrics 29. Newey
    and West (1987), Econometrica 55. Hodrick (1992), Review of Financial Studies 5(3).

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> float(robust_regression(2 * x + 1, x[:, None]).slope[0].round(6))
    2.0
    """
    y, x = np.asarray(target, float), np.asarray(regressors, float)
    n_rows, n_slopes = x.shape
    if n_rows <= n_slopes + 1:
        raise InvalidInputError(f"{n_rows} rows cannot determine {n_slopes + 1} coefficients")
    weight = 1.0 if scale is None else 1.0 / np.asarray(scale, float)
    spread = x.std(axis=0)
    # standardise for a well-conditioned inverse; a constant column gets slope and error 0
    idle = spread <= 1e-12 * np.abs(x).max(axis=0)
    spread = np.where(idle, 1.0, spread)
    centred = np.where(idle, 0.0, (x - x.mean(axis=0)) / spread)
    weight = np.broadcast_to(np.reshape(weight, (-1, 1)), (n_rows, 1))
    design = np.column_stack([centred, np.ones(n_rows)]) * weight
    y = y * weight[:, 0]
    bread = np.linalg.pinv(design.T @ design, hermitian=True)
    coefficient = bread @ (design.T @ y)
    coefficient[:-1][idle] = 0.0
    residual = y - design @ coefficient
    inflation = n_rows / (n_rows - n_slopes - 1)
    if leverage:
        pull = np.einsum("ij,jk,ik->i", design, bread, design)
        residual, inflation = residual / (1 - np.minimum(pull, 0.99)), 1.0
    moments = design * residual[:, None]
    if overlap is not None:
        moments, lags, inflation = overlap.scores(design * weight), 0, 1.0
    covariance = bread @ _long_run(moments, lags) @ bread * inflation
    freedom = _effective_freedom(moments @ bread)[:-1]
    covariance = covariance[:-1, :-1] / np.outer(spread, spread)
    covariance[idle] = covariance[:, idle] = 0.0
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return RobustFit(coefficient[:-1] / spread, error, covariance, freedom)


def robust_mean_t(values: ArrayLike, lags: int = 0) -> float:
    """t statistic of the mean with Newey-West errors; 0 where nothing varies."""
    values = np.asarray(values, float)
    centred = values - values.mean()
    variance = float(_long_run(centred[:, None], lags)[0, 0])
    return float(values.sum() / np.sqrt(variance)) if variance > 0 else 0.0


def clark_west(target: ArrayLike, smaller: ArrayLike, larger: ArrayLike, lags: int = 0) -> float:
    """One-sided p-value of "the larger, nesting model forecasts no better" (Clark, West, 2007)."""
    target, smaller, larger = (np.asarray(v, float) for v in (target, smaller, larger))
    # less the estimation noise of what the larger adds, without which equal models look unequal
    gain = (target - smaller) ** 2 - (target - larger) ** 2 + (smaller - larger) ** 2
    return float(stats.norm.sf(robust_mean_t(gain, lags)))


def benjamini_hochberg(p_values: ArrayLike) -> np.ndarray:
    """Benjamini-Hochberg q-values: smallest false discovery rate at which each p is claimed.

    Parameters
    ----------
    p_values : array-like
        Any shape, in [0, 1].

    Returns
    -------
    ndarray
        Same shape, in the same order.

    Raises
    ------
    InvalidInputError
        A value is NaN or outside of [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995), "Controlling the False Discovery Rate", JRSS B 57(1).

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.5]).round(3).tolist()
    [0.03, 0.06, 0.5]
    """
    p = np.asarray(p_values, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise InvalidInputError("p_values must be numbers between 0 and 1")
    return stats.false_discovery_control(p, axis=None).reshape(p.shape)


def _effective_freedom(scores: np.ndarray) -> np.ndarray:
    """Satterthwaite's degrees of freedom of the mean square of each column, at least 1."""
    power = (scores**2).sum(axis=0)
    surplus = (scores**4).sum(axis=0) - power**2 / len(scores)
    ratio = np.divide(2 * power**2, surplus, out=np.full_like(power, np.inf), where=surplus > 0)
    return np.clip(ratio, 1.0, len(scores))


def _long_run(moments: np.ndarray, lags: int) -> np.ndarray:
    """Sum of autocovariances of the rows, with the triangular kernel."""
    total = moments.T @ moments
    for lag in range(1, min(lags, len(moments) - 1) + 1):
        cross = moments[lag:].T @ moments[:-lag]
        total += (1 - lag / (lags + 1)) * (cross + cross.T)
    return total
