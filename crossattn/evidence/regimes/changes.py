"""Changes: of an attention map, of a score; and when a model should be fitted again."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn.errors import InvalidInputError, MissingDependencyError


def attention_shift(
    attention: ArrayLike, times: pd.DatetimeIndex, *, fast: float = 24.0, slow: float = 480.0
) -> pd.Series:
    """Measure how far today's attention map is from that of the past months.

    Parameters
    ----------
    attention : array-like of shape (n, N, N) or (n, N, N, L)
        Attention of each moment; the sources of a row sum to 1, or to 0 where all was masked.
    times : DatetimeIndex of shape (n,)
        When each map is known.
    fast, slow : float
        Half-lives, in maps, of today's map and of the one it is held against.

    Returns
    -------
    Series of shape (n,)
        Jensen-Shannon divergence in bits, averaged over followers, in [0, 1].

    Raises
    ------
    InvalidInputError
        The shapes do not fit, or ``fast`` is not below ``slow``.

    Notes
    -----
    Attention tells the state that it is fed, no more: where only the graph changes, and the model
    was fitted before, this score stays where it was. The chapter measures it.

    Built in chapter: Regimes and walk-forward.

    Examples
    --------
    >>> calm, other = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
    >>> maps = np.stack([calm] * 50 + [other] * 50)
    >>> times = pd.date_range("2024-01-01", periods=100, freq="h", tz="UTC")
    >>> shift = attention_shift(maps, times, fast=2, slow=50)
    >>> float(shift.iloc[49]), bool(shift.iloc[60] > 0.2)
    (0.0, True)
    """
    maps = np.asarray(attention, float)
    if maps.ndim not in (3, 4) or len(maps) != len(times):
        raise InvalidInputError(
            f"attention must be (n, N, N) or (n, N, N, L) with n = {len(times)}, got {maps.shape}"
        )
    if not 0 < fast < slow:
        raise InvalidInputError(f"fast must be above 0 and below slow, got {fast} and {slow}")
    flat = pd.DataFrame(maps.reshape(len(maps), -1))
    shape = (len(maps), maps.shape[1], -1)
    now = flat.ewm(halflife=fast).mean().to_numpy().reshape(shape)
    past = flat.ewm(halflife=slow).mean().to_numpy().reshape(shape)
    middle = (now + past) / 2
    divergence = (_relative_entropy(now, middle) + _relative_entropy(past, middle)) / 2
    return pd.Series(divergence.mean(axis=1), index=times, name="attention_shift")


def refit_times(
    alarms: pd.Series, *, at_least: int = 500, at_most: int | None = None
) -> pd.DatetimeIndex:
    """Choose when to fit again: at an alarm, but neither too often nor too seldom.

    Parameters
    ----------
    alarms : Series of bool of shape (T,)
        Known at its index, such as the ``alarm`` of
        :func:`~crossattn.evidence.regimes.correlation_breakdown`.
    at_least : int
        Bars between two refits.
    at_most : int, optional
        Refit after as many bars without an alarm; never, by default.

    Returns
    -------
    DatetimeIndex
        Moments at which a refit starts, using bars up to then.

    Raises
    ------
    InvalidInputError
        ``alarms`` is something else, or a bound is out of range.

    Examples
    --------
    >>> times = pd.date_range("2024-01-01", periods=6, freq="h", tz="UTC")
    >>> alarms = pd.Series([False, True, True, False, True, False], index=times)
    >>> refit_times(alarms, at_least=3).hour.tolist()
    [1, 4]
    """
    if not isinstance(alarms, pd.Series) or alarms.dtype != bool:
        kind = getattr(alarms, "dtype", type(alarms).__name__)
        raise InvalidInputError(f"alarms must be a Series of bool, got {kind}")
    if at_least < 1 or (at_most is not None and at_most < at_least):
        raise InvalidInputError(
            f"at_least must be 1 or more and at_most not below it, got {at_least} and {at_most}"
        )
    chosen: list[int] = []
    last = None
    for row, alarm in enumerate(np.asarray(alarms, bool)):
        since = at_least if last is None else row - last
        overdue = at_most is not None and (row if last is None else since) >= at_most
        if (alarm and since >= at_least) or overdue:
            chosen.append(row)
            last = row
    return alarms.index[chosen]


def hindsight_change_points(
    score: pd.Series, *, penalty: float = 10.0, min_size: int = 50
) -> pd.DatetimeIndex:
    """Locate changes of mean with the whole series in view: for looking back, never for trading.

    Parameters
    ----------
    score : Series of shape (T,)
        Any score of this room, without NaN.
    penalty : float
        Cost of one more change, in variances of the score.
    min_size : int
        Shortest segment, in rows.

    Returns
    -------
    DatetimeIndex
        First moment of each new segment. **Uses the future**: a change is dated by what came after.

    Raises
    ------
    MissingDependencyError
        The package ``ruptures`` is not installed.

    References
    ----------
    Killick, R., Fearnhead, P. and Eckley, I. (2012), "Optimal Detection of Changepoints With a
    Linear Computational Cost".
    """
    try:
        import ruptures
    except ImportError:
        raise MissingDependencyError(
            "change points need the package ruptures: pip install 'crossattn[book]'"
        ) from None
    values = np.asarray(score, float)
    if values.ndim != 1 or len(values) < 2 * min_size or not np.isfinite(values).all():
        raise InvalidInputError(
            f"score must be at least {2 * min_size} finite numbers, got shape {values.shape}"
        )
    scaled = (values - values.mean()) / (values.std() or 1.0)
    search = ruptures.KernelCPD(kernel="linear", min_size=min_size).fit(scaled[:, None])
    return score.index[search.predict(pen=penalty)[:-1]]


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence over the last axis, in bits; 0 log 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / q), 0.0)
    return terms.sum(axis=-1)
