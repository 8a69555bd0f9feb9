"""From forecasts to weights with an eye on risk and cost: mean-variance, volatility targets.

Built in chapter: Portfolio heads.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError
from crossattn.portfolio.metrics import infer_periods_per_year
from crossattn.portfolio.optimise import mean_variance_weights
from crossattn.portfolio.tables import check_prices, check_weights, last_known


def mean_variance_policy(
    forecasts: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    window: int = 250,
    horizon: int = 1,
    shrinkage: float = 0.2,
    risk_aversion: float = 5.0,
    transaction_cost: float = 0.001,
    max_position: float = 1.0,
    allow_short: bool = False,
) -> pd.DataFrame:
    """Trade forecasts off against risk and against the cost of getting there, decision by decision.

    Parameters
    ----------
    forecasts : DataFrame of shape (M, N)
        Simple return over the next ``horizon`` rows, at rows of ``prices``; NaN: no forecast, which
        counts as 0.
    prices : DataFrame of shape (T, N)
        Closing prices, index UTC times.
    window : int
        Rows of the covariance that each decision uses, all up to its own row.
    horizon : int
        Rows over which the forecast looks ahead; the covariance of a row is scaled by it.
    shrinkage : float
        Share of the diagonal in the covariance, between 0 and 1.
    risk_aversion, transaction_cost, max_position, allow_short
        See :func:`crossattn.portfolio.optimise.mean_variance_weights`.

    Returns
    -------
    DataFrame of shape (M', N)
        Target weights at the decisions that have ``window`` rows before them; 0 for an asset
        without a complete, moving history.

    Raises
    ------
    InvalidInputError
        Forecasts at other times or symbols than the prices', or a parameter out of range.
    MissingDependencyError
        cvxpy, which comes with skfolio, is not installed.

    Notes
    -----
    The weights held before a decision are the last target, drifted with the prices, so that the
    cost term knows what a trade would cost. The cost is paid now and the forecast earned once: a
    forecast that persists is undervalued by this one-step view.

    Built in chapter: Portfolio heads.
    """
    if not 0 <= shrinkage <= 1:
        raise InvalidInputError(f"shrinkage must be between 0 and 1, got {shrinkage!r}")
    for name, value, least in (("window", window, 2), ("horizon", horizon, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InvalidInputError(f"{name} must be a whole number >= {least}, got {value!r}")
    marks = last_known(check_prices(prices))
    said, rows = check_weights(forecasts, prices)
    held, before = np.zeros(prices.shape[1]), None
    kept, weights = [], []
    for row, forecast in zip(rows, said, strict=True):
        if row < window:
            continue
        if before is not None:
            growth = np.ones(len(held))
            np.divide(marks[row], marks[before], out=growth, where=marks[before] > 0)
            held = drifted(held, growth)
        history = marks[row - window : row + 1]
        known = (history > 0).all(axis=0) & (np.ptp(history, axis=0) > 0)
        target = np.zeros(prices.shape[1])
        if known.any():
            moves = history[1:, known] / history[:-1, known] - 1
            covariance = np.atleast_2d(np.cov(moves, rowvar=False)) * horizon
            covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance))
            covariance += np.eye(len(covariance)) * 1e-12
            target[known] = mean_variance_weights(
                np.nan_to_num(forecast[known]),
                covariance,
                held[known],
                risk_aversion=risk_aversion,
                transaction_cost=transaction_cost,
                max_position=max_position,
                allow_short=allow_short,
            )
        held, before = target, row
        kept.append(row)
        weights.append(target)
    values = np.array(weights).reshape(len(kept), prices.shape[1])
    return pd.DataFrame(values, index=prices.index[kept], columns=prices.columns)


def drifted(weights: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """Weights after prices have grown, without trading; the rest was cash.

    Parameters
    ----------
    weights : ndarray of shape (N,)
    growth : ndarray of shape (N,)
        Price now over price then; ignored where nothing is held.

    Returns
    -------
    ndarray of shape (N,)

    Examples
    --------
    >>> drifted(np.array([0.5, 0.0]), np.array([2.0, np.nan])).round(6)
    array([0.666667, 0.      ])
    """
    value = np.where(weights != 0, weights * np.where(weights != 0, growth, 1.0), 0.0)
    account = 1 + value.sum() - weights.sum()
    return value / account if account > 0 else np.zeros_like(value)


def volatility_target(
    weights: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    target: float = 0.1,
    half_life: float = 60.0,
    max_gross: float = 1.0,
    periods_per_year: float | None = None,
) -> pd.DataFrame:
    """Scale each row of weights so that the portfolio's forecast volatility is on target.

    Parameters
    ----------
    weights : DataFrame of shape (M, N)
        Target weights at rows of ``prices``.
    prices : DataFrame of shape (T, N)
        Closing prices, index UTC times.
    target : float
        Annual volatility.
    half_life : float
        Of the exponentially weighted variance of what *these weights* would have earned in each
        bar so far, in rows.
    max_gross : float
        Largest sum of absolute weights.
    periods_per_year : float, optional
        Inferred from the prices' index when None.

    Returns
    -------
    DataFrame of shape (M, N)
        Zero while fewer than ten bars are known.

    Raises
    ------
    InvalidInputError
        Weights that do not fit the prices, or a parameter out of range.

    Notes
    -----
    Weighting past returns with *today's* weights accounts for correlation without a covariance.

    References
    ----------
    Moreira and Muir (2017), "Volatility-managed portfolios".
    """
    for name, value in (("target", target), ("half_life", half_life), ("max_gross", max_gross)):
        if not 0 < value < np.inf:
            raise InvalidInputError(f"{name} must be positive, got {value!r}")
    marks = last_known(check_prices(prices))
    values, rows = check_weights(weights, prices)
    periods = periods_per_year or infer_periods_per_year(prices.index)
    moves = np.zeros_like(marks)
    np.divide(marks[1:], marks[:-1], out=moves[1:], where=marks[:-1] > 0)
    moves[1:] = np.where(marks[:-1] > 0, moves[1:] - 1, 0.0)
    scaled = np.zeros_like(values)
    reach = int(np.ceil(10 * half_life)) + 10
    decay = 0.5 ** (np.arange(reach)[::-1] / half_life)
    for k, row in enumerate(rows):
        chosen = np.nan_to_num(values[k])
        earned = moves[max(1, row - reach + 1) : row + 1] @ chosen
        weight = decay[len(decay) - len(earned) :]
        risk = np.sqrt(weight @ earned**2 / weight.sum()) if len(earned) >= 10 else 0.0
        gross = np.abs(chosen).sum()
        if risk > 0 and gross > 0:
            factor = min(target / (risk * np.sqrt(periods)), max_gross / gross)
            scaled[k] = values[k] * factor
        elif np.isnan(values[k]).all():
            scaled[k] = np.nan
    return pd.DataFrame(scaled, index=weights.index, columns=prices.columns)
