"""Scores of forecasts: information coefficient, R squared, hit rate, fidelity to the oracle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn._validation import (
    check_array,
    check_arrays,
    check_int,
    check_mapping,
    check_same_shape,
    in_order,
    labels_of,
)
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import LEAST_ROWS, is_constant, long_run_error
from crossattn.evidence.volatility import check_reference, diebold_mariano


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

    Examples
    --------
    >>> correlation([[1.0, 2.0], [3.0, np.nan]], [[2.0, 4.0], [6.0, 8.0]])
    1.0
    >>> correlation([[0.0, 0.0]], [[1.0, 2.0]])
    0.0
    """
    a, b = check_same_shape(forecast=forecast, actual=actual)
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if a.size < 2:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return round(float(a @ b / scale), 12) if scale > 0 else 0.0


def score_forecasts(
    forecasts: Mapping[str, ArrayLike],
    actual: ArrayLike,
    *,
    oracle: ArrayLike | None = None,
    horizon: int = 1,
    reference: str | None = None,
) -> pd.DataFrame:
    """Score forecasts of the same windows side by side.

    Parameters
    ----------
    forecasts : mapping of str to array-like of shape (n, N)
        Returns over the horizon, as fractions, each known before its window's target.
    actual : array-like of shape (n, N)
        Realised returns, NaN where unknown. Columns of other DataFrames are put in the order of
        this one's.
    oracle : array-like of shape (n, N), optional
        The true conditional mean, on simulated markets.
    horizon : int
        ``data.horizon``: bars over which returns overlap, for the errors.
    reference : str, optional
        The forecast that the others are tested against; by default, forecasting zero.

    Returns
    -------
    DataFrame
        A row a forecast: ``information_coefficient`` (correlation with the realised returns) and
        its ``ic_error`` (Newey-West over rows, with the lags of :func:`.diebold_mariano`; 1.96 of
        them to each side hold 95 %), ``r_squared`` (1 minus the squared error over that of
        forecasting zero; negative is worse than zero; NaN where nothing moved), ``hit_rate`` (share
        of signs that were right, of non-zero forecasts), with an oracle ``fidelity`` (correlation
        with the oracle), and ``t`` and ``p_value`` of :func:`.diebold_mariano` on
        squared errors: above 0 it is better than the reference. Errors need eight rows, else NaN.

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
    symbols = labels_of(actual)
    oracle = None if oracle is None else in_order("oracle", oracle, symbols)
    check_mapping("forecasts", forecasts)
    forecasts = {k: in_order(f"forecasts: {k!r}", f, symbols) for k, f in forecasts.items()}
    forecasts = check_arrays("forecasts", forecasts)
    actual = check_array("actual", actual, None)
    horizon = check_int("horizon", horizon)
    if reference is not None:
        check_reference(reference, forecasts)
    for name, forecast in forecasts.items():
        if forecast.shape != actual.shape or actual.ndim != 2:
            raise InvalidInputError(
                f"forecasts: {name!r} and actual must have one shape (n, N), got {forecast.shape} "
                f"and {actual.shape}"
            )
    losses = {name: (actual - forecast) ** 2 for name, forecast in forecasts.items()}
    rival = actual**2 if reference is None else losses[reference]
    rows = {}
    for name, forecast in forecasts.items():
        row = {"information_coefficient": correlation(forecast, actual)}
        row["ic_error"] = _correlation_error(forecast, actual, horizon)
        known = np.isfinite(forecast) & np.isfinite(actual)
        error, total = (actual - forecast)[known], actual[known]
        power = float(total @ total)
        row["r_squared"] = 1.0 - float(error @ error) / power if power > 0 else float("nan")
        called = known & (forecast != 0) & (actual != 0)
        hits = np.sign(forecast[called]) == np.sign(actual[called])
        row["hit_rate"] = float(hits.mean()) if hits.size else float("nan")
        if oracle is not None:
            row["fidelity"] = correlation(forecast, oracle)
        row["t"], row["p_value"] = _tested(losses[name], rival, horizon)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("forecast")


def _tested(loss: np.ndarray, rival: np.ndarray, horizon: int) -> tuple[float, float]:
    """t and p-value of a lower loss than the rival's; NaN on few rows or equal losses."""
    known = np.isfinite(loss - rival)
    too_few = known.any(axis=1).sum() < max(LEAST_ROWS, horizon + 1)
    if too_few or (loss == rival)[known].all():
        return float("nan"), float("nan")
    test = diebold_mariano(rival, loss, horizon)
    return test.t, test.p_value


def _correlation_error(forecast: np.ndarray, actual: np.ndarray, horizon: int) -> float:
    """Standard error of a pooled correlation: the delta method, with rows that may depend."""
    known = np.isfinite(forecast) & np.isfinite(actual)
    if not known.any() or is_constant(forecast[known]) or is_constant(actual[known]):
        return float("nan")
    a, b = (np.where(known, x - x[known].mean(), 0.0) for x in (forecast, actual))
    a, b = (x / np.sqrt((x**2).sum() / known.sum()) for x in (a, b))
    moved = a * b - (a * b).sum() / known.sum() / 2 * (a**2 + b**2)
    rows = moved[known.any(axis=1)].sum(axis=1)
    return float(long_run_error(rows, horizon) * len(rows) / known.sum())
