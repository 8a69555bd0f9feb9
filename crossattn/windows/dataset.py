"""Bars as tensors in time: windows that are views, targets that say when they are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossattn.data.frame import Frames
from crossattn.data.panel import as_panel, symbols_of
from crossattn.errors import InvalidInputError
from crossattn.features.build import feature_arrays, usable_features
from crossattn.features.registry import DEFAULT_FEATURES, warm_up_of
from crossattn.windows.views import CrossAttentionData, frozen

__all__ = [
    "CrossAttentionData",
    "forward_returns",
    "prepare_cross_attention_data",
    "windows_of_features",
]


def prepare_cross_attention_data(
    data: Frames | pd.DataFrame,
    lookback: int = 168,
    horizon: int = 24,
    features: Sequence[str] = DEFAULT_FEATURES,
    *,
    include_latest: bool = False,
) -> CrossAttentionData:
    """Turn bars into windows of features and the returns that follow them.

    Parameters
    ----------
    data : Frames or Panel
        Bars by symbol, or already aligned; see :func:`crossattn.align_panel`.
    lookback : int
        Bars in a window.
    horizon : int
        Bars over which the target looks ahead: row t's target is
        ``close[t + horizon] / close[t] - 1``, a simple return, known at row ``t + horizon``.
    features : sequence of str
        See :data:`crossattn.features.FEATURES`.
    include_latest : bool
        Also give the newest `horizon` windows, whose targets nobody knows yet (NaN): what a
        forecast of today needs.

    Returns
    -------
    CrossAttentionData
        Every window of consecutive rows after the warm-up of every feature.

    Raises
    ------
    InvalidInputError
        Bad bars, an unknown feature, lookback or horizon not a positive integer, or too few rows.

    Notes
    -----
    A row is a moment at which some bar closed; lookback and horizon count rows, and so does the
    purge. Missing bars stay NaN in X and y, and ``.mask`` shows them: nothing is filled. Where two
    clocks hardly ever meet, most targets are therefore unknown: bring such symbols to bars that
    close together first.

    Built in chapter: Windows, splits and leaks.

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=300)
    >>> data = prepare_cross_attention_data(market.frames, lookback=48, horizon=12)
    >>> X, y, symbols, timestamps = data
    >>> X.shape, y.shape, len(timestamps) == len(data)
    ((208, 3, 48, 7), (208, 3), True)
    """
    lookback, horizon = _at_least(1, lookback, "lookback"), _at_least(1, horizon, "horizon")
    bars = as_panel(data)
    names = usable_features(bars, features)
    symbols = tuple(symbols_of(bars))
    closes = bars["close"][list(symbols)]
    ends = _window_ends(len(bars), lookback, horizon, warm_up_of(names), include_latest)
    panel = np.empty((len(bars), len(symbols), len(names)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for column, (_, values) in enumerate(feature_arrays(bars, names)):
            panel[:, :, column] = values
    return _assemble(panel, ends, lookback, horizon, symbols, names, closes)


def windows_of_features(
    features: pd.DataFrame,
    closes: pd.DataFrame,
    lookback: int = 168,
    horizon: int = 24,
    *,
    warm_up: int = 0,
    include_latest: bool = False,
) -> CrossAttentionData:
    """Cut windows out of features that are already there: your own, or some computed before.

    Parameters
    ----------
    features : DataFrame
        Index ``close_time``, columns (``feature``, ``symbol``), every feature for every symbol;
        what each row holds must be known at its time. NaN where it is not.
    closes : wide DataFrame
        Closes on the same index, a column a symbol; NaN where there is no bar.
    lookback, horizon, include_latest
        As in :func:`prepare_cross_attention_data`.
    warm_up : int
        Leading rows to leave out.

    Returns
    -------
    CrossAttentionData

    Raises
    ------
    InvalidInputError
        The two tables disagree in rows or symbols, a feature lacks a symbol, or too few rows.

    Notes
    -----
    One copy in float32; the windows are views of it.

    Built in chapter: Windows, splits and leaks.

    Examples
    --------
    >>> from crossattn import create_multi_asset_features, simulate_market
    >>> panel = simulate_market(n_assets=3, n_steps=100).panel
    >>> features = create_multi_asset_features(panel, ["log_return"])
    >>> market = features["log_return"].mean(axis=1)
    >>> for symbol in features["log_return"]:
    ...     features[("relative_return", symbol)] = features[("log_return", symbol)] - market
    >>> data = windows_of_features(features, panel["close"], lookback=8, horizon=1, warm_up=1)
    >>> data.X.shape, data.features
    ((91, 3, 8, 2), ('log_return', 'relative_return'))
    """
    lookback, horizon = _at_least(1, lookback, "lookback"), _at_least(1, horizon, "horizon")
    warm_up = _at_least(0, warm_up, "warm_up")
    for name, table in (("features", features), ("closes", closes)):
        if not isinstance(table, pd.DataFrame):
            raise InvalidInputError(f"{name} must be a DataFrame, got {type(table).__name__}")
    if not isinstance(features.columns, pd.MultiIndex) or features.columns.nlevels != 2:
        raise InvalidInputError("features must have columns (feature, symbol)")
    names = tuple(features.columns.get_level_values(0).unique())
    symbols = tuple(symbols_of(features))
    if not isinstance(features.index, pd.DatetimeIndex) or not features.index.equals(closes.index):
        raise InvalidInputError("closes must have the rows of features, dated by close_time")
    if set(closes.columns) != set(symbols):
        raise InvalidInputError(
            f"closes must have the symbols of features ({', '.join(map(str, symbols))}), "
            f"got {', '.join(map(str, closes.columns))}"
        )
    columns = features.columns.get_indexer(pd.MultiIndex.from_product([names, symbols]))
    if len(columns) != len(features.columns) or (columns < 0).any():
        raise InvalidInputError("features must hold every feature once for every symbol")
    ends = _window_ends(len(features), lookback, horizon, warm_up, include_latest)
    panel = np.empty((len(features), len(symbols), len(names)), dtype=np.float32)
    try:
        with np.errstate(over="ignore"):
            cells = features.to_numpy()[:, columns].reshape(-1, len(names), len(symbols))
            panel[:] = cells.transpose(0, 2, 1)
        closes = closes[list(symbols)].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"features and closes must be numbers ({error})") from None
    if np.isinf(closes).any(axis=None) or (closes <= 0).any(axis=None):
        raise InvalidInputError("closes must be positive and finite; NaN where there is no bar")
    return _assemble(panel, ends, lookback, horizon, symbols, names, closes)


def _window_ends(
    rows: int, lookback: int, horizon: int, warm_up: int, include_latest: bool
) -> np.ndarray:
    """Rows at which a window may end: warmed up, and with a target to come."""
    if horizon >= rows:
        raise InvalidInputError(
            f"horizon must be shorter than the data ({rows} rows), got {horizon}"
        )
    first = warm_up + lookback - 1
    stop = rows if include_latest else rows - horizon
    if first >= stop:
        raise InvalidInputError(
            f"data: {rows} rows are too few for lookback={lookback}, horizon={horizon} and a "
            f"warm-up of {warm_up} bars; at least {first + 1 + rows - stop} are needed"
        )
    return frozen(np.arange(first, stop))


def _assemble(panel, ends, lookback, horizon, symbols, names, closes) -> CrossAttentionData:
    """Put the tensor, the targets and the clock together; nothing infinite gets in."""
    panel[np.isinf(panel)] = np.nan
    prices = np.ascontiguousarray(closes.to_numpy(dtype=np.float64))
    next_returns = frozen(forward_returns(prices, 1))
    return CrossAttentionData(
        panel=frozen(panel),
        ends=ends,
        lookback=lookback,
        horizon=horizon,
        symbols=symbols,
        features=names,
        targets=next_returns if horizon == 1 else frozen(forward_returns(prices, horizon)),
        next_returns=next_returns,
        closes=frozen(prices),
        clock=closes.index,
    )


def forward_returns(closes: np.ndarray, horizon: int) -> np.ndarray:
    """Simple return over the next `horizon` rows, ``(T, N)``; NaN where either end is missing."""
    returns = np.full_like(closes, np.nan)
    with np.errstate(over="ignore"):
        returns[:-horizon] = closes[horizon:] / closes[:-horizon] - 1
    returns[np.isinf(returns)] = np.nan
    return returns


def _at_least(least: int, value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidInputError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)
