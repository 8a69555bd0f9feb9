"""Scores of covariance forecasts: Gaussian loss, Frobenius loss, minimum-variance portfolio.

Built in chapter: Portfolios of forecast risk.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn.evidence.volatility import GAINS, check_reference, score_table
from crossattn.windows.covariance import covariance_loss, known_blocks, realised_covariance
from crossattn.windows.variance import qlike

__all__ = ["covariance_loss", "realised_covariance", "score_covariance"]


def score_covariance(
    forecasts: Mapping[str, ArrayLike],
    realised: ArrayLike,
    *,
    horizon: int = 1,
    reference: str | None = None,
) -> pd.DataFrame:
    """Score covariance forecasts of the same windows side by side.

    Parameters
    ----------
    forecasts : mapping of str to array-like of shape (n, n_assets, n_assets)
        Covariances of the horizon, each known before its window's target.
    realised : array-like of shape (n, n_assets, n_assets)
        :func:`.realised_covariance` of the windows.
    horizon, reference
        As in :func:`.score_volatility`.

    Returns
    -------
    DataFrame
        A row a score and forecast, over the assets that all forecast: ``mean`` loss; ``gain``,
        ``gain_low``, ``gain_high``, ``t`` and ``p_value`` of :func:`.diebold_mariano`: what the
        loss of the reference exceeds that of the row by, with its 95 % interval (NaN for the
        reference itself). Scores: ``gaussian`` (:func:`.covariance_loss`), ``frobenius`` (mean
        squared error of a cell), ``minimum variance`` (realised variance of the minimum-variance
        portfolio, shorts allowed) and ``equal weight`` (QLIKE of the equal-weight portfolio).

    Notes
    -----
    The variance of the minimum-variance portfolio is least for the true covariance, and asks how
    well the *inverse* is forecast, which the Frobenius loss does not (Engle and Colacito).

    References
    ----------
    Engle and Colacito (2006), "Testing and valuing dynamic correlations for asset allocation".

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = np.array([[4.0, 1.0], [1.0, 1.0]])
    >>> returns = rng.multivariate_normal([0, 0], truth, size=2000)
    >>> realised = returns[:, :, None] * returns[:, None]
    >>> flat = np.broadcast_to(np.eye(2), realised.shape)
    >>> table = score_covariance({"flat": flat, "truth": flat * 0 + truth}, realised)
    >>> bool((table.xs("truth", level="forecast")["gain_low"] > 0).all())
    True
    """
    reference = check_reference(reference, forecasts)
    known = np.all([known_blocks(f, realised)[2] for f in forecasts.values()], axis=0)
    both = known[:, :, None] & known[:, None]
    actual = np.where(both, np.asarray(realised, float), np.nan)
    losses = {
        name: _losses(np.where(both, np.asarray(forecast, float), np.nan), actual)
        for name, forecast in forecasts.items()
    }
    tables = {}
    for score in losses[reference]:
        own = {name: loss[score] for name, loss in losses.items()}
        rows = {name: {"mean": np.nanmean(loss)} for name, loss in own.items()}
        tables[score] = score_table(rows, own, reference, horizon, *GAINS)
    return pd.concat(tables, names=["score"])


def _losses(forecast: np.ndarray, actual: np.ndarray) -> dict[str, np.ndarray]:
    """Losses (n,) by score; NaN in rows without a known asset."""
    gaussian = covariance_loss(forecast, actual)
    forecast, actual, known = known_blocks(forecast, actual)
    count = known.sum(axis=1)
    filled = forecast + np.eye(known.shape[1]) * ~known[:, None]
    inverse = np.linalg.solve(filled, known[:, :, None] * 1.0)[:, :, 0]
    weights = inverse / np.where(count > 0, inverse.sum(axis=1), 1.0)[:, None]
    even = [np.where(count > 0, x.sum(axis=(1, 2)), 1.0) for x in (forecast, actual)]
    losses = {
        "frobenius": ((forecast - actual) ** 2).sum(axis=(1, 2)) / np.maximum(count, 1) ** 2,
        "minimum variance": np.einsum("ni,nij,nj->n", weights, actual, weights),
        "equal weight": qlike(*np.sqrt(even)),
    }
    return {"gaussian": gaussian} | {k: np.where(count > 0, x, np.nan) for k, x in losses.items()}
