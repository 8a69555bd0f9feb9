"""Monitor a model in use: drift of its inputs, and its live information coefficient.

Drift is measured by its size, in units of the population stability index, and only where the new
bars hold enough independent values to tell; the information coefficient comes with its error.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from crossattn._validation import check_int, check_mapping, check_same_shape
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import long_run_error
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData

BINS = 10
DRIFT = 0.25  # of the index: the usual mark of a major shift
OUTSIDE = 0.5  # share of values beyond all of training
FEWEST_INDEPENDENT = 20
FEWEST_WINDOWS = 30
CROSS_SECTION = 5  # assets, below which ranks within a row are too coarse
_FLOOR = 0.5  # of an observation, in a bin that has none


def summarise_inputs(data: CrossAttentionData) -> dict:
    """Summarise the inputs of a model, to compare later ones with: deciles, gaps and memory.

    Parameters
    ----------
    data : CrossAttentionData
        What the model was trained on.

    Returns
    -------
    dict
        For each feature, and for "exogenous", by symbol or series: ``edges`` (inner deciles),
        ``shares`` (of the bins between them, then of missing values), ``extremes``, ``bars`` and
        ``memory`` (bars that count for one independent value). JSON can hold it.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> data = prepare_cross_attention_data(simulate_market(n_assets=2, n_steps=900,
    ...     leaders_per_follower=1).frames, 24, 1)
    >>> summarise_inputs(data)["log_return"]["A00"]["shares"][:2]
    [0.10083, 0.099644]
    """
    inputs = {}
    for (name, symbol), values in _inputs(data):
        inputs.setdefault(name, {})[symbol] = _summary(values)
    return inputs


def input_drift(reference: dict, data: CrossAttentionData) -> pd.DataFrame:
    """Compare the distribution of every input with that of training.

    Parameters
    ----------
    reference : dict
        What :func:`summarise_inputs` returned for the training windows.
    data : CrossAttentionData
        Later windows of the same symbols and features.

    Returns
    -------
    DataFrame
        A row per symbol and feature, largest shift first: ``symbol``, ``feature``, ``psi``,
        ``n_effective`` (independent values among the new ones), ``outside`` (share of them beyond
        the extremes of training), ``tested`` (at least 20 of them) and ``drifted``.

    Notes
    -----
    The population stability index sums ``(q - p) log(q / p)`` over the deciles of training and a
    bin of missing values. Without any change it is about ``10 (1 / n + 1 / m)`` for n new and m old
    independent values; ``drifted`` says that it exceeds .25 by that and three standard errors, or
    that half of the new values are outside.
    """
    inputs, table = dict(_inputs(data)), []
    for name, summaries in check_mapping("reference", reference).items():
        for symbol, old in summaries.items():
            if (name, symbol) not in inputs:
                raise InvalidInputError(f"data lacks {name} of {symbol}, which training has read")
            values = inputs[name, symbol]
            # a slow feature has few independent values: its memory in training is known best
            n_new, n_old = (n / old["memory"] for n in (len(values), old["bars"]))
            psi = _stability(np.array(old["shares"]), _shares(values, old["edges"]), n_new, n_old)
            by_chance, spread = BINS * (1 / n_new + 1 / n_old), np.sqrt(2 * BINS)
            limit = DRIFT + by_chance + 3 * spread * (1 / n_new + 1 / n_old)
            low, high = old["extremes"]
            outside = float(np.mean((values < low) | (values > high))) if len(values) else 0.0
            tested = n_new >= FEWEST_INDEPENDENT
            drifted = (tested and psi > limit) or outside > OUTSIDE
            table.append((symbol, name, psi, n_new, outside, tested, drifted))
    columns = ["symbol", "feature", "psi", "n_effective", "outside", "tested", "drifted"]
    drift = pd.DataFrame(table, columns=columns)
    return drift.sort_values("psi", ascending=False, kind="stable", ignore_index=True)


@dataclass(frozen=True)
class LiveCoefficient:
    """Mean rank correlation of forecasts with what followed."""

    value: float  #: mean over the windows; NaN below 30 windows
    #: its standard error (Newey-West, with the lags of :func:`.diebold_mariano`; 1.96 of them to
    #: each side hold 95 %); NaN where the windows are no more than the horizon
    error: float
    n_windows: int  #: windows in which forecasts and targets can be ranked
    is_pooled: bool  #: each asset's ranks over time; else ranks across assets, window by window

    def __str__(self) -> str:
        how = "each asset over time" if self.is_pooled else "across assets"
        if not np.isfinite(self.value) and self.n_windows >= FEWEST_WINDOWS:
            return f"none, as forecasts or targets do not vary ({self.n_windows} windows)"
        if not np.isfinite(self.value):
            return f"too few windows with known targets to tell ({self.n_windows})"
        return f"{self.value:+.4f} +- {self.error:.4f} ({self.n_windows} windows, ranks {how})"


def live_coefficient(
    forecasts: np.ndarray, targets: np.ndarray, *, horizon: int = 1
) -> LiveCoefficient:
    """Information coefficient of forecasts after training, with its error.

    Parameters
    ----------
    forecasts, targets : ndarray of shape (n, n_assets)
        Forecasts and the returns that followed, a fraction; NaN where unknown.
    horizon : int
        Bars that a target spans: overlapping targets widen the error.

    Returns
    -------
    LiveCoefficient
        Of ranks across assets in each window; with fewer than five assets, of each asset's ranks
        over time.

    References
    ----------
    Grinold and Kahn (1999), "Active Portfolio Management". Newey and West (1987), Econometrica 55.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> returns = rng.normal(size=(500, 8))
    >>> live = live_coefficient(returns + 3 * rng.normal(size=(500, 8)), returns)
    >>> bool(abs(live.value - 0.3) < 3 * live.error)
    True
    """
    check_int("horizon", horizon)
    forecasts, targets = check_same_shape(dims=(2,), forecasts=forecasts, targets=targets)
    known = np.isfinite(forecasts) & np.isfinite(targets)
    is_pooled = forecasts.shape[1] < CROSS_SECTION
    usable = known.sum(axis=1) >= (1 if is_pooled else CROSS_SECTION)
    known, axis = known[usable], 0 if is_pooled else 1
    first, second = (
        _ranks(np.where(known, values[usable], np.nan), axis) for values in (forecasts, targets)
    )
    # unit variance along the axis, so that the mean product is a correlation
    series = (first * second).sum(axis=1) / known.sum(axis=1)
    if not is_pooled:
        series = series[(first != 0).any(axis=1) & (second != 0).any(axis=1)]
    value = error = np.nan
    if len(series) >= FEWEST_WINDOWS and np.any(series):
        value = float(series.mean())
        error = long_run_error(series, horizon)
    return LiveCoefficient(value, error, len(series), is_pooled)


def _ranks(values: np.ndarray, axis: int) -> np.ndarray:
    """Return ranks along an axis with mean 0 and variance 1 among the known ones; 0 elsewhere."""
    known = np.isfinite(values)
    ranks = np.where(known, rankdata(np.where(known, values, np.inf), axis=axis), 0)
    count = np.maximum(known.sum(axis=axis, keepdims=True), 1)
    ranks = np.where(known, ranks - ranks.sum(axis=axis, keepdims=True) / count, 0)
    spread = np.sqrt((ranks**2).sum(axis=axis, keepdims=True) / count)
    return np.divide(ranks, spread, out=np.zeros_like(ranks), where=spread > 0)


def _inputs(data: CrossAttentionData) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Yield name, symbol and the values at the windows' ends of every input."""
    check_windows("data", data)
    for k, name in enumerate(data.features):
        for asset, symbol in enumerate(data.symbols):
            yield (name, symbol), data.panel[data.ends, asset, k].astype(np.float64)
    for k, series in enumerate(data.exogenous_names):
        yield ("exogenous", series), data.exogenous[data.ends, k]


def _summary(values: np.ndarray) -> dict:
    known = values[np.isfinite(values)]
    levels = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(known, levels)).tolist() if len(known) else []
    shares = _shares(values, edges).round(6).tolist()
    extremes = [float(known.min()), float(known.max())] if len(known) else [0.0, 0.0]
    summary = {"edges": edges, "shares": shares, "extremes": extremes}
    return {**summary, "bars": len(values), "memory": _memory(values)}


def _shares(values: np.ndarray, edges: list[float]) -> np.ndarray:
    """Share of the values in each bin between the edges, and of missing ones."""
    is_known = np.isfinite(values)
    bins = np.searchsorted(edges, values[is_known], side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return np.append(counts, np.count_nonzero(~is_known)) / max(1, len(values))


def _stability(old: np.ndarray, new: np.ndarray, n_new: float, n_old: float) -> float:
    used = (old > 0) | (new > 0)
    p, q = np.maximum(old[used], _FLOOR / n_old), np.maximum(new[used], _FLOOR / n_new)
    return float(((q - p) * np.log(q / p)).sum())


def _memory(values: np.ndarray) -> float:
    """Bars that count for one independent value, of its level and of its size."""
    ranks = _ranks(values, axis=0)
    return max(_correlation_time(ranks), _correlation_time(_ranks(np.abs(ranks), axis=0)))


def _correlation_time(ranks: np.ndarray) -> float:
    """One plus twice the sum of autocorrelations, up to the first below .05."""
    n = len(ranks)
    power = np.abs(np.fft.rfft(ranks, 2 * n)) ** 2
    correlation = np.fft.irfft(power)[: max(2, n // 4)]
    if not correlation[0] > 0:
        return 1.0
    correlation = correlation / correlation[0]
    below = np.flatnonzero(correlation < 0.05)
    stop = int(below[0]) if len(below) else len(correlation)
    return float(max(1.0, 1 + 2 * correlation[1:stop].sum()))
