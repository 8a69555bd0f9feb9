"""Scores of value at risk, expected shortfall and quantiles: coverage, pinball and joint loss.

Built in chapter: Forecasting risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from crossattn._validation import check_array, check_arrays, check_float, check_same_shape
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import long_run_covariance, long_run_settings
from crossattn.evidence.volatility import check_reference, coverage_test, score_table


def pinball_loss(quantiles: ArrayLike, actual: ArrayLike, levels: ArrayLike) -> np.ndarray:
    """Pinball loss of quantile forecasts, of each cell: least in the mean at the true quantile.

    Parameters
    ----------
    quantiles : array-like of shape (..., Q)
    actual : array-like of shape (...)
    levels : array-like of shape (Q,)
        Probabilities, inside (0, 1).

    Returns
    -------
    ndarray of shape (..., Q)
        In the unit of ``actual``, NaN where either is unknown.

    References
    ----------
    Koenker and Bassett (1978), "Regression quantiles", Econometrica 46(1).

    Examples
    --------
    >>> pinball_loss([-0.02, 0.01], -0.03, [0.05, 0.5]).round(4).tolist()  # .95 * .01, .5 * .04
    [0.0095, 0.02]
    """
    actual, levels = check_array("actual", actual, None), check_array("levels", levels, (None,))
    quantiles = check_array("quantiles", quantiles, (*actual.shape, *levels.shape))
    if not ((levels > 0) & (levels < 1)).all():
        raise InvalidInputError(f"levels must lie inside (0, 1), got {levels.tolist()}")
    error = actual[..., None] - quantiles
    return np.maximum(levels * error, (levels - 1) * error)


def tail_loss(
    value_at_risk: ArrayLike, shortfall: ArrayLike, returns: ArrayLike, level: float
) -> np.ndarray:
    """Fissler-Ziegel loss of value at risk and expected shortfall together, of each cell.

    Parameters
    ----------
    value_at_risk, shortfall : array-like of one shape
        As returns: both below 0, the shortfall not above the value at risk.
    returns : array-like of that shape
    level : float

    Returns
    -------
    ndarray
        NaN where anything is unknown. Least in the mean at the true pair; differences between two
        forecasts do not depend on the unit of returns.

    References
    ----------
    Fissler and Ziegel (2016), "Higher order elicitability and Osband's principle", Annals of
    Statistics 44(4). Patton, Ziegel and Chen (2019), "Dynamic semiparametric models for expected
    shortfall (and value-at-risk)", Journal of Econometrics 211(2): their FZ0.

    Examples
    --------
    >>> tail_loss([-2.0], [-2.5], [-3.0], 0.05).round(3).tolist()  # 8 + .8 + log 2.5 - 1
    [8.716]
    """
    var, shortfall, returns = _same_shape(value_at_risk, shortfall, returns)
    check_float("level", level, above=0, below=1)
    missed = np.where(returns <= var, var - returns, 0.0 * (var - returns))
    return -missed / (level * shortfall) + var / shortfall + np.log(-shortfall) - 1


@dataclass(frozen=True)
class Shortfall:
    """Outcome of a test of an expected shortfall."""

    #: second statistic of Acerbi and Szekely: 0 where losses are as forecast, below 0 where more is
    #: lost (-1: twice as much)
    z: float
    p_value: float  #: two-sided, of 0
    ratio: float  #: mean loss over mean forecast loss in the rows below the value at risk
    n: int  #: rows


def shortfall_test(
    value_at_risk: ArrayLike,
    shortfall: ArrayLike,
    returns: ArrayLike,
    level: float,
    *,
    horizon: int = 1,
) -> Shortfall:
    """Acerbi-Szekely test of an expected shortfall: do losses beyond the value at risk match it?

    Parameters
    ----------
    value_at_risk, shortfall, returns : array-like of shape (n,) or (n, n_assets)
        As returns, in time order; NaN cells are left out.
    level : float
    horizon : int
        Rows over which one return extends.

    Notes
    -----
    ``z = 1 - mean(hit r / (level ES))``. It tests how many rows fall below the value at risk and
    how far, together. The p-value is the larger one of two. One has Newey-West errors over rows,
    with the lags and degrees of freedom of :func:`.diebold_mariano`, so that assets which fall
    together count as what they are. A sample with hardly a violation shows no spread, so the other
    has the error of a forecast which is right: a variance of ``(1 + (1 - VaR / ES)^2) / level - 1``
    a cell (exact for an exponential tail), with the dependence of assets in the sample and in one
    more row in which all of them fall, each in runs of half a horizon.

    References
    ----------
    Acerbi and Szekely (2014), "Backtesting expected shortfall", Risk, December.

    Examples
    --------
    >>> returns = np.random.default_rng(0).standard_normal(5000)
    >>> expected = np.full(5000, -2.063)  # of a normal law at 5 %
    >>> shortfall_test(np.full(5000, -1.645), expected, returns, 0.05).p_value > 0.05
    True
    """
    var, shortfall, returns = _same_shape(value_at_risk, shortfall, returns)
    check_float("level", level, above=0, below=1)
    known = np.isfinite(returns) & np.isfinite(var) & np.isfinite(shortfall)
    hit = known & (returns < var)
    excess = np.where(known, 1 - hit * returns / (level * shortfall), np.nan)
    variance = (1 + (1 - var / shortfall)[known] ** 2).mean() / level - 1 if known.any() else 0.0
    p_value = _mean_p(excess, variance, level, horizon)
    expected = shortfall[hit].sum()
    ratio = float(returns[hit].sum() / expected) if expected else float("nan")
    rows = int(known.reshape(len(known), -1).any(axis=1).sum())
    return Shortfall(float(excess[known].mean()), p_value, ratio, rows)


def score_tails(
    forecasts: Mapping[str, tuple[ArrayLike, ArrayLike]],
    returns: ArrayLike,
    level: float,
    *,
    horizon: int = 1,
    reference: str | None = None,
) -> pd.DataFrame:
    """Score value at risk and expected shortfall forecasts side by side.

    Parameters
    ----------
    forecasts : mapping of str to pairs of array-like of shape (n, N)
        Value at risk and expected shortfall, such as :meth:`TailForecast.at
        <crossattn.portfolio.tail_risk.TailForecast.at>` gives.
    returns : array-like of shape (n, N)
        In time order, NaN where unknown.
    level : float
    horizon, reference
        As in :func:`.score_volatility`.

    Returns
    -------
    DataFrame
        A row a forecast, over the cells that all of them forecast: ``share`` below the value at
        risk and ``share_p`` of its being ``level``, all assets together, with the errors of
        :func:`shortfall_test` (a cell's variance is ``level (1 - level)``); ``kupiec``,
        ``christoffersen`` and ``both``: share of single assets whose number of violations, whose
        independence, or both together are rejected at 5 % (:func:`.coverage_test`); ``z`` and
        ``z_p`` of :func:`shortfall_test`; means of ``pinball`` and ``loss`` (:func:`pinball_loss`,
        :func:`tail_loss`); ``gain``, ``t`` and ``p_value`` of :func:`.diebold_mariano`: loss of the
        reference less that of the row.

    Examples
    --------
    >>> returns = np.random.default_rng(0).standard_normal((2000, 3))
    >>> normal = np.full((2000, 3), -1.645), np.full((2000, 3), -2.063)
    >>> forecasts = {"normal": normal, "narrow": (normal[0] / 2, normal[1] / 2)}
    >>> table = score_tails(forecasts, returns, 0.05)
    >>> table["kupiec"].tolist(), bool(table.loc["narrow", "t"] < -2)
    ([0.0, 1.0], True)
    """
    reference = check_reference(reference, forecasts)
    check_float("level", level, above=0, below=1)
    parts = {name: _same_shape(*pair, returns) for name, pair in forecasts.items()}
    known = np.all([np.isfinite(x) for part in parts.values() for x in part], axis=0)
    parts = {name: [np.where(known, x, np.nan) for x in part] for name, part in parts.items()}
    losses = {name: tail_loss(*part, level) for name, part in parts.items()}
    rows = {}
    for name, (var, shortfall, actual) in parts.items():
        hits = np.where(known, actual < var, np.nan)
        columns = hits.reshape(len(hits), -1).T
        single = [coverage_test(hit[np.isfinite(hit)], level) for hit in columns]
        short = shortfall_test(var, shortfall, actual, level, horizon=horizon)
        rows[name] = {
            "share": np.nanmean(hits),
            "share_p": _mean_p(hits - level, level * (1 - level), level, horizon),
            "kupiec": np.mean([test.unconditional_p < 0.05 for test in single]),
            "christoffersen": np.mean([test.independence_p < 0.05 for test in single]),
            "both": np.mean([test.conditional_p < 0.05 for test in single]),
            "z": short.z,
            "z_p": short.p_value,
            "pinball": np.nanmean(pinball_loss(var[..., None], actual, [level])),
            "loss": np.nanmean(losses[name]),
        }
    return score_table(rows, losses, reference, horizon, "gain", "t", "p_value")


def score_quantiles(
    forecasts: Mapping[str, ArrayLike],
    actual: ArrayLike,
    levels: Sequence[float],
    *,
    volatility: ArrayLike | None = None,
    horizon: int = 1,
    reference: str | None = None,
) -> pd.DataFrame:
    """Score quantile forecasts side by side: pinball loss and coverage of each level.

    Parameters
    ----------
    forecasts : mapping of str to array-like of shape (n, N, Q)
        Such as ``predict`` of a network with ``output_type="distribution"``.
    actual : array-like of shape (n, N)
        Realised returns, NaN where unknown.
    levels : sequence of float
        Probabilities.
    volatility : array-like of shape (n, N), optional
        Known before each return: losses are in units of it, so that volatile bars do not dominate.
    horizon, reference
        As in :func:`.score_volatility`.

    Returns
    -------
    DataFrame
        A row a forecast, over the cells that all of them forecast: ``pinball`` (mean over levels
        and cells); a column a level, the share of returns below its quantile; ``worst_p``, the
        least p-value of a share against its level (``share_p`` of :func:`score_tails`) times the
        number of levels (Bonferroni); ``gain``, ``t`` and ``p_value`` of
        :func:`.diebold_mariano`: loss of the reference less that of the row.

    Examples
    --------
    >>> actual = np.random.default_rng(0).standard_normal((3000, 2))
    >>> normal = np.broadcast_to([-0.674, 0.0, 0.674], (3000, 2, 3))
    >>> table = score_quantiles({"normal": normal, "wide": 2 * normal}, actual, (0.25, 0.5, 0.75))
    >>> table[0.25].round(2).tolist(), bool(table.loc["wide", "t"] < -2)
    ([0.25, 0.08], True)
    """
    reference = check_reference(reference, forecasts)
    actual, levels = check_array("actual", actual, None), check_array("levels", levels, (None,))
    unit = 1.0 if volatility is None else check_array("volatility", volatility, actual.shape)
    quantiles = check_arrays("forecasts", forecasts)
    losses = {k: pinball_loss(q, actual, levels).mean(axis=-1) / unit for k, q in quantiles.items()}
    known = np.all([np.isfinite(loss) for loss in losses.values()], axis=0)
    losses = {name: np.where(known, loss, np.nan) for name, loss in losses.items()}
    rows = {}
    for name, forecast in quantiles.items():
        below = np.where(known[..., None], actual[..., None] < forecast, np.nan)
        p_values = [
            _mean_p(below[..., k] - level, level * (1 - level), level, horizon)
            for k, level in enumerate(levels)
        ]
        row = {"pinball": np.nanmean(losses[name])}
        row |= {level: np.nanmean(below[..., k]) for k, level in enumerate(levels)}
        row["worst_p"] = min(1.0, len(levels) * min(p_values))
        rows[name] = row
    return score_table(rows, losses, reference, horizon, "gain", "t", "p_value")


def _mean_p(excess: np.ndarray, variance: float, level: float, horizon: int) -> float:
    """p-value of mean 0: the larger one by the error found and by that of a right forecast.

    ``variance`` is that of a cell if the forecast is right; see :func:`shortfall_test`.
    """
    excess = excess.reshape(len(excess), -1)
    known = np.isfinite(excess)
    some = known.any(axis=1)
    excess, known = excess[some], known[some]
    lags, freedom, divisor = long_run_settings(len(known), horizon)
    centred = np.where(known, excess - np.nanmean(excess), 0.0)
    rows = centred.sum(axis=1, keepdims=True)
    together = max(float((rows**2).sum() - (centred**2).sum()), 0.0)  # pairs of assets
    n_assets = known.sum(axis=1).max()
    rare = min(level, 1 - level)
    together += variance * n_assets * (n_assets - 1) * (1 - rare) / rare  # one more row, all in it
    expected = np.sqrt((variance * known.sum() + together) * (horizon + 1) / 2)
    found = np.sqrt(max(long_run_covariance(rows, lags)[0, 0], 1e-300)) / divisor
    total = abs(np.nansum(excess))
    return float(2 * max(stats.t.sf(total / found, freedom), stats.norm.sf(total / expected)))


def _same_shape(
    value_at_risk: ArrayLike, shortfall: ArrayLike, returns: ArrayLike
) -> list[np.ndarray]:
    """Return all three as arrays of one shape, the shortfall below 0."""
    parts = {"value_at_risk": value_at_risk, "shortfall": shortfall, "returns": returns}
    parts = check_same_shape(dims=(1, 2), **parts)
    if (parts[1] >= 0).any():
        raise InvalidInputError("shortfall must be a return below 0")
    return parts
