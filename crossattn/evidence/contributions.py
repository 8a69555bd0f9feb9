"""Contribution of each source to each forecast, for any model: reported by it or by ablation.

Built in chapter: Attention is not explanation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.evidence._models import contribution_batches, forecasts_of, symbols_of
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import RETURN_FEATURE

ABLATED_LAGS = 8
LAG_WINDOWS = 400  # windows on which single lags are ablated


@dataclass(frozen=True)
class Contributions:
    """Contributions of sources to forecasts, window by window and summed up by lag.

    Attributes
    ----------
    total : ndarray of shape (n, n_assets, n_assets)
        ``[k, i, j]``: what source j adds to the forecast of asset i in window k, over all lags, in
        units of the target. The diagonal holds what an asset's own past adds, where known.
    by_lag : ndarray of shape (n_assets, n_assets, n_lags)
        Root mean square of what each lag adds.
    slope : ndarray of shape (n_assets, n_assets, n_lags)
        Mean change of the forecast of i for one unit of j's return at that lag.
    symbols : tuple of str
        Names along the asset axes.
    """

    total: np.ndarray
    by_lag: np.ndarray
    slope: np.ndarray
    symbols: tuple[str, ...]


def measure_contributions(model, data: CrossAttentionData) -> Contributions:
    """Split a model's forecasts into the contributions of their sources.

    Parameters
    ----------
    model : object
        A forecaster, a lag model or a baseline with ``contributions(data)`` reports its own. Any
        other model with ``predict(data)``, and networks of other presets, are ablated: a source's
        past is replaced by its mean over ``data`` and the forecasts are compared.
    data : CrossAttentionData
        Windows to measure on.

    Returns
    -------
    Contributions

    Raises
    ------
    InvalidInputError
        The model neither splits its forecasts nor predicts returns of shape (n, n_assets).

    Notes
    -----
    Contributions of ablated sources that act only together do not add up to the forecast. Ablation
    costs one prediction per source, and one per source and lag (1 to 8) on a thinned sample.
    """
    symbols = symbols_of(model, data)
    if set(symbols) != set(data.symbols):
        raise InvalidInputError(f"data: the model knows {list(symbols)}, got {list(data.symbols)}")
    data = data.select(symbols=symbols)
    batches = contribution_batches(model, data)
    return _ablate(model, data) if batches is None else _accumulate(batches, data)


def without_source(data: CrossAttentionData, source: int, rows=slice(None)) -> CrossAttentionData:
    """Return the data with one asset's features replaced by their means, in ``rows``."""
    panel = np.array(data.panel)
    panel[rows, source] = pd.DataFrame(panel[:, source]).mean()  # NaN where nothing is known
    return replace(data, panel=panel)


def _accumulate(parts: Iterator[np.ndarray], data: CrossAttentionData) -> Contributions:
    """Sum over lags batch by batch, so that (n, N, N, L) is never held."""
    returns = _returns(data)
    totals, square, product, power, start = [], 0.0, 0.0, 0.0, 0
    for part in parts:  # (b, N, N, L)
        n_lags = part.shape[3]
        rows = data.ends[start : start + len(part), None] - np.arange(n_lags)
        lagged = returns[rows].transpose(0, 2, 1)  # (b, N, L)
        totals.append(part.sum(axis=3))
        square = square + (part**2).sum(axis=0, dtype=float)
        product = product + np.einsum("bijl,bjl->ijl", part, lagged)
        power = power + (lagged**2).sum(axis=0)
        start += len(part)
    return Contributions(
        total=np.concatenate(totals).astype(float),
        by_lag=np.sqrt(square / len(data)),
        slope=product / np.where(power > 0, power, 1.0),
        symbols=tuple(data.symbols),
    )


def _ablate(model, data: CrossAttentionData) -> Contributions:
    n_assets, n_lags = len(data.symbols), min(ABLATED_LAGS, data.lookback)
    base = np.asarray(forecasts_of(model, data), float)
    if base.shape != (len(data), n_assets):
        raise InvalidInputError(
            f"model must predict one return an asset, {(len(data), n_assets)}, got {base.shape}"
        )
    total = np.empty((len(data), n_assets, n_assets))
    for source in range(n_assets):
        total[:, :, source] = base - forecasts_of(model, without_source(data, source))
    # rows a lookback apart: a row changed for one window is not inside the next one
    thinned = data.ends[:: max(data.lookback, len(data) // LAG_WINDOWS)]
    chosen = thinned - data.ends[0]
    returns = _returns(data)
    by_lag = np.zeros((n_assets, n_assets, n_lags))
    slope = np.zeros_like(by_lag)
    for source in range(n_assets):
        for lag in range(n_lags):
            changed = forecasts_of(model, without_source(data, source, thinned - lag))
            added = base[chosen] - changed[chosen]  # (n', N)
            lagged = returns[thinned - lag, source]
            by_lag[:, source, lag] = np.sqrt((added**2).mean(axis=0))
            slope[:, source, lag] = lagged @ added / max(float(lagged @ lagged), 1e-300)
    return Contributions(total, by_lag, slope, tuple(data.symbols))


def _returns(data: CrossAttentionData) -> np.ndarray:
    """Log returns (rows, N), a missing one as 0; zeros where the data has no such feature."""
    if RETURN_FEATURE not in data.features:
        return np.zeros((len(data.panel), len(data.symbols)))
    return np.nan_to_num(data.panel[:, :, data.features.index(RETURN_FEATURE)].astype(float))
