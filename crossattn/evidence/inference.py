"""Out-of-sample test of contributions, robust regression errors and false discovery rates.

Built in chapter: Who really leads?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal, stats

from crossattn._validation import check_array, check_int
from crossattn.errors import InvalidInputError

CLIP = 4.0  # bounds of returns and contributions, in their own standard deviations
VOLATILITY_HALF_LIFE = 12.0  # bars
OWN_LAGS = 3  # the follower's last returns, allowed for in every test
MIN_EFFECTIVE = 10.0  # fewest effective days on which a p-value is given
MIN_BLOCKS = 60  # where the test part spans fewer days, a block is a sixtieth of it
ROWS_PER_REGRESSOR = 20
LEAST_ROWS = 8  # of a mean with an error that allows for dependence
NEGLIGIBLE = 1e-6  # standard deviations of the target: a contribution that varies less is none
FAINT = 0.05  # among many sources, one whose t could not exceed this if all of it were true is none
DAY = 86_400
ROUNDING = 1e-12  # relative difference of numbers that should be the same


def contribution_scores(
    closes: np.ndarray, starts: np.ndarray, stops: np.ndarray, clock: np.ndarray, parts: np.ndarray
) -> dict[str, np.ndarray]:
    """Test whether each source's contribution predicts one follower's held-out return.

    ``closes`` (n_rows,) are the follower's, NaN where it has no bar, ``clock`` (n_rows,) the close
    times of all rows in seconds. Windows end at rows ``starts`` (n,) and their targets, returns
    between the two closes, are known at ``stops``, -1 where unknown. ``parts`` (n, n_sources) are
    what each source adds to the forecast. By source, the answer holds ``p_value``, one-sided, of
    "this contribution does not predict the return", and its ``t``; ``slope`` of the return on the
    contribution (1 for a calibrated model) and ``slope_error``, clustered by day; ``n_effective``,
    independent days; ``inactive``, whether there is no claim, as the contribution does not vary or,
    with more sources than a twentieth of the rows, is too faint to show; ``tested``, whether there
    are ten effective days. p is 1, and t and slope are 0, where the source is inactive or not
    tested.

    Notes
    -----
    The return is regressed on all contributions jointly, each row divided by the follower's
    volatility as known at its time; returns and contributions are clipped at four standard
    deviations. With x the residual of one contribution on all others, on the follower's own last
    three returns and on the intercept, the numerator of its slope is a sum over steps

    .. math:: S = \\sum_u r_u H_u, \\qquad H_u = \\sum_{t:\\,u \\in (t, t + h]} x_t / \\sigma_t,

    where a step leads from one *known close to the next*: nights and missing bars are steps of
    their own, so overlapping targets are accounted for exactly on any clock. Where nothing can be
    forecast the terms are uncorrelated. They are summed by calendar day (by a sixtieth of the test
    part where that spans fewer than 60), which allows for dependence within a day, and

    .. math:: t = \\sum_d S_d / \\sqrt{\\sum_d S_d^2}

    is compared with a t distribution. The variance is that under the null hypothesis (of returns,
    not of residuals), so t cannot exceed the root of the number of days: few days never give a
    small p-value. The degrees of freedom are ``n_effective - 1`` with Kish's number of days,
    :math:`(\\sum I_d)^2 / \\sum I_d^2` for the information :math:`I = \\sum H^2 \\sigma^2` of each
    day: it depends on contributions and volatility, not on later returns, so that leaving out pairs
    with fewer than ten days selects nothing. With more sources than a twentieth of the rows, the
    largest contributions enter one by one and the others as one sum.

    References
    ----------
    Hodrick (1992), "Dividend Yields and Expected Stock Returns". Cameron, Gelbach and Miller
    (2008), "Bootstrap-Based Improvements for Inference with Clustered Errors".
    """
    nothing = {"p_value": 1.0, "t": 0.0, "slope": 0.0, "slope_error": np.nan, "n_effective": 0.0}
    nothing |= {"inactive": True, "tested": False}
    result = {name: np.full(parts.shape[1], x) for name, x in nothing.items()}
    known = (stops >= 0) & np.isfinite(closes[starts]) & np.isfinite(closes[stops])
    known &= np.isfinite(parts).all(axis=1)
    if known.sum() < 2 * ROWS_PER_REGRESSOR:
        return result
    span = clock[starts[-1]] - clock[starts[0]]
    starts, stops, parts = starts[known], stops[known], parts[known]
    left, returns, volatility = known_steps(closes)
    returns = np.clip(returns, -CLIP * volatility, CLIP * volatility)
    first, last = np.searchsorted(left, starts), np.searchsorted(left, stops)
    scale = volatility[first]
    total = np.append(0.0, np.cumsum(returns))
    spread = ((total[last] - total[first]) / scale).std()

    columns = parts / scale[:, None]
    deviation = columns.std(axis=0)
    active = deviation > NEGLIGIBLE * spread
    if active.sum() > len(columns) // ROWS_PER_REGRESSOR:
        active &= deviation * np.sqrt(len(columns)) > FAINT * spread
    active = np.flatnonzero(active)
    own = np.append(np.zeros(OWN_LAGS), returns / volatility)
    own = own[first[:, None] + OWN_LAGS - 1 - np.arange(OWN_LAGS)]  # newest first
    residual = _residualised(_clipped(columns[:, active]), np.c_[1.0 / scale, own])  # (n, K)

    # Each step gets the residualised contributions of all targets that hold it; the last column,
    # of ones, counts the days of the follower itself.
    weighted = np.c_[residual, np.ones(len(residual))] / scale[:, None]
    running = np.vstack([np.zeros(weighted.shape[1]), np.cumsum(weighted, axis=0)])
    step = np.arange(first[0], last.max())
    begun, over = (np.searchsorted(edge, step, side="right") for edge in (first, last))
    step, begun, over = (part[begun > over] for part in (step, begun, over))
    held = running[begun] - running[over]  # (n_steps, K + 1)
    length = DAY if span >= MIN_BLOCKS * DAY else max(span / MIN_BLOCKS, 1)
    block = np.unique(clock[left[step]] // length, return_inverse=True)[1]
    information = _sum_by(block, (held * volatility[step, None]) ** 2)
    n_effective = information.sum(axis=0) ** 2 / _positive((information**2).sum(axis=0))
    shock = returns[step] / volatility[step]
    shock = (shock - shock.mean()) * volatility[step]
    scores = _sum_by(block, held[:, :-1] * shock[:, None])  # (n_blocks, K)

    power = np.sqrt((scores**2).sum(axis=0))
    t = scores.sum(axis=0) / _positive(power)
    energy = _positive((residual**2).sum(axis=0))
    slope = scores.sum(axis=0) / energy
    explained = np.zeros_like(scores)  # what a slope of this size explains of each day's score
    np.add.at(explained, block[np.searchsorted(step, first)], residual**2 * slope)
    result["inactive"][active] = False
    result["n_effective"][:] = n_effective[-1]
    result["n_effective"][active] = n_effective[:-1]
    result["tested"] = result["n_effective"] >= MIN_EFFECTIVE
    use = result["tested"][active]
    for name, values in {
        "t": t,
        "p_value": np.where(power > 0, stats.t.sf(t, np.maximum(n_effective[:-1] - 1, 1)), 1.0),
        "slope": slope,
        "slope_error": np.sqrt(((scores - explained) ** 2).sum(axis=0)) / energy,
    }.items():
        result[name][active[use]] = values[use]
    return result


def known_steps(closes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each step between known closes: first row, log return, volatility known before it.

    A step across a gap (longer than the median step) is larger than an ordinary one; the typical
    ratio enters its volatility.
    """
    rows = np.flatnonzero(np.isfinite(closes))
    returns, width = np.diff(np.log(closes[rows])), np.diff(rows)
    gap = width > np.median(width)
    usual = np.ones(len(returns))
    if gap.any():
        across, ordinary = _typical_square(returns[gap]), _typical_square(returns[~gap])
        usual[gap] = max(np.sqrt(across / ordinary), 0.2) if ordinary > 0 else 1.0
    return rows[:-1], returns, usual * _volatility_before(returns / usual)


def _typical_square(returns: np.ndarray) -> float:
    """Median square of the returns that moved, times their share: half may be exactly 0."""
    moved = returns[np.abs(returns) > ROUNDING]
    return np.median(moved**2) * len(moved) / len(returns) if len(moved) else 0.0


def _volatility_before(returns: np.ndarray) -> np.ndarray:
    """Exponentially weighted deviation of the returns before each, at least a tenth of usual."""
    keep = 0.5 ** (1 / VOLATILITY_HALF_LIFE)
    squares = np.c_[returns**2, np.ones_like(returns)]
    recent, weight = signal.lfilter([1.0], [1.0, -keep], squares, axis=0).T
    so_far = np.cumsum(returns**2) / np.arange(1, len(returns) + 1)
    variance = np.maximum(recent / weight, 1e-2 * so_far)
    # the first bar has no past: it gets the estimate after one half-life
    variance = np.append(variance[: int(VOLATILITY_HALF_LIFE) + 1][-1], variance[:-1])
    least = variance[variance > 0].min() if (variance > 0).any() else 1.0
    return np.sqrt(np.maximum(variance, least))


def _clipped(columns: np.ndarray) -> np.ndarray:
    """Clip columns at CLIP root mean squares, twice: the first ones hold the outliers."""
    for _ in range(2):
        bound = CLIP * np.sqrt((columns**2).mean(axis=0))
        columns = np.clip(columns, -bound, bound)
    return columns


def _residualised(columns: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """Residual of each column on the others and on ``nuisance``.

    Beyond one regressor per twenty rows, the smallest columns enter as one sum.
    """
    n_rows, n_columns = columns.shape
    size = np.sqrt((columns**2).mean(axis=0))
    most = max(n_rows // ROWS_PER_REGRESSOR - nuisance.shape[1], 1)
    single, rest = np.split(np.argsort(-size, kind="stable"), [min(most, n_columns)])
    total = columns[:, rest].sum(axis=1, keepdims=True)[:, : len(rest) > 0]
    design = np.hstack([columns[:, single], nuisance, total])
    design = design / _positive(np.sqrt((design**2).mean(axis=0)))
    residual = np.empty_like(columns)
    bread = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True)[:, : len(single)]
    residual[:, single] = design @ bread / _positive(np.diag(bread)) * size[single]
    if len(rest):
        design = design[:, :-1]
        both = np.hstack([columns[:, rest], total])
        bread = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True)
        both = both - design @ (bread @ (design.T @ both))
        own, others = both[:, :-1], both[:, -1:] - both[:, :-1]
        share = (own * others).sum(axis=0) / _positive((others**2).sum(axis=0))
        residual[:, rest] = own - share * others
    return residual


def _positive(values: np.ndarray) -> np.ndarray:
    """Replace what is not above 0 by 1, to divide by."""
    return np.where(values > 0, values, 1.0)


def _sum_by(block: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum the rows of each block, (n_blocks, n_columns); blocks are in order and none is empty."""
    return np.add.reduceat(values, np.flatnonzero(np.diff(block, prepend=-1)), axis=0)


@dataclass(frozen=True)
class RobustFit:
    """Regression with heteroskedasticity- and autocorrelation-robust errors."""

    slope: np.ndarray  #: (n_regressors,): coefficients, without the intercept
    error: np.ndarray  #: (n_regressors,): their standard errors
    covariance: np.ndarray  #: (n_regressors, n_regressors)
    #: (n_regressors,): effective degrees of freedom of each error: small where a few outliers
    #: decide
    freedom: np.ndarray

    @property
    def t(self) -> np.ndarray:
        """Slope over error, 0 where the error is 0."""
        nothing = np.zeros_like(self.slope)
        return np.divide(self.slope, self.error, out=nothing, where=self.error > 0)

    def wald(self, columns: ArrayLike) -> float:
        """Return the p-value of "these slopes are all zero": an F test, or chi-squared."""
        columns = np.asarray(columns)
        part, slope = self.covariance[np.ix_(columns, columns)], self.slope[columns]
        statistic = float(slope @ np.linalg.pinv(part, hermitian=True) @ slope)
        freedom = self.freedom[columns].mean()
        if np.isinf(freedom):
            return float(stats.chi2.sf(statistic, len(columns)))
        return float(stats.f.sf(statistic / len(columns), len(columns), freedom))


def newey_west_lags(n_rows: int, horizon: int = 1) -> int:
    """Number of autocovariances: a rule by length, and beyond the overlap of targets."""
    # the triangular kernel halves the far autocovariances of overlapping targets, so half again
    return max(int(4 * (n_rows / 100) ** (2 / 9)), int(np.ceil(1.5 * (horizon - 1))))


def long_run_settings(
    n_rows: int, horizon: int = 1, lags: int | None = None
) -> tuple[int, float, float]:
    """Lags of the Newey-West error of a mean, its degrees of freedom, and what divides it.

    By default ``1.3 n^(1/2)`` lags or two overlaps, whichever is more; at most ``1.5 n / (lags +
    1)`` degrees of freedom (Lazarus and others, 2018); the divisor is Harvey's, for overlaps.
    """
    check_int("horizon", horizon)
    n, least = n_rows, max(LEAST_ROWS, horizon + 1)
    if n < least:
        raise InvalidInputError(f"at least {least} rows must be known, got {n}")
    if lags is None:
        lags = min(n - 1, max(int(1.3 * np.sqrt(n)), 2 * (horizon - 1)))
    check_int("lags", lags, at_least=0)
    divisor = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    return lags, min(n - 1, 1.5 * n / (lags + 1)), float(divisor)


def robust_regression(
    target: ArrayLike, regressors: ArrayLike, *, lags: int = 0, leverage: bool = False
) -> RobustFit:
    """Regression with intercept and White's or Newey-West errors.

    Parameters
    ----------
    target : array-like of shape (n,)
        Finite numbers.
    regressors : array-like of shape (n, n_regressors)
        Finite numbers; more rows than coefficients.
    lags : int
        Autocovariances counted, with the triangular (Bartlett) kernel; 0 is White's estimator.
    leverage : bool
        Divide each residual by one minus its leverage (HC3): an outlier pulls the fit towards
        itself and would hide its own error.

    Returns
    -------
    RobustFit
        ``freedom`` is Satterthwaite's count of the rows that carry most of the error,
        ``2 (sum s²)² / (sum s⁴ - (sum s²)² / n)`` for the score ``s`` of each row.

    References
    ----------
    White (1980), Econometrica 48. Newey and West (1987), Econometrica 55. MacKinnon and White
    (1985), Journal of Econometrics 29.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> float(robust_regression(2 * x + 1, x[:, None]).slope[0].round(6))
    2.0
    """
    y = check_array("target", target, (None,))
    x = check_array("regressors", regressors, (len(y), None))
    check_int("lags", lags, at_least=0)
    n_rows, n_slopes = x.shape
    for name, values in (("target", y), ("regressors", x)):
        if not np.isfinite(values).all():
            raise InvalidInputError(f"{name} must be finite")
    if n_rows <= n_slopes + 1:
        raise InvalidInputError(f"{n_rows} rows cannot determine {n_slopes + 1} coefficients")
    spread = x.std(axis=0)
    # standardise for a well-conditioned inverse; a constant column gets slope and error 0
    idle = spread <= 1e-12 * np.abs(x).max(axis=0)
    spread = np.where(idle, 1.0, spread)
    centred = np.where(idle, 0.0, (x - x.mean(axis=0)) / spread)
    design = np.column_stack([centred, np.ones(n_rows)])
    bread = np.linalg.pinv(design.T @ design, hermitian=True)
    coefficient = bread @ (design.T @ y)
    coefficient[:-1][idle] = 0.0
    residual = y - design @ coefficient
    inflation = n_rows / (n_rows - n_slopes - 1)
    if leverage:
        pull = np.einsum("ij,jk,ik->i", design, bread, design)
        residual, inflation = residual / (1 - np.minimum(pull, 0.99)), 1.0
    moments = design * residual[:, None]
    covariance = bread @ long_run_covariance(moments, lags) @ bread * inflation
    freedom = _effective_freedom(moments @ bread)[:-1]
    covariance = covariance[:-1, :-1] / np.outer(spread, spread)
    covariance[idle] = covariance[:, idle] = 0.0
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return RobustFit(coefficient[:-1] / spread, error, covariance, freedom)


def mean_error(values: ArrayLike, lags: int = 0) -> float:
    """Newey-West standard error of a mean: NaN where all values are the same but 0, which is 0."""
    values = np.asarray(values, float)
    if is_constant(values):  # so few that none differs, or perfect: nothing to measure an error by
        return np.nan if values.any() else 0.0
    centred = values - values.mean()
    variance = float(long_run_covariance(centred[:, None], lags)[0, 0])
    return float(np.sqrt(max(variance, 0.0)) / len(values))


def long_run_error(values: np.ndarray, horizon: int = 1) -> float:
    """Standard error of a mean of rows whose targets overlap: 1.96 to each side hold 95 %.

    The settings are :func:`long_run_settings`; the error is larger by the ratio of Student's to the
    normal quantile, as few independent rows ask. NaN where rows are too few.
    """
    if len(values) < max(LEAST_ROWS, horizon + 1):
        return float("nan")
    lags, freedom, divisor = long_run_settings(len(values), horizon)
    widen = float(stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975))
    return mean_error(values, lags) / divisor * widen


def robust_mean_t(values: ArrayLike, lags: int = 0) -> float:
    """t statistic of the mean with the errors of :func:`mean_error`; 0 where all values are 0."""
    error = mean_error(values, lags)
    return float(np.mean(values) / error) if error else 0.0


def is_constant(values: np.ndarray) -> bool:
    """Whether all values are the same, but for rounding."""
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def benjamini_hochberg(p_values: ArrayLike) -> np.ndarray:
    """Benjamini-Hochberg q-values: smallest false discovery rate at which each p is claimed.

    Parameters
    ----------
    p_values : array-like
        Any shape, in [0, 1].

    Returns
    -------
    ndarray
        Same shape, in the same order.

    References
    ----------
    Benjamini and Hochberg (1995), "Controlling the False Discovery Rate", JRSS B 57(1).

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.5]).round(3).tolist()
    [0.03, 0.06, 0.5]
    """
    p = check_array("p_values", p_values, None)
    if not ((p >= 0) & (p <= 1)).all():
        raise InvalidInputError("p_values must be numbers between 0 and 1")
    return stats.false_discovery_control(p, axis=None).reshape(p.shape)


def _effective_freedom(scores: np.ndarray) -> np.ndarray:
    """Satterthwaite's degrees of freedom of the mean square of each column, at least 1."""
    power = (scores**2).sum(axis=0)
    surplus = (scores**4).sum(axis=0) - power**2 / len(scores)
    ratio = np.divide(2 * power**2, surplus, out=np.full_like(power, np.inf), where=surplus > 0)
    return np.clip(ratio, 1.0, len(scores))


def long_run_covariance(moments: np.ndarray, lags: int) -> np.ndarray:
    """Sum of autocovariances of the rows, with the triangular kernel."""
    total = moments.T @ moments
    for lag in range(1, min(lags, len(moments) - 1) + 1):
        cross = moments[lag:].T @ moments[:-lag]
        total += (1 - lag / (lags + 1)) * (cross + cross.T)
    return total
