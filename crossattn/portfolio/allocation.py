"""Portfolio weights from model outputs: returns, classes, quantiles, weights.

The last axis is assets. All but :func:`trailing_risk` and :func:`staggered` read only the row that
they allocate, so a row's weights are known when its predictions are.

Built in chapter: Portfolio heads.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtri, softmax

from crossattn._validation import check_array, check_float, check_int
from crossattn.errors import InvalidInputError


def weights_from_scores(
    scores: np.ndarray, *, allow_short: bool = False, max_position: float = 1.0
) -> np.ndarray:
    """Weights in proportion to scores, scaled down to the limits and never up.

    Parameters
    ----------
    scores : ndarray of shape (..., N)
        Score per asset: 1 is a whole account's worth. NaN: no forecast.
    allow_short : bool
        Keep negative scores; otherwise they are 0.
    max_position : float
        Largest absolute weight of an asset.

    Returns
    -------
    ndarray of shape (..., N)
        Scores cut at ±max_position, then scaled *down* where their absolute sum exceeds 1; the rest
        is cash. NaN where the score is.

    Examples
    --------
    >>> weights_from_scores(np.array([1e-6, -0.3, 0.9]), max_position=0.5)
    array([1.e-06, 0.e+00, 5.e-01])
    """
    limit = check_float("max_position", max_position, above=0)
    scores = check_array("predictions", scores, None)
    if np.isinf(scores).any():
        raise InvalidInputError("predictions must be finite or NaN, got an infinite one")
    weights = np.clip(scores, -limit if allow_short else 0.0, limit)
    gross = np.nansum(np.abs(weights), axis=-1, keepdims=True)
    return weights / np.maximum(gross, 1.0)


def cap_weights(
    weights: np.ndarray, *, allow_short: bool = False, max_position: float = 1.0
) -> np.ndarray:
    """Weights under a position limit, with the excess moved to the other assets.

    The excess goes to the assets below the limit, in proportion to their weights (in equal parts
    where all have none); to cut and renormalise would leave (.8, .1, .1) at .71 under a limit of
    .5.

    Parameters
    ----------
    weights : ndarray of shape (..., N)
        Target weights of a portfolio head; NaN: leave that asset as it is.
    allow_short, max_position
        As in :func:`weights_from_scores`; what shorts would have held is cash.

    Returns
    -------
    ndarray of shape (..., N)
        Same signs, and the same gross weight as after dropping shorts, but never above 1. Excess
        that does not fit beside assets left as they are is cash.

    Raises
    ------
    InvalidInputError
        The gross weight does not fit: it exceeds ``max_position`` times the assets there are.

    Examples
    --------
    >>> cap_weights(np.array([0.8, 0.1, 0.1]), max_position=0.5)
    array([0.5 , 0.25, 0.25])
    """
    limit = check_float("max_position", max_position, above=0)
    weights = check_array("weights", weights, None)
    if np.isinf(weights).any():
        raise InvalidInputError("weights must be finite or NaN, got an infinite one")
    known = ~np.isnan(weights)
    wanted = np.where(known, weights if allow_short else np.maximum(weights, 0.0), 0.0)
    size = np.abs(wanted)
    gross = size.sum(axis=-1, keepdims=True)
    size = size / np.maximum(gross, 1.0)
    gross, n_assets = np.minimum(gross, 1.0), weights.shape[-1]
    # beside assets that are left as they are, what does not fit is cash
    too_much = known.all(axis=-1, keepdims=True) & (gross > limit * n_assets * (1 + 1e-9))
    if too_much.any():
        raise InvalidInputError(
            f"max_position must be at least {gross[too_much].max() / n_assets:.6g} for these "
            f"weights: {n_assets} assets cannot hold them all, got {limit!r}"
        )
    for _ in range(n_assets):  # moved excess may fill another asset, but each only once
        full = size >= limit
        excess = np.maximum(size - limit, 0.0).sum(axis=-1, keepdims=True)
        if not (excess > 0).any():
            break
        open_ = known & ~full
        base = np.where(open_, size, 0.0)
        total = base.sum(axis=-1, keepdims=True)
        count = np.maximum(open_.sum(axis=-1, keepdims=True), 1)
        share = np.where(total > 0, base / np.where(total > 0, total, 1.0), open_ / count)
        size = np.minimum(size, limit) + excess * share
    sign = np.where(wanted < 0, -1.0, 1.0)
    return np.where(known, sign * np.minimum(size, limit), np.nan)


def class_scores(logits: np.ndarray) -> np.ndarray:
    """Scores of a classifier: probability of up minus probability of down.

    Parameters
    ----------
    logits : ndarray of shape (..., N, 3)
        For down, neutral and up.

    Returns
    -------
    ndarray of shape (..., N)
        Between -1 and 1; an undecided classifier is near 0 and holds nothing.

    Examples
    --------
    >>> class_scores(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 50.0]])).round(6)
    array([0., 1.])
    """
    logits = check_array("logits", logits, None)
    if logits.shape[-1:] != (3,):
        raise InvalidInputError(f"logits must have shape (..., N, 3), got {logits.shape}")
    probability = softmax(logits, axis=-1)
    return probability[..., 2] - probability[..., 0]


def forecast_scores(forecast: np.ndarray, risk: np.ndarray) -> np.ndarray:
    """Scores of a return forecast: forecast over risk.

    Parameters
    ----------
    forecast : ndarray of shape (..., N)
        Simple return over the horizon.
    risk : ndarray of shape (..., N)
        Standard deviation of that return, known when the forecast is; NaN or 0: unknown.

    Returns
    -------
    ndarray of shape (..., N)
        forecast / risk; 0 where the risk is unknown, NaN where the forecast is.

    Examples
    --------
    >>> forecast_scores(np.array([0.001, 0.001]), np.array([0.01, np.nan]))
    array([0.1, 0. ])
    """
    forecast, risk = np.broadcast_arrays(
        check_array("predictions", forecast, None), check_array("risk", risk, None)
    )
    known = np.nan_to_num(risk) > 0
    with np.errstate(over="ignore"):
        score = np.divide(forecast, risk, out=np.zeros(forecast.shape), where=known)
    return np.where(np.isnan(forecast), np.nan, score)


def quantile_scores(quantiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Scores of a distribution: its median over the risk that it predicts itself.

    Parameters
    ----------
    quantiles : ndarray of shape (..., N, Q)
        Of the simple return, rising.
    levels : ndarray of shape (Q,)
        Their probabilities, rising.

    Returns
    -------
    ndarray of shape (..., N)
        As :func:`forecast_scores`; the risk is the distance of the outer quantiles over that of a
        standard normal.

    Examples
    --------
    >>> quantile_scores(np.array([[-0.01, 0.01, 0.03]]), np.array([0.1587, 0.5, 0.8413])).round(3)
    array([0.5])
    """
    quantiles = check_array("quantiles", quantiles, None)
    levels = check_array("levels", levels, (None,))
    if quantiles.shape[-1] != len(levels) or len(levels) < 2:
        raise InvalidInputError(
            f"quantiles must have {len(levels)} values an asset, two or more, got "
            f"{quantiles.shape[-1]}"
        )
    reach = ndtri(levels[-1]) - ndtri(levels[0])
    risk = (quantiles[..., -1] - quantiles[..., 0]) / reach
    return forecast_scores(quantiles[..., int(np.abs(levels - 0.5).argmin())], risk)


def trailing_risk(returns: np.ndarray, half_life: float = 24.0, *, least: int = 10) -> np.ndarray:
    """Exponentially weighted volatility of the next bar's return, from returns known before it.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Row t holds the return of the bar *after* row t, so row t's estimate uses rows before t.
    half_life : float
        Of the exponentially weighted mean of squares, in bars.
    least : int
        NaN before as many returns are known, and where a price stood still for as many bars (a
        halt).

    Returns
    -------
    ndarray of shape (T, N)
        NaN returns and those of a halt are skipped.

    Examples
    --------
    >>> trailing_risk(np.full((4, 1), 0.01), least=2).ravel().round(4)
    array([ nan,  nan, 0.01, 0.01])
    """
    returns = check_array("returns", returns, (None, None))
    check_float("half_life", half_life, above=0)
    check_int("least", least)
    known, moved = ~np.isnan(returns), np.nan_to_num(returns) != 0
    at_rest = np.cumsum(known & ~moved, axis=0)
    still = at_rest - np.maximum.accumulate(np.where(moved, at_rest, 0), axis=0)
    used = known & (still < least)
    squares = pd.DataFrame(np.where(used, returns, np.nan) ** 2)
    mean = squares.ewm(halflife=half_life, ignore_na=True).mean().to_numpy()
    ready = (np.cumsum(used, axis=0) >= least) & (still < least)
    risk = np.full(returns.shape, np.nan)
    risk[1:] = np.sqrt(np.where(ready, mean, np.nan))[:-1]
    return risk


def staggered(weights: np.ndarray, sleeves: int) -> np.ndarray:
    """Average of overlapping decisions: each is held for ``sleeves`` decisions.

    Parameters
    ----------
    weights : ndarray of shape (M, N)
        One row a decision, in time order.
    sleeves : int
        Decisions that are open at once: horizon over decision spacing, rounded up.

    Returns
    -------
    ndarray of shape (M, N)
        Mean over the last ``sleeves`` decisions; before there are that many, the rest is cash. A
        NaN cell counts as the decision before it.

    References
    ----------
    Jegadeesh and Titman (1993), "Returns to buying winners and selling losers".

    Examples
    --------
    >>> staggered(np.array([[1.0], [0.0], [0.0]]), 2).ravel()
    array([0.5, 0.5, 0. ])
    """
    sleeves = check_int("sleeves", sleeves)
    filled = pd.DataFrame(weights, dtype=float).ffill().fillna(0.0)
    return (filled.rolling(sleeves, min_periods=1).sum() / sleeves).to_numpy(copy=True)
