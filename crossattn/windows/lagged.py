"""Lagged log returns of windows, and the volatility that was known at their ends."""

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.windows.dataset import CrossAttentionData

RETURN_FEATURE = "log_return"


def lagged_log_returns(
    data: CrossAttentionData, n_lags: int, order: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """Gather each window's newest log returns, a missing bar as 0 (no news).

    Parameters
    ----------
    data : CrossAttentionData
        Windows whose features contain ``log_return``.
    n_lags : int
        How many bars back, the window's own last bar included.
    order : ndarray of shape (n_assets,), optional
        Position in ``data`` of each asset wanted; by default all in their order.

    Returns
    -------
    ndarray of shape (n, n_assets, n_lags), float64
        ``[k, j, l]`` is asset j's log return l bars before the last bar of window k.
    """
    if n_lags > data.lookback:
        raise InvalidInputError(
            f"max_lag must be below the lookback of {data.lookback} bars, got {n_lags - 1}"
        )
    returns = data.panel[:, order, return_position(data)]
    rows = data.ends[:, None] - np.arange(n_lags)  # (n, L)
    return np.nan_to_num(returns[rows].astype(float)).transpose(0, 2, 1)  # (n, N, L)


def recent_volatility(
    data: CrossAttentionData, order: np.ndarray | slice, half_life: float
) -> np.ndarray:
    """Estimate each asset's volatility at the last bar of each window, from the bars up to it.

    Parameters
    ----------
    data : CrossAttentionData
        Windows whose features contain ``log_return``.
    order : ndarray of shape (n_assets,) or slice
        Position in ``data`` of each asset wanted.
    half_life : float
        Of the exponentially weighted mean of squared log returns, in bars.

    Returns
    -------
    ndarray of shape (n, n_assets)
        Standard deviation of a bar's log return, known at the window's last bar; never below a
        hundredth of the deviation so far, and 1 where all bars so far were missing or flat.
    """
    squares = log_returns(data)[:, order] ** 2
    # a bar counts by its age in rows, as in the forecaster's channels, missing bars included
    variance = pd.DataFrame(squares).ewm(halflife=half_life, ignore_na=False).mean().to_numpy()
    known = np.isfinite(squares)
    so_far = np.nancumsum(squares, axis=0) / np.maximum(np.cumsum(known, axis=0), 1)
    floor = np.where(so_far > 0, 1e-4 * so_far, 1.0)
    return np.sqrt(np.fmax(variance, floor)[data.ends])


def log_returns(data: CrossAttentionData) -> np.ndarray:
    """Return the log returns of all rows ``(n_rows, n_assets)``, float64, NaN where missing."""
    return data.panel[:, :, return_position(data)].astype(float)


def return_position(data: CrossAttentionData) -> int:
    features = list(data.features)
    if RETURN_FEATURE not in features:
        raise InvalidInputError(f"data must hold the feature {RETURN_FEATURE!r}, got {features}")
    return features.index(RETURN_FEATURE)
