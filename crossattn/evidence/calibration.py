"""Trading signals from predictions, and calibration of probabilities (reliability diagrams).

Built in chapter: Prediction and heat-maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import softmax

from crossattn._validation import check_choice
from crossattn.errors import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGNALS = ("down", "neutral", "up")


def to_signals(
    predictions: ArrayLike,
    symbols: Sequence[str],
    *,
    output_type: str = "regression",
    band: float = 0.0,
) -> pd.DataFrame:
    """Turn one window's predictions into signals: down, neutral or up, strength, target weight.

    Parameters
    ----------
    predictions : array-like of shape (n_assets,) or (n_assets, 3)
        Output of ``predict`` for one window: returns, weights, or logits of down, neutral, up.
        A NaN is neutral.
    symbols : sequence of str
    output_type : {"regression", "classification", "portfolio"}
        Which head the predictions come from.
    band : float
        Returns or weights closer to zero than this are neutral.

    Returns
    -------
    DataFrame
        By symbol: ``signal``, ``strength`` (size of the return or weight, or probability of the
        class) and ``target_weight`` (the weight itself, or the signed strengths scaled to a gross
        exposure of 1; all 0 where every signal is neutral).

    Raises
    ------
    InvalidInputError
        The shape does not fit, or the output type is unknown.

    Examples
    --------
    >>> to_signals([0.002, -0.0001, -0.001], ["A", "B", "C"], band=0.0005)["signal"].tolist()
    ['up', 'neutral', 'down']
    """
    values = np.asarray(predictions, float)
    expected = (len(symbols), 3) if output_type == "classification" else (len(symbols),)
    check_choice("output_type", output_type, ("regression", "classification", "portfolio"))
    if values.shape != expected:
        raise InvalidInputError(f"predictions must have shape {expected}, got {values.shape}")
    if output_type == "classification":
        odds = softmax(values, axis=1)
        side, strength = odds.argmax(axis=1) - 1, odds.max(axis=1)
    else:
        side = np.where(np.abs(values) > band, np.sign(values), 0).astype(int)
        strength = np.abs(values)
    known = np.isfinite(strength)
    side = np.where(known, side, 0)
    exposure = side * np.where(known, strength, 0.0)
    scaled = exposure / (np.abs(exposure).sum() or 1.0)
    weight = values if output_type == "portfolio" else scaled
    return pd.DataFrame(
        {
            "signal": [SIGNALS[s + 1] for s in side],
            "strength": strength,
            "target_weight": weight,
        },
        index=pd.Index(symbols, name="symbol"),
    )


def up_probability(forecast: ArrayLike, volatility: ArrayLike) -> np.ndarray:
    """Probability of a positive return, from a forecast and its volatility, under normal noise."""
    return stats.norm.cdf(np.asarray(forecast, float) / np.asarray(volatility, float))


def reliability(probability: ArrayLike, happened: ArrayLike, *, n_bins: int = 10) -> pd.DataFrame:
    """Reliability table: predicted probabilities against observed frequencies.

    Parameters
    ----------
    probability : array-like
        In [0, 1]; NaN cells are left out.
    happened : array-like
        Whether the event happened: same shape; NaN cells are left out.
    n_bins : int
        Bins of equal count.

    Returns
    -------
    DataFrame
        One row per bin: ``predicted`` (mean probability), ``observed`` (frequency), ``low`` and
        ``high`` (95 % Wilson interval of it) and ``count``.

    Raises
    ------
    InvalidInputError
        Shapes differ, probabilities outside of [0, 1], or fewer cells than bins.

    Notes
    -----
    Assets that move together and overlapping horizons make the intervals too narrow: thin the
    windows.

    References
    ----------
    Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22.

    Examples
    --------
    >>> table = reliability([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 1], n_bins=2)
    >>> table["observed"].tolist()
    [0.0, 1.0]
    """
    p, happened = np.asarray(probability, float), np.asarray(happened, float)
    if p.shape != happened.shape:
        raise InvalidInputError(f"happened must have shape {p.shape}, got {happened.shape}")
    known = np.isfinite(p) & np.isfinite(happened)
    p, happened = p[known], happened[known]
    if len(p) < n_bins or n_bins < 1:
        raise InvalidInputError(f"n_bins must be 1 to {len(p)}, the number of cells, got {n_bins}")
    if ((p < 0) | (p > 1)).any():
        raise InvalidInputError("probability must lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    rows = []
    for cells in np.array_split(order, n_bins):
        count, events = len(cells), int(happened[cells].sum())
        interval = stats.binomtest(events, count).proportion_ci(method="wilson")
        rows.append((p[cells].mean(), events / count, interval.low, interval.high, count))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "count"])


def plot_reliability(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Reliability diagram: observed frequencies against predicted probabilities."""
    from crossattn.figures import new_axes

    ax = new_axes(ax, figsize=(4.2, 4.0))
    ends = [table["predicted"].min(), table["predicted"].max()]
    ax.plot(ends, ends, color="grey", linestyle=":", label="calibrated")
    errors = [table["observed"] - table["low"], table["high"] - table["observed"]]
    ax.errorbar(table["predicted"], table["observed"], yerr=errors, fmt="o", label="observed")
    ax.set(xlabel="predicted probability", ylabel="observed frequency")
    ax.legend()
    return ax
