"""Trading signals from predictions; calibration and log loss of probabilities.

Built in chapter: Prediction and heat-maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import softmax

from crossattn._validation import (
    check_array,
    check_arrays,
    check_choice,
    check_float,
    check_int,
    check_same_shape,
)
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import LEAST_ROWS, long_run_covariance, newey_west_lags
from crossattn.evidence.volatility import check_reference, score_table
from crossattn.figures import Axes, new_axes

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

    Examples
    --------
    >>> to_signals([0.002, -0.0001, -0.001], ["A", "B", "C"], band=0.0005)["signal"].tolist()
    ['up', 'neutral', 'down']
    """
    check_choice("output_type", output_type, ("regression", "classification", "portfolio"))
    check_float("band", band, at_least=0)
    expected = (len(symbols), 3) if output_type == "classification" else (len(symbols),)
    values = check_array("predictions", predictions, expected)
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
        {"signal": [SIGNALS[s + 1] for s in side], "strength": strength, "target_weight": weight},
        index=pd.Index(symbols, name="symbol"),
    )


def up_probability(forecast: ArrayLike, volatility: ArrayLike) -> np.ndarray:
    """Probability of a positive return, from a forecast and its volatility, under normal noise."""
    forecast = check_array("forecast", forecast, None)
    volatility = check_array("volatility", volatility, None)
    if (volatility <= 0).any():
        raise InvalidInputError(f"volatility must be above 0, got {volatility.min()}")
    return stats.norm.cdf(forecast / volatility)


def reliability(probability: ArrayLike, happened: ArrayLike, *, n_bins: int = 10) -> pd.DataFrame:
    """Reliability table: predicted probabilities against observed frequencies.

    Parameters
    ----------
    probability : array-like
        In [0, 1]; NaN cells are left out.
    happened : array-like
        Whether the event happened, 0 or 1: same shape; NaN cells are left out.
    n_bins : int
        Bins of equal count.

    Returns
    -------
    DataFrame
        One row per bin: ``predicted`` (mean probability), ``observed`` (frequency), ``low`` and
        ``high`` (95 % Wilson interval of it) and ``count``.

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
    p, happened = check_same_shape(probability=probability, happened=happened)
    known = np.isfinite(p) & np.isfinite(happened)
    p, happened = p[known], happened[known]
    if len(p) < check_int("n_bins", n_bins):
        raise InvalidInputError(f"n_bins must be 1 to {len(p)}, the number of cells, got {n_bins}")
    if ((p < 0) | (p > 1)).any():
        raise InvalidInputError("probability must lie between 0 and 1")
    if (odd := ~np.isin(happened, (0.0, 1.0))).any():
        raise InvalidInputError(f"happened must be 0 or 1, or NaN, got {happened[odd][0]}")
    order = np.argsort(p, kind="stable")
    rows = []
    for cells in np.array_split(order, n_bins):
        count, events = len(cells), int(happened[cells].sum())
        interval = stats.binomtest(events, count).proportion_ci(method="wilson")
        rows.append((p[cells].mean(), events / count, interval.low, interval.high, count))
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "count"])


def plot_reliability(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Reliability diagram: observed frequencies against predicted probabilities."""
    ax = new_axes(ax, figsize=(4.2, 4.0))
    ends = [table["predicted"].min(), table["predicted"].max()]
    ax.plot(ends, ends, color="grey", linestyle=":", label="calibrated")
    errors = [table["observed"] - table["low"], table["high"] - table["observed"]]
    ax.errorbar(table["predicted"], table["observed"], yerr=errors, fmt="o", label="observed")
    ax.set(xlabel="predicted probability", ylabel="observed frequency")
    ax.legend()
    return ax


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, and what chance alone would give."""

    error: float  #: mean distance of predicted probability and observed frequency over the bins
    by_chance: float  #: its mean if the probabilities were right
    p_value: float  #: of all bins' distances being chance (Wald)


def calibration_error(
    probability: ArrayLike, happened: ArrayLike, *, n_bins: int = 10, horizon: int = 1
) -> Calibration:
    """Expected calibration error (ECE) of probabilities, with its size by chance and a test.

    Parameters
    ----------
    probability, happened : array-like of shape (n,) or (n, N)
        In time order; NaN cells are left out.
    n_bins : int
        Bins of equal count.
    horizon : int
        Rows over which one event extends.

    Notes
    -----
    The error of a finite sample is above 0 even where every probability is right: compare it with
    ``by_chance``. The distances' covariance is Newey-West over rows, so that assets which move
    together and horizons which overlap count as what they are.

    References
    ----------
    Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.2, 0.8, (2000, 2))
    >>> happened = rng.random((2000, 2)) < p
    >>> right, sure = calibration_error(p, happened), calibration_error(p**3, happened)
    >>> right.error < 2 * right.by_chance, sure.p_value < 0.001
    (True, True)
    """
    check_int("horizon", horizon)
    reliability(probability, happened, n_bins=n_bins)  # checks all three
    p, happened = (np.atleast_1d(np.asarray(x, float)) for x in (probability, happened))
    if len(p) < LEAST_ROWS:
        raise InvalidInputError(f"probability must have {LEAST_ROWS} rows or more, got {len(p)}")
    p, happened = (x.reshape(len(x), -1) for x in (p, happened))
    known = np.isfinite(p) & np.isfinite(happened)
    missed = np.where(known, happened - p, 0.0)
    bins = np.full(p.size, -1)
    order = np.flatnonzero(known)[np.argsort(p[known], kind="stable")]
    for k, cells in enumerate(np.array_split(order, n_bins)):
        bins[cells] = k
    one_hot = bins.reshape(p.shape)[..., None] == np.arange(n_bins)
    by_row = (missed[..., None] * one_hot).sum(axis=1)  # (n, n_bins)
    covariance = long_run_covariance(by_row, newey_west_lags(len(p), horizon))
    total, spread = by_row.sum(axis=0), np.sqrt(np.maximum(np.diag(covariance), 0.0))
    wald = float(total @ np.linalg.pinv(covariance, hermitian=True) @ total)
    return Calibration(
        float(np.abs(total).sum() / known.sum()),
        float(np.sqrt(2 / np.pi) * spread.sum() / known.sum()),
        float(stats.chi2.sf(wald, n_bins)),
    )


def score_classes(
    probabilities: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    n_bins: int = 10,
    horizon: int = 1,
    reference: str | None = None,
) -> pd.DataFrame:
    """Score class probabilities side by side: log loss, accuracy, calibration.

    Parameters
    ----------
    probabilities : mapping of str to array-like of shape (n, N, K)
        Adding up to 1, such as the softmax of a network's logits; NaN where there are none.
    labels : array-like of int, shape (n, N)
        0 to K - 1; below 0 where unknown.
    n_bins : int
        Bins of :func:`calibration_error`.
    horizon, reference
        As in :func:`.score_volatility`.

    Returns
    -------
    DataFrame
        A row a forecast, over the cells that all of them forecast: ``log_loss``, ``accuracy`` (of
        the likeliest class), ``ece`` and ``ece_by_chance``, means over classes, ``calibration_p``
        (least of the classes' p-values times K); ``gain``, ``t`` and ``p_value`` of
        :func:`.diebold_mariano`: log loss of the reference less that of the row.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> law = rng.dirichlet([4, 4, 4], (1000, 2))
    >>> labels = (rng.random((1000, 2, 1)) > law.cumsum(axis=2)).sum(axis=2)
    >>> table = score_classes({"law": law, "flat": np.full_like(law, 1 / 3)}, labels)
    >>> bool(table.loc["flat", "t"] < -3)
    True
    """
    reference = check_reference(reference, probabilities, "probabilities")
    labels = check_array("labels", labels, (None, None))
    odds = check_arrays("probabilities", probabilities, (*labels.shape, None))
    for name, p in odds.items():
        if (np.abs(p.sum(axis=2) - 1) > 1e-3).any():
            raise InvalidInputError(f"probabilities: {name!r} must add up to 1 in every row")
        if (odd := (labels >= p.shape[2]) | (labels > np.floor(labels))).any():
            raise InvalidInputError(
                f"labels must be integers up to {p.shape[2] - 1}, got {labels[odd][0]:g}"
            )
    known = np.all([np.isfinite(p).all(axis=2) for p in odds.values()], axis=0) & (labels >= 0)
    label = np.where(known, labels, 0).astype(int)
    losses, rows = {}, {}
    for name, p in odds.items():
        chosen = np.take_along_axis(p, label[..., None], axis=2)[..., 0]
        losses[name] = np.where(known, -np.log(np.maximum(chosen, np.finfo(float).tiny)), np.nan)
        shared = np.where(known[..., None], p, np.nan)
        parts = [
            calibration_error(shared[..., k], label == k, n_bins=n_bins, horizon=horizon)
            for k in range(p.shape[2])
        ]
        rows[name] = {
            "log_loss": np.nanmean(losses[name]),
            "accuracy": (p.argmax(axis=2) == label)[known].mean(),
            "ece": np.mean([part.error for part in parts]),
            "ece_by_chance": np.mean([part.by_chance for part in parts]),
            "calibration_p": min(1.0, len(parts) * min(part.p_value for part in parts)),
        }
    return score_table(rows, losses, reference, horizon, "gain", "t", "p_value")
