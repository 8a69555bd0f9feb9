"""Diebold-Yilmaz connectedness: shares of forecast error variance by source of shock.

Built in chapter: Spillovers and crises.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crossattn._validation import check_int, check_type
from crossattn.data.frame import check_numbers
from crossattn.errors import InvalidInputError

ROUNDING = 1e-20  # of a mean square: no more is left of a series without shocks


@dataclass(frozen=True)
class Connectedness:
    """Diebold-Yilmaz table and its sums, as shares between 0 and 1."""

    #: (N, N): row i, column j: share of i's forecast error variance that shocks to j make; rows sum
    #: to 1
    table: pd.DataFrame
    #: by series: ``from_others``, ``to_others`` (its column without itself, summed over rows) and
    #: ``net``, to less from
    directional: pd.DataFrame
    total: float  #: mean share that comes from others


def connectedness(series: pd.DataFrame, lags: int = 2, horizon: int = 10) -> Connectedness:
    """Measure volatility connectedness by generalised variance decomposition of a VAR.

    Parameters
    ----------
    series : DataFrame of shape (T, N)
        Log volatilities, a column an asset, in time order; rows with a NaN are left out.
    lags : int
        Of the vector autoregression, fitted by least squares.
    horizon : int
        Steps ahead whose forecast errors are decomposed.

    Notes
    -----
    With shock covariance S and moving-average matrices A_h, the share is proportional to

    .. math:: S_{jj}^{-1} \\sum_{h<H} (A_h S)_{ij}^2,

    each row divided by its sum: unlike a Cholesky decomposition it depends on no order of the
    series. A description of one sample, without a test; common shocks count as connections.

    References
    ----------
    Diebold and Yilmaz (2012), "Better to give than to receive", International Journal of
    Forecasting 28(1). Pesaran and Shin (1998), Economics Letters 58(1).

    Examples
    --------
    >>> shocks = np.random.default_rng(0).normal(size=(2000, 2))
    >>> hub = shocks[:, 0]
    >>> follower = 0.8 * np.append(0.0, hub[:-1]) + shocks[:, 1]
    >>> found = connectedness(pd.DataFrame({"hub": hub, "follower": follower}), lags=1)
    >>> found.directional["net"].round(1).tolist()
    [0.4, -0.4]
    """
    check_int("lags", lags)
    check_int("horizon", horizon)
    check_type("series", series, pd.DataFrame, "a DataFrame (time, asset)")
    names, values = series.columns, check_numbers("series", series.dropna())
    n_rows, n = values.shape
    if n < 2 or n_rows - lags <= n * lags + 1:
        raise InvalidInputError(
            f"series must have two columns and more than {n * lags + lags + 1} complete rows for "
            f"{lags} lags, got {n} and {n_rows}"
        )
    if not np.isfinite(values).all():
        raise InvalidInputError("series must be finite")
    past = [values[lags - k : n_rows - k] for k in range(1, lags + 1)]
    design = np.column_stack([np.ones(n_rows - lags), *past])
    beta = np.linalg.lstsq(design, values[lags:], rcond=None)[0]
    residual = values[lags:] - design @ beta
    covariance = residual.T @ residual / (len(residual) - design.shape[1])
    if (still := np.diag(covariance) <= ROUNDING * (values**2).mean(axis=0)).any():
        raise InvalidInputError(f"series must have shocks, got none in {names[still][0]}")
    coefficient = [beta[1 + k * n : 1 + (k + 1) * n].T for k in range(lags)]
    moving = [np.eye(n)]  # response h steps after a shock
    for h in range(1, horizon):
        moving.append(sum(coefficient[k] @ moving[h - 1 - k] for k in range(min(lags, h))))
    shares = sum((a @ covariance) ** 2 for a in moving) / np.diag(covariance)
    shares = shares / shares.sum(axis=1, keepdims=True)
    apart = shares - np.diag(np.diag(shares))
    received, sent = apart.sum(axis=1), apart.sum(axis=0)
    columns = {"from_others": received, "to_others": sent, "net": sent - received}
    table, directional = pd.DataFrame(shares, names, names), pd.DataFrame(columns, index=names)
    return Connectedness(table, directional, float(received.mean()))
