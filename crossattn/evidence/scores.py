"""Scores of forecasts: information coefficient, R squared, hit rate, fidelity to the oracle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn.errors import InvalidInputError


def correlation(forecast: ArrayLike, actual: ArrayLike) -> float:
    """Correlate two tables of returns over all their cells.

    Parameters
    ----------
    forecast, actual : array-like of shape (n, N)
        NaN cells are left out of both.

    Returns
    -------
    float
        Pearson correlation over cells; 0 where one of them does not vary.

    Raises
    ------
    InvalidInputError
        The shapes differ.

    Examples
    --------
    >>> correlation([[1.0, 2.0], [3.0, np.nan]], [[2.0, 4.0], [6.0, 8.0]])
    1.0
    >>> correlation([[0.0, 0.0]], [[1.0, 2.0]])
    0.0
    """
    a, b = np.asarray(forecast, float), np.asarray(actual, float)
    if a.shape != b.shape:
        raise InvalidInputError(f"forecast and actual differ in shape: {a.shape} and {b.shape}")
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if a.size < 2:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return round(float(a @ b / scale), 12) if scale > 0 else 0.0


def score_forecasts(
    forecasts: Mapping[str, ArrayLike], actual: ArrayLike, *, oracle: ArrayLike | None = None
) -> pd.DataFrame:
    """Score forecasts of the same windows side by side.

    Parameters
    ----------
    forecasts : mapping of str to array-like of shape (n, N)
        Returns over the horizon, as fractions, each known before its window's target.
    actual : array-like of shape (n, N)
        Realised returns, NaN where unknown.
    oracle : array-like of shape (n, N), optional
        The true conditional mean, on simulated markets.

    Returns
    -------
    DataFrame
        A row a forecast: ``information_coefficient`` (correlation with the realised returns),
        ``r_squared`` (1 minus the squared error over that of forecasting zero; negative is worse
        than zero; NaN where nothing moved), ``hit_rate`` (share of signs that were right, of
        non-zero forecasts) and, with an oracle, ``fidelity`` (correlation with the oracle).

    References
    ----------
    Grinold, R. and Kahn, R. (1999), "Active Portfolio Management".

    Built in chapter: Why look across assets?

    Examples
    --------
    >>> actual = np.array([[0.01, -0.02], [0.03, 0.01]])
    >>> score_forecasts({"half": actual / 2, "zero": 0 * actual}, actual)["r_squared"].tolist()
    [0.75, 0.0]
    """
    actual = np.asarray(actual, float)
    rows = {}
    for name, forecast in forecasts.items():
        forecast = np.asarray(forecast, float)
        row = {"information_coefficient": correlation(forecast, actual)}
        known = np.isfinite(forecast) & np.isfinite(actual)
        error, total = (actual - forecast)[known], actual[known]
        power = float(total @ total)
        row["r_squared"] = 1.0 - float(error @ error) / power if power > 0 else float("nan")
        called = known & (forecast != 0) & (actual != 0)
        hits = np.sign(forecast[called]) == np.sign(actual[called])
        row["hit_rate"] = float(hits.mean()) if hits.size else float("nan")
        if oracle is not None:
            row["fidelity"] = correlation(forecast, oracle)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("forecast")
