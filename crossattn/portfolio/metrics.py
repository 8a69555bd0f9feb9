"""Performance metrics of a return series: CAGR, volatility, Sharpe, Sortino, drawdown, Calmar.

Built in chapter: Backtesting.
"""

import numpy as np
import pandas as pd

from crossattn._validation import check_array, check_float
from crossattn.errors import InvalidInputError

DAY, WEEK = pd.Timedelta(days=1), pd.Timedelta(days=7)
REST = pd.Timedelta(hours=40)  # that a market which rests at weekends is closed in a row


def compute_metrics(
    returns: pd.Series | np.ndarray, *, periods_per_year: float | None = None
) -> dict[str, float]:
    """Performance metrics of net simple returns.

    Parameters
    ----------
    returns : Series or ndarray of shape (T,)
        Net simple return of each bar, fractions, no NaN, at least two.
    periods_per_year : float, optional
        Bars a year. None: inferred from the index (see
        :func:`~crossattn.portfolio.metrics.infer_periods_per_year`) and reported in the result.

    Returns
    -------
    dict
        ``total_return``; ``annual_return`` (compound, CAGR; NaN, with the Calmar ratio, over less
        than a week, which is too short to compound over a year); ``volatility`` (annual, ddof 1);
        ``sharpe_ratio``; ``sortino_ratio``; ``max_drawdown`` (at most 0, from the initial wealth
        of 1 on, so a loss on the first bar counts); ``calmar_ratio``; ``win_rate`` (winning bars
        among those that won or lost); ``periods_per_year``.

    Raises
    ------
    InvalidInputError
        NaN or infinite returns, fewer than two, or bars a year that can be neither inferred nor
        used.

    Notes
    -----
    With r the returns, m their mean and P the bars a year: volatility = sd(r) √P,
    Sharpe = m P / volatility, Sortino = m P / (√mean(min(r, 0)²) √P) where the mean runs over *all*
    bars, CAGR = Π(1 + r)^(P/T) - 1, Calmar = CAGR / -(maximum drawdown). The risk-free rate is 0.
    A ratio whose risk is 0 is ±inf by the sign of its numerator, and 0 where both are 0. Wealth
    that is lost entirely (or more) stays lost, whatever returns follow, and has CAGR -1.

    Built in chapter: Backtesting.

    References
    ----------
    Sharpe (1994), "The Sharpe ratio". Sortino and van der Meer (1991), "Downside risk".

    Examples
    --------
    >>> figures = compute_metrics(np.array([0.01, -0.02, 0.03]), periods_per_year=252)
    >>> round(figures["total_return"], 6), round(figures["max_drawdown"], 6)
    (0.019494, -0.02)
    """
    values = check_returns(returns)
    periods = check_periods(returns, periods_per_year)
    with np.errstate(over="ignore"):
        wealth = np.concatenate([[1.0], np.cumprod(1 + values)])
    if np.isinf(wealth).any():
        raise InvalidInputError(f"returns must be of one bar, a fraction, got {values.max():g}")
    if (wealth <= 0).any():
        ruin = np.argmax(wealth <= 0)
        wealth[ruin:] = wealth[ruin]
    drawdown = wealth / np.maximum.accumulate(wealth) - 1
    mean, deviation = values.mean(), values.std(ddof=1)
    if deviation <= 1e-15 * np.abs(values).max():
        deviation = 0.0
    downside = np.sqrt((np.minimum(values, 0) ** 2).mean())
    final, root = wealth[-1], np.sqrt(periods)
    years = len(values) / periods
    growth = -1.0
    if final > 0:  # six hours of luck, compounded over a year, are 10^295 per cent
        is_short = years < WEEK / pd.Timedelta(days=365.25)
        growth = np.nan if is_short else final ** (1 / years) - 1
    decided = np.count_nonzero(values)
    return {
        "total_return": float(final - 1),
        "annual_return": float(growth),
        "volatility": float(deviation * root),
        "sharpe_ratio": _ratio(mean * root, deviation),
        "sortino_ratio": _ratio(mean * root, downside),
        "max_drawdown": float(drawdown.min()),
        "calmar_ratio": _ratio(growth, -drawdown.min()),
        "win_rate": float((values > 0).sum() / decided) if decided else 0.0,
        "periods_per_year": periods,
    }


def infer_periods_per_year(index: pd.Index) -> float:
    """Bars a year of a series with this index.

    Parameters
    ----------
    index : DatetimeIndex
        Bar times, increasing, at least two; of opens or of closes, in any time zone.

    Returns
    -------
    float
        Weekly 52, monthly 12, quarterly 4, yearly 1. Round the clock: 365 days over the spacing. A
        market that rests at weekends: 252 days of its bars a day. Anything else, such as the union
        of several markets' clocks: the bars that the elapsed time really had, times 365.25 days.

    Notes
    -----
    From two weeks on the hours of the week decide: a market rests at weekends where 40 hours of the
    week or more never had a bar, whatever the time zone, and trades round the clock where no step
    of the week was always empty. The elapsed time wins over both where there are far fewer bars: a
    year of 245 sessions, hours of which a fifth are missing. In a shorter series a weekend is a
    break of 40 hours or, where it may not have come yet, no bar on a Saturday or Sunday.

    Examples
    --------
    >>> infer_periods_per_year(pd.date_range("2024-01-01", periods=1000, freq="h", tz="UTC"))
    8760.0
    >>> infer_periods_per_year(pd.bdate_range("2024-01-01", periods=100))
    252.0
    """
    if not isinstance(index, pd.DatetimeIndex) or len(index) < 2:
        raise InvalidInputError(
            "periods_per_year cannot be inferred without two times or more: give it as a number, "
            f"got {type(index).__name__} of length {len(index)}"
        )
    if not (index.is_monotonic_increasing and index.is_unique):
        raise InvalidInputError("returns must be sorted by time, without duplicates")
    steps = pd.Series(index[1:] - index[:-1])
    spacing = steps.mode().iloc[0]
    days = spacing / DAY
    for low, high, periods in ((6, 8, 52), (27, 32, 12), (88, 93, 4), (360, 370, 1)):
        if low <= days <= high:
            return float(periods)
    if days >= 1.5:
        return float(365.25 / days)
    if index[-1] - index[0] >= 2 * WEEK:
        return _from_weeks((index - index[0]) / DAY, days)
    return _from_days(index, days, steps.max() - spacing >= REST)


def _from_weeks(time: pd.Index, spacing: float) -> float:
    """Bars a year of two weeks or more, by the hours of the week that have bars; all in days."""
    n_weeks = int(time[-1] // 7)
    by_week = np.bincount(((time[-1] - time) // 7).astype(int))[:n_weeks]
    elapsed = by_week.mean() * 365.25 / 7
    of_week = np.unique(np.round(time % 7, 6))
    longest = np.diff(of_week, append=of_week[0] + 7).max()  # stretch of the week without a bar
    on_grid = np.abs(time / spacing - np.round(time / spacing)).max() < 0.01
    bars_a_week, usual, least = np.median(by_week), np.inf, 0.8
    if longest - spacing >= REST / DAY and bars_a_week * spacing < 5.01:
        usual, least = 252 / 5 * bars_a_week, 0.98 if time[-1] >= 365 else 0.0
    elif on_grid and longest < 1.5 * spacing:
        usual = 365 / spacing
    return float(usual if least * usual <= elapsed else elapsed)


def _from_days(index: pd.DatetimeIndex, spacing: float, rests_weekly: bool) -> float:
    """Bars a year of less than two weeks: of full days, or of the median session."""
    # a bar that closes at midnight belongs to the day that ends then
    dated = (index, index - pd.Timedelta(1, "ns"))
    rests_weekly |= any((each.day_of_week < 5).all() for each in dated) and (
        spacing >= 0.75 or index[-1] - index[0] >= WEEK
    )
    if spacing >= 0.75:
        return 252.0 if rests_weekly else 365.0
    dates, slots = index.normalize(), 1 / spacing
    if index[-1] - index[0] >= DAY and (index - dates).nunique() < 0.9 * slots:
        weekend = (index.day_of_week >= 5).mean() > 0.05
        return float((365 if weekend else 252) * dates.value_counts().median())
    return float((252 if rests_weekly else 365) * slots)


def check_returns(returns: pd.Series | np.ndarray) -> np.ndarray:
    """Return ``returns`` as a float array of shape (T,), or raise what is wrong with it."""
    values = check_array("returns", returns, (None,))
    if len(values) < 2:
        raise InvalidInputError(f"returns must have two values or more, got {len(values)}")
    if not np.isfinite(values).all():
        wrong = np.flatnonzero(~np.isfinite(values))
        raise InvalidInputError(
            f"returns must be finite, got {values[wrong[0]]} at position {wrong[0]} "
            f"({len(wrong)} in all)"
        )
    return values


def check_periods(returns: pd.Series | np.ndarray, periods_per_year: float | None) -> float:
    """Bars a year: the given number, or inferred from the index of ``returns``."""
    if periods_per_year is None:
        has_index = isinstance(returns, pd.Series)
        return infer_periods_per_year(returns.index if has_index else pd.RangeIndex(len(returns)))
    return check_float("periods_per_year", periods_per_year, above=0)


def _ratio(gain: float, risk: float) -> float:
    """gain / risk, ±inf where there is gain without risk, 0 where there is neither."""
    if np.isnan(gain):
        return np.nan
    if risk > 0:
        return float(gain / risk)
    return float(np.sign(gain) * np.inf) if gain else 0.0
