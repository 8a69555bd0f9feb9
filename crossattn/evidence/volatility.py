"""Scores of volatility forecasts: QLIKE, Diebold-Mariano, Mincer-Zarnowitz.

Built in chapter: Forecasting risk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import xlogy

from crossattn._validation import (
    check_array,
    check_choice,
    check_float,
    check_mapping,
    check_same_shape,
)
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import (
    LEAST_ROWS,
    is_constant,
    long_run_covariance,
    long_run_settings,
    mean_error,
)
from crossattn.windows.variance import above_zero, qlike

GAINS = ("gain", "gain_low", "gain_high", "t", "p_value")


@dataclass(frozen=True)
class DieboldMariano:
    """Outcome of a Diebold-Mariano test."""

    #: mean loss of the first forecast less that of the second: below 0 the first is better
    difference: float
    t: float
    p_value: float  #: two-sided, of equal expected loss
    interval: tuple[float, float]  #: 95 % of the difference
    n: int  #: rows compared


def diebold_mariano(
    loss: ArrayLike, rival_loss: ArrayLike, horizon: int = 1, *, lags: int | None = None
) -> DieboldMariano:
    """Diebold-Mariano test of equal accuracy, with HAC errors and Harvey's correction.

    Parameters
    ----------
    loss, rival_loss : array-like of shape (n,) or (n, n_assets)
        Losses of two forecasts of the same targets in time order, such as ``qlike`` or squared
        errors. Rows are averaged over assets first, as assets err together; cells that are NaN in
        either are left out of both; eight rows must be known.
    horizon : int
        Rows over which one target extends.
    lags : int, optional
        Autocovariances in the Newey-West variance (Bartlett kernel); by default ``1.3 n^(1/2)``,
        or two overlaps where that is more.

    Notes
    -----
    Harvey, Leybourne and Newbold multiply t by ``((n + 1 - 2 h + h (h - 1) / n) / n)^(1/2)`` and
    take the t distribution of n - 1 degrees of freedom; as many lags leave ``1.5 n / (lags + 1)``
    at most (Lazarus and others). Where all rows differ by the same, but not by 0, nothing measures
    an error: t, p-value and interval are NaN.

    References
    ----------
    Diebold and Mariano (1995), "Comparing predictive accuracy". Harvey, Leybourne and Newbold
    (1997), "Testing the equality of prediction mean squared errors". Lazarus, Lewis, Stock and
    Watson (2018), "HAR inference: recommendations for practice".

    Examples
    --------
    >>> errors = np.random.default_rng(0).normal(size=(2, 400))
    >>> test = diebold_mariano(errors[0] ** 2, (2 * errors[1]) ** 2)
    >>> test.difference < 0, test.p_value < 0.001
    (True, True)
    """
    first, second = _tables(loss=loss, rival_loss=rival_loss)
    known = np.isfinite(first - second)
    total, count = np.where(known, first - second, 0.0).sum(axis=1), known.sum(axis=1)
    difference = total[count > 0] / count[count > 0]
    n = len(difference)
    lags, freedom, divisor = long_run_settings(n, horizon, lags)
    mean = float(difference.mean())
    error = mean_error(difference, lags) / divisor
    t = mean / error if error else 0.0
    half = float(stats.t.ppf(0.975, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(t), freedom))
    return DieboldMariano(mean, float(t), p_value, (mean - half, mean + half), n)


@dataclass(frozen=True)
class MincerZarnowitz:
    """Regression of realised on forecast variance: intercept 0 and slope 1 where it is unbiased."""

    intercept: float  #: in units of the mean forecast variance
    slope: float
    intercept_error: float  #: HAC standard error
    slope_error: float  #: HAC standard error
    p_value: float  #: of intercept 0 and slope 1 together


def mincer_zarnowitz(forecast: ArrayLike, realised: ArrayLike, horizon: int = 1) -> MincerZarnowitz:
    """Mincer-Zarnowitz regression: is a volatility forecast unbiased, high and low?

    Parameters
    ----------
    forecast, realised : array-like of shape (n,) or (n, n_assets)
        Volatilities; NaN cells are left out.
    horizon : int
        Rows over which one target extends.

    Notes
    -----
    Weighted by the inverse of the squared forecast variance, as the noise of a realised variance
    grows with it: the regression of realised / forecast on 1 / forecast and a constant. Errors are
    Newey-West over rows, added up over assets, with the lags of :func:`diebold_mariano`. Both
    coefficients are as promised where realised / forecast - 1 has mean 0 and is uncorrelated with
    1 / forecast: the p-value is that of these two means, :func:`diebold_mariano` for two, by
    Hotelling's F. (The noise about the fit would be small just where the fit is off by luck.) With
    fat tails and few rows right forecasts are still rejected too often: 1 in 8 for 1 in 20, where
    250 returns have five degrees of freedom.

    References
    ----------
    Mincer and Zarnowitz (1969), "The evaluation of economic forecasts". Patton and Sheppard (2009),
    "Evaluating volatility and correlation forecasts".
    """
    forecast, realised = _tables(forecast=forecast, realised=realised)
    known = np.isfinite(forecast) & np.isfinite(realised)
    some = known.any(axis=1)
    forecast, realised, known = forecast[some], realised[some], known[some]
    n = len(known)
    lags, freedom, divisor = long_run_settings(n, horizon)
    variance = np.where(known, forecast, 1.0) ** 2
    weight = np.where(known, np.mean(variance[known]) / variance, 0.0)
    design = np.stack([weight, known.astype(float)], axis=-1)  # (n, N, 2)
    ratio = np.where(known, realised, 0.0) ** 2 / variance
    bread = np.linalg.pinv(np.einsum("tip,tiq->pq", design, design), hermitian=True)
    beta = bread @ np.einsum("tip,ti->p", design, ratio)
    scores = (design * (ratio - design @ beta)[..., None]).sum(axis=1)
    errors = np.sqrt(np.diag(bread @ long_run_covariance(scores, lags) @ bread)) / divisor
    moments = (design * (ratio - known)[..., None]).sum(axis=1)  # with mean 0 where it is unbiased
    total = moments.sum(axis=0)
    noise = long_run_covariance(moments - total / n, lags) / divisor**2
    hotelling = float(total @ np.linalg.pinv(noise, hermitian=True) @ total)
    p_value = float(stats.f.sf(hotelling * (freedom - 1) / (2 * freedom), 2, freedom - 1))
    if is_constant(ratio[known]) and total.any():
        p_value = float("nan")  # wrong by the same everywhere: nothing to measure an error by
    return MincerZarnowitz(*map(float, beta), *map(float, errors), p_value)


@dataclass(frozen=True)
class Coverage:
    """Outcome of the coverage tests of a value at risk."""

    share: float  #: of the rows whose return fell below the value at risk
    unconditional_p: float  #: Kupiec: of "the share is the level"
    independence_p: float  #: Christoffersen: of "a violation says nothing of the next row"
    conditional_p: float  #: of both together
    n: int


def coverage_test(violations: ArrayLike, level: float) -> Coverage:
    """Kupiec and Christoffersen tests of a value at risk: number and independence of violations.

    Parameters
    ----------
    violations : array-like of bool, shape (n,)
        Whether the return of each row, in time order, fell below its value at risk; eight or more.
    level : float
        Nominal share of violations, inside (0, 1), such as .01.

    References
    ----------
    Kupiec (1995), "Techniques for verifying the accuracy of risk measurement models".
    Christoffersen (1998), "Evaluating interval forecasts".

    Examples
    --------
    >>> hits = np.zeros(1000)
    >>> hits[::100] = 1  # ten violations at 1 %
    >>> coverage_test(hits, 0.01).unconditional_p
    1.0
    """
    hits = check_array("violations", violations, None)
    check_float("level", level, above=0, below=1)
    if hits.ndim != 1 or len(hits) < LEAST_ROWS or not np.isin(hits, (0.0, 1.0)).all():
        raise InvalidInputError(
            f"violations must be {LEAST_ROWS} or more zeros and ones in a row, got {hits.shape}"
        )
    before, after = hits[:-1], hits[1:]
    # with a share of its own after each state
    apart = _log_likelihood(after[before == 0]) + _log_likelihood(after[before == 1])
    independence = max(2 * (apart - _log_likelihood(after)), 0.0)
    unconditional = max(2 * (_log_likelihood(hits) - _log_likelihood(hits, level)), 0.0)
    return Coverage(
        float(hits.mean()),
        float(stats.chi2.sf(unconditional, 1)),
        float(stats.chi2.sf(independence, 1)),
        float(stats.chi2.sf(unconditional + independence, 2)),
        len(hits),
    )


def _log_likelihood(hits: np.ndarray, share: float | None = None) -> float:
    """Bernoulli log likelihood of a share, by default that of the hits, with 0 log 0 = 0."""
    n, count = len(hits), hits.sum()
    share = count / max(n, 1) if share is None else share
    return float(xlogy(count, share) + xlogy(n - count, 1 - share))


def check_reference(
    reference: str | None, forecasts: Mapping[str, object], argument: str = "forecasts"
) -> str:
    """Return the forecast that the others are tested against, the first by default."""
    check_mapping(argument, forecasts)
    reference = next(iter(forecasts)) if reference is None else reference
    return check_choice("reference", reference, tuple(forecasts))


def score_table(
    rows: Mapping[str, dict[str, float]],
    losses: Mapping[str, np.ndarray],
    reference: str,
    horizon: int,
    *gains: str,
) -> pd.DataFrame:
    """Make a table of scores, a row a forecast, with what each one's losses save of a reference's.

    ``gains`` are columns: ``gain`` with ``gain_low`` and ``gain_high`` (95 %), ``t``, ``p_value``.
    """
    columns = [*rows[reference], *gains]
    for name in rows:
        if name != reference:
            test = diebold_mariano(losses[reference], losses[name], horizon)
            rows[name] |= {"gain": test.difference, "t": test.t, "p_value": test.p_value}
            rows[name] |= dict(zip(("gain_low", "gain_high"), test.interval, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("forecast")


def score_volatility(
    forecasts: Mapping[str, ArrayLike],
    realised: ArrayLike,
    *,
    horizon: int = 1,
    reference: str | None = None,
) -> pd.DataFrame:
    """Score volatility forecasts of the same windows side by side.

    Parameters
    ----------
    forecasts : mapping of str to array-like of shape (n, n_assets)
        Volatilities of the horizon, each known before its window's target.
    realised : array-like of shape (n, n_assets)
        ``data.realised_volatility``; NaN where unknown.
    horizon : int
        ``data.horizon``, for the errors of overlapping targets.
    reference : str, optional
        The forecast that the others are tested against; the first by default.

    Returns
    -------
    DataFrame
        A row a forecast, over the cells that all of them forecast: ``qlike`` and ``mse_log`` (of
        log variances) are means of losses; ``r_squared`` is that of variances (NaN where nothing
        moved); ``slope`` and ``unbiased_p`` are of :func:`mincer_zarnowitz`; ``gain``,
        ``gain_low``, ``gain_high``, ``t`` and ``p_value`` of :func:`diebold_mariano`: QLIKE of the
        reference less that of the row, with its 95 % interval (NaN for the reference itself).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = np.exp(rng.normal(size=(500, 3)) / 2) / 100
    >>> realised = np.abs(rng.normal(size=(500, 3))) * truth
    >>> table = score_volatility({"flat": 0 * truth + 0.012, "truth": truth}, realised)
    >>> bool(table.loc["truth", "gain_low"] > 0)
    True
    """
    reference = check_reference(reference, forecasts)
    pairs = {name: _tables(forecast=f, realised=realised) for name, f in forecasts.items()}
    known = np.all([np.isfinite(f) & np.isfinite(r) for f, r in pairs.values()], axis=0)
    actual = np.where(known, pairs[reference][1], np.nan)
    forecasts = {name: np.where(known, f, np.nan) for name, (f, _) in pairs.items()}
    losses = {name: qlike(f, actual) for name, f in forecasts.items()}
    rows = {}
    for name, forecast in forecasts.items():
        missed = actual**2 - forecast**2
        spread = actual**2 - np.nanmean(actual**2)
        power = np.nan if is_constant(actual[known]) else np.nansum(spread**2)
        unbiased = mincer_zarnowitz(forecast, actual, horizon)
        rows[name] = {
            "qlike": np.nanmean(losses[name]),
            "mse_log": np.nanmean((2 * np.log(above_zero(actual) / forecast)) ** 2),
            "r_squared": 1 - np.nansum(missed**2) / power,
            "slope": unbiased.slope,
            "unbiased_p": unbiased.p_value,
        }
    return score_table(rows, losses, reference, horizon, *GAINS)


def _tables(**given: ArrayLike) -> list[np.ndarray]:
    """Return arrays of one shape, (n,) or (n, N), as tables (n, N)."""
    arrays = check_same_shape(dims=(1, 2), **given)
    return [array[:, None] if array.ndim == 1 else array for array in arrays]
