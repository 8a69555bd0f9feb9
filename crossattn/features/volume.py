"""Relative volume: one definition, shared by the feature of that name and the simulator's gates."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd

Wide = TypeVar("Wide", pd.Series, pd.DataFrame)

HALF_LIFE = 20


def relative_volume(volume: Wide, half_life: float = HALF_LIFE) -> Wide:
    """Return how far log volume lies above its own recent mean.

    Parameters
    ----------
    volume : Series or DataFrame of shape (n_rows, n_symbols)
        Traded volume a bar, in any unit; rows in time order.
    half_life : float
        Of the exponentially weighted mean, in bars of the symbol.

    Returns
    -------
    like ``volume``
        ``log v[t]`` minus the exponentially weighted mean of ``log v`` up to ``t - 1``; known at
        the close of bar t. NaN where the bar, its volume or its past is missing.

    Notes
    -----
    A zero volume has no logarithm: it is NaN itself, and the mean skips it, as it skips missing
    bars, so that a night without trading does not age the mean.

    Built in chapter: Features without look-ahead.

    Examples
    --------
    >>> relative_volume(pd.Series([1.0, 1.0, 0.0, np.e])).tolist()
    [nan, 0.0, nan, 1.0]
    """
    logs = np.log(volume.where(volume > 0))
    mean = logs.ewm(halflife=half_life, ignore_na=True).mean()
    return logs - mean.shift(1)
