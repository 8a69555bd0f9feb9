"""Realised covariance, its Gaussian loss, exponential means of products, positive definiteness.

Built in chapter: Portfolios of forecast risk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from crossattn._validation import check_array, check_type
from crossattn.errors import InvalidInputError
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.spans import moves_across_gaps

LEAST_EIGENVALUE = 1e-3  # of a correlation matrix


def realised_covariance(data: CrossAttentionData) -> np.ndarray:
    """Realised covariance over the next ``horizon`` bars: sums of products of log returns.

    Parameters
    ----------
    data : CrossAttentionData
        Windows made from bars.

    Returns
    -------
    ndarray of shape (n, n_assets, n_assets)
        Known when ``data.y`` is; the diagonal is ``data.realised_volatility`` squared. NaN in the
        row and column of an asset whose target is unknown.

    Notes
    -----
    A return across missing bars counts once, at the bar that ends it. Of rank ``horizon`` at most:
    over fewer bars than assets it is singular, and yet right on average.

    References
    ----------
    Andersen, Bollerslev, Diebold and Labys (2003), "Modeling and forecasting realized volatility".
    """
    check_type("data", data, CrossAttentionData, "CrossAttentionData")
    if data.clock.hasnans:
        raise InvalidInputError("data must be made from bars: windows of arrays have no closes")
    stops = data.exit_rows[data.ends]  # (n, N)
    returns = moves_across_gaps(data.closes)
    found = np.empty((*stops.shape, stops.shape[1]))
    for k, (end, stop) in enumerate(zip(data.ends, stops, strict=True)):
        rows = np.arange(end + 1, max(stop.max(), end) + 1)
        some = returns[rows] * (rows[:, None] <= stop)
        found[k] = some.T @ some
    known = stops >= 0
    return np.where(known[:, :, None] & known[:, None], found, np.nan)


def covariance_loss(forecast: ArrayLike, realised: ArrayLike) -> np.ndarray:
    """Gaussian loss of covariance forecasts: ``log det S + trace(S⁻¹ R)``, an asset.

    QLIKE for matrices: its mean is least at the conditional mean of the realised covariance R,
    which may be singular.

    Parameters
    ----------
    forecast, realised : array-like of shape (n, n_assets, n_assets)
        Assets unknown (NaN on the diagonal) in either are left out of that row.

    Returns
    -------
    ndarray of shape (n,)
        Over the number of known assets; NaN where there is none.

    References
    ----------
    Patton and Sheppard (2009), "Evaluating volatility and correlation forecasts".

    Examples
    --------
    >>> covariance_loss([np.eye(2)], [2 * np.eye(2)])
    array([2.])
    """
    forecast, realised, known = known_blocks(forecast, realised)
    forecast = forecast + np.eye(known.shape[1]) * ~known[:, None]
    try:
        roots = np.linalg.cholesky(forecast)
    except np.linalg.LinAlgError:
        raise InvalidInputError("forecast must be positive definite") from None
    log_determinant = 2 * np.log(np.einsum("nii->ni", roots)).sum(axis=1)
    trace = np.trace(np.linalg.solve(forecast, realised), axis1=1, axis2=2)
    count = known.sum(axis=1)
    return np.where(count > 0, (log_determinant + trace) / np.maximum(count, 1), np.nan)


def known_blocks(
    forecast: ArrayLike, realised: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both (n, N, N) with 0 for assets unknown in either, and which are known, (n, N)."""
    forecast = check_array("forecast", forecast, (None, None, None))
    realised = check_array("realised", realised, forecast.shape)
    known = np.isfinite(np.einsum("nii->ni", forecast) + np.einsum("nii->ni", realised))
    both = known[:, :, None] & known[:, None]
    parts = np.where(both, forecast, 0.0), np.where(both, realised, 0.0)
    if not np.isfinite(parts).all():
        raise InvalidInputError("forecast and realised must be finite between known assets")
    return *parts, known


def exponential_products(
    moves: np.ndarray, half_life: float, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exponentially weighted sums of products of moves, and of their weights, at some rows.

    A sum counts the moves up to its row, that row's own included; NaN in ``moves`` (n_rows, N) adds
    nothing. A pair's weight, in the second (n, N, N), counts the rows where both are known.
    """
    keep = 0.5 ** (1.0 / half_life)
    known = np.isfinite(moves) * 1.0
    moves = np.where(known > 0, moves, 0.0)
    shape = (moves.shape[1],) * 2
    total, weight = np.zeros(shape), np.zeros(shape)
    sums, weights = np.empty((2, len(rows), *shape))
    done = 0
    for k, row in enumerate(rows):
        for t in range(done, row + 1):
            total = keep * total + np.outer(moves[t], moves[t])
            weight = keep * weight + np.outer(known[t], known[t])
        done = row + 1
        sums[k], weights[k] = total, weight
    return sums, weights


def positive_definite(covariance: np.ndarray) -> np.ndarray:
    """Return covariances ``(n, N, N)`` whose correlations have no eigenvalue below 0.001.

    Variances stay, but for that of an asset that never moved: 1 and not 0, so that it is shunned.
    Matrices that need no change are returned as they are, symmetric.
    """
    variance = np.einsum("nii->ni", covariance)
    covariance = covariance + np.eye(variance.shape[1]) * (variance <= 0)[:, None]
    deviation = np.sqrt(np.einsum("nii->ni", covariance))
    scale = deviation[:, :, None] * deviation[:, None]
    correlation = covariance / scale
    correlation = (correlation + correlation.transpose(0, 2, 1)) / 2
    try:  # an eighth of the time of the eigenvalues
        np.linalg.cholesky(correlation - LEAST_EIGENVALUE * np.eye(correlation.shape[1]))
        return correlation * scale
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(correlation)
    low = values[:, 0] < LEAST_EIGENVALUE
    lifted = np.maximum(values[low], LEAST_EIGENVALUE)
    made = (vectors[low] * lifted[:, None]) @ vectors[low].transpose(0, 2, 1)
    unit = np.sqrt(np.einsum("nii->ni", made))
    correlation[low] = made / (unit[:, :, None] * unit[:, None])
    return correlation * scale
