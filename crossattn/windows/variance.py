"""QLIKE loss of volatility forecasts, means of squared returns, log-linear fits by QLIKE.

Built in chapter: Forecasting risk.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from crossattn._validation import check_same_shape
from crossattn.errors import InvalidInputError
from crossattn.windows import spans
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import log_returns

FIT_STEPS, SMALLEST_STEP = 50, 1e-4
FLOOR = 0.02  # of the variance so far, below which no mean variance is counted


def qlike(forecast: ArrayLike, realised: ArrayLike) -> np.ndarray:
    """QLIKE loss of volatility forecasts: ``x - log(x) - 1`` of the ratio of variances.

    Parameters
    ----------
    forecast, realised : array-like of shape (n,) or (n, n_assets)
        Volatilities of the same span, not variances; NaN where unknown.

    Returns
    -------
    ndarray
        Loss of each cell, 0 where the forecast is exact, NaN where either is unknown.

    Notes
    -----
    With x = (realised / forecast)². Ranks forecasts as the true variance would, although a
    realised variance is but a noisy measure of it (Patton 2011); its minimum is the conditional
    mean of the squared volatility. A realised volatility of 0 (no trade) would cost infinitely
    much whatever the forecast: it counts as the smallest positive one of its column.

    References
    ----------
    Patton (2011), "Volatility forecast comparison using imperfect volatility proxies".

    Examples
    --------
    >>> qlike([0.01, 0.02], [0.01, 0.01]).round(3).tolist()  # 1/4 - log(1/4) - 1
    [0.0, 0.636]
    """
    forecast, realised = check_same_shape(forecast=forecast, realised=realised)
    if (forecast <= 0).any() or (realised < 0).any():
        raise InvalidInputError("volatilities must be above 0, realised ones not below 0")
    ratio = (above_zero(realised) / forecast) ** 2
    return ratio - np.log(ratio) - 1.0


def above_zero(values: np.ndarray) -> np.ndarray:
    """Replace zeros by the smallest positive value of their column (NaN where there is none)."""
    least = np.where(values > 0, values, np.inf).min(axis=0, initial=np.inf)
    return np.where(values == 0, np.where(np.isfinite(least), least, np.nan), values)


def known_moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation over the first axis, NaN skipped.

    Where nothing is known the mean is 0, and where nothing varies the deviation is 1.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    square = np.where(known, values - mean, 0.0) ** 2
    spread = np.sqrt(square.sum(axis=0) / count)
    return mean, np.where(spread > 0, spread, 1.0)


def bar_variances(data: CrossAttentionData) -> np.ndarray:
    """Return the variance of every bar ``(n_rows, n_assets)``, NaN where missing.

    Squared log returns, or what the data's ``volatility_estimator`` makes of each range.
    """
    if data.bar_volatilities is not None:
        return data.bar_volatilities**2
    return log_returns(data) ** 2


def horizon_levels(data: CrossAttentionData) -> np.ndarray:
    """Mean variance that a bar of the horizon adds, over that of its known bars: ``(n_assets,)``.

    What a mean of :func:`bar_variances` is to be multiplied by to forecast a realised variance,
    which counts moves over closed hours and missing bars too. Exactly 1 for an asset without them,
    and where nothing is known.
    """
    scored, stops = spans.scored_variances(data.closes, data.bar_volatilities), data.exit_rows
    known = np.isfinite(bar_variances(data))

    def total(values: np.ndarray) -> np.ndarray:
        return np.nansum(spans.sums_until(values, stops)[data.ends], axis=0)

    bars = np.isfinite(data.closes) if data.duration is not None else np.ones_like(known)
    variance, of_known = total(scored), total(np.where(known, scored, 0.0))
    usable = of_known > 0
    level = variance / np.where(usable, of_known, 1.0) * total(known) / np.maximum(total(bars), 1)
    return np.where(usable, level, 1.0)


def mean_variances(squares: np.ndarray, span: float, *, exponential: bool = False) -> np.ndarray:
    """Mean of the newest squared returns at every row, ``(n_rows, n_assets)``; NaN is skipped.

    ``span`` counts bars, or is the half-life of exponential weights. A mean is at least 2 % of that
    of all rows so far, and 1 before the first return that is not 0.
    """
    table = pd.DataFrame(squares)
    recent = (
        table.ewm(halflife=span, ignore_na=True)
        if exponential
        else table.rolling(int(span), min_periods=1)
    )
    so_far = table.expanding().mean().to_numpy()
    return np.fmax(recent.mean().to_numpy(), np.where(so_far > 0, FLOOR * so_far, 1.0))


def fit_log_linear(
    regressors: np.ndarray,
    variance: np.ndarray,
    *,
    penalty: float | np.ndarray = 0.0,
    offset: float | np.ndarray = 0.0,
) -> np.ndarray:
    """Fit the log of a variance by QLIKE plus a ridge: coefficients ``(n_regressors,)``.

    Parameters
    ----------
    regressors : ndarray of shape (n, n_regressors)
        Of about unit size, a column of ones among them for an intercept.
    variance : ndarray of shape (n,)
        Realised, zeros allowed.
    penalty : float or ndarray of shape (n_regressors,)
        Half of it times the squared coefficient is added to the mean loss.
    offset : float or ndarray of shape (n,)
        Log variance that is there already.

    Notes
    -----
    A Gamma regression with log link, by Fisher scoring: the expected Hessian is the same Gram
    matrix in every step. A step is halved until it lowers the loss, which is convex.
    """
    n, k = regressors.shape
    penalty = np.broadcast_to(np.asarray(penalty, float), k)
    gram = regressors.T @ regressors / n + np.diag(penalty + 1e-9)
    factor = cho_factor(gram)

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        log_variance = offset + regressors @ beta
        ratio = variance * np.exp(-log_variance)
        return float((ratio + log_variance).mean() + penalty @ beta**2 / 2), ratio

    beta = np.zeros(k)
    lowest, ratio = loss(beta)
    for _ in range(FIT_STEPS):
        direction = cho_solve(factor, regressors.T @ (ratio - 1.0) / n - penalty * beta)
        step = 1.0
        with np.errstate(over="ignore"):
            value, new_ratio = loss(beta + direction)
            while not value <= lowest and step > SMALLEST_STEP:
                step /= 2
                value, new_ratio = loss(beta + step * direction)
        if not value < lowest:
            break
        gained, beta, lowest, ratio = lowest - value, beta + step * direction, value, new_ratio
        if gained < 1e-10:
            break
    return beta
