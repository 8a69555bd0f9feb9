"""What is forecast before any token is read: a drift, and effects of hour and weekday.

Built in chapter: The full model.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from crossattn.tokens.sparse import TARGET_CLIP

DRIFT_CAUTION = 2.0
CALENDAR_LEVEL = 0.001  # of the tests that let a calendar in
CALENDAR_ROWS = 20  # fewest independent rows behind a mean


@dataclass(frozen=True)
class Calendar:
    """Seasonality: effects of hour and weekday (UTC) of a window's last close."""

    hours: np.ndarray  #: (24, n_assets), or (24, 1) where all share them
    weekdays: np.ndarray  #: (7, n_assets) or (7, 1)

    def at(self, hour: np.ndarray, weekday: np.ndarray) -> np.ndarray:
        """Return the seasonal effect, ``(n, n_assets)`` or ``(n, 1)``."""
        return self.hours[hour] + self.weekdays[weekday]


def common_drift(target: np.ndarray, volatility: np.ndarray, overlap: int = 1) -> np.ndarray:
    """Return one drift for all assets, ``(n_assets,)``, in units of each one's volatility, shrunk.

    Assets drift by luck far more than they differ: only what all share may become an intercept,
    and that only where its t-statistic, clustered by row, is well above one.
    """
    y = np.clip(target / volatility, -TARGET_CLIP, TARGET_CLIP)
    mean, error = _shared_mean(y, overlap)
    kept = max(0.0, 1.0 - DRIFT_CAUTION * (error / mean) ** 2) if mean else 0.0
    return kept * mean * _usual_volatility(y, volatility)


def calendar_drift(
    target: np.ndarray,
    volatility: np.ndarray,
    hour: np.ndarray,
    weekday: np.ndarray,
    overlap: int = 1,
) -> Calendar:
    """Return how the drift differs by hour and weekday, shrunk; all 0 where that may be luck.

    Parameters
    ----------
    target, volatility : ndarray of shape (n, n_assets)
        Returns, NaN where unknown, and what they are divided by.
    hour, weekday : ndarray of int, shape (n,)
        Of each row's close, UTC.
    overlap : int
        Rows over which one target extends.

    Notes
    -----
    First what all assets share, then what each differs from it. A pattern keeps what a test of all
    its cells at .1 % leaves (James and Stein's shrinkage with the quantile for the mean); a cell
    that stands out alone, what its own test at .1 % of any cell leaves.

    References
    ----------
    Heston, Korajczyk and Sadka (2010), "Intraday patterns in the cross-section of stock returns".
    """
    y = np.clip(target / volatility, -TARGET_CLIP, TARGET_CLIP)
    usual = _usual_volatility(y, volatility)
    patterns = []
    for place, size in ((hour, 24), (weekday, 7)):
        pattern = _pattern(y, place, size, overlap)
        y = y - pattern[place]
        patterns.append(pattern * usual)
    return Calendar(*patterns)


def _pattern(y: np.ndarray, place: np.ndarray, size: int, overlap: int) -> np.ndarray:
    """Return the shrunk mean of each place, ``(size, n_assets)``, less that of all places."""
    pattern = np.zeros((size, y.shape[1]))
    places, count = np.unique(place[np.isfinite(y).any(1)], return_counts=True)
    places = places[count >= CALENDAR_ROWS * overlap]
    if len(places) < 2:
        return pattern
    for mean_of, left in ((_shared_mean, y), (_own_means, y - _row_means(y))):
        left = left - mean_of(left, overlap)[0]
        mean, error = (
            np.reshape(x, (len(places), -1))
            for x in zip(*(mean_of(left[place == each], overlap) for each in places), strict=True)
        )
        score = mean / np.maximum(error, 1e-12)  # 0 where too few values are known
        kept = _kept(score, left if mean.shape[1] > 1 else left[:, :1])
        pattern[places] += np.where(score, kept * mean, 0.0)
    return pattern


def _kept(score: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return the share of each mean to keep, of its standard scores (places, columns).

    The sum of their squares is judged by Satterthwaite's chi-square, as columns of ``left``, from
    which the means are, move together.
    """
    square = np.maximum(score**2, 1e-12)
    alone = 1.0 - chdtri(1, CALENDAR_LEVEL / square.size) / square
    columns = np.nan_to_num(left)
    columns = columns / np.maximum(np.sqrt((columns**2).sum(0)), 1e-12)
    spread = max(np.square(columns.T @ columns).sum() / columns.shape[1], 1.0)
    freedom = (len(score) - 1) * columns.shape[1] / spread
    together = 1.0 - spread * chdtri(freedom, CALENDAR_LEVEL) / square.sum()
    return np.maximum(alone, max(together, 0.0))


def _shared_mean(y: np.ndarray, overlap: int) -> tuple[float, float]:
    """Return the mean of ``y`` (n, n_assets), NaN unknown, and its error clustered by row."""
    known = np.isfinite(y)
    count = max(known.sum(), 1)
    together = np.where(known, y, 0.0).sum(1)
    mean = together.sum() / count
    error = np.sqrt(overlap * ((together - mean * known.sum(1)) ** 2).sum()) / count
    return float(mean), float(error)


def _own_means(y: np.ndarray, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each column, 0 where nothing is known, and its standard error.

    The error is infinite where too few values are known to tell it.
    """
    known = np.isfinite(y)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, y, 0.0).sum(0) / count
    error = np.sqrt(overlap * (np.where(known, y - mean, 0.0) ** 2).sum(0)) / count
    return mean, np.where(count >= CALENDAR_ROWS * overlap, error, np.inf)


def _row_means(y: np.ndarray) -> np.ndarray:
    """Return the mean over the assets that are known in each row, ``(n, 1)``."""
    known = np.isfinite(y)
    return (np.where(known, y, 0.0).sum(1) / np.maximum(known.sum(1), 1))[:, None]


def _usual_volatility(y: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """Return the harmonic mean of each asset's volatility where its target is known, else 0."""
    known = np.isfinite(y)
    weight = np.where(known, 1.0 / volatility, 0.0).sum(0)
    return np.divide(known.sum(0), weight, out=np.zeros(y.shape[1]), where=weight > 0)
