"""Attention maps by layer, head, lag and date, and their figures.

A map shows where a model looks, not where the information is: that is tested in
:mod:`crossattn.evidence.faithfulness` and :mod:`crossattn.evidence.leadlag`.

Built in chapter: Prediction and heat-maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import pandas as pd
from scipy.special import softmax

from crossattn._validation import (
    check_array,
    check_choice,
    check_int,
    check_names,
    check_path,
    check_type,
)
from crossattn.errors import InvalidInputError
from crossattn.evidence._models import attention_of, forecasts_of, symbols_of
from crossattn.evidence.calibration import SIGNALS
from crossattn.evidence.contributions import measure_contributions
from crossattn.evidence.leadlag import LeadLagReport
from crossattn.figures import PALETTE, Axes, Figure, any_letters, attention_heatmap, new_axes
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData


@dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of one layer, one per window."""

    #: (n, n_heads, n_assets, n_sources, n_lags): ``[k, h, i, j, l]``: attention of query asset i
    #: (follower) to source j (leader) at l bars before the last bar of window k. One lag where the
    #: model does not resolve lags
    values: np.ndarray
    symbols: tuple[str, ...]
    timestamps: pd.Index  #: when each map was known; row numbers where windows have no dates
    exogenous: tuple[str, ...] = ()  #: names of the sources that follow the symbols

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of what is attended to: the symbols, then the exogenous series."""
        return self.symbols + self.exogenous

    def map(self, *, head: int | None = None, lag: int | None = None) -> pd.DataFrame:
        """Return the mean map ``(n_assets, n_sources)`` over windows: of a head, a lag, or all.

        Parameters
        ----------
        head : int, optional
            From 0; by default the mean over heads.
        lag : int, optional
            As reported, from 1 (the newest known bar); by default the sum over lags.
        """
        values = self.values.mean(axis=0)  # (H, N, S, L)
        heads, lags = values.shape[0], values.shape[-1]
        if head is not None and not 0 <= head < heads:
            raise InvalidInputError(f"head must be 0 to {heads - 1}, got {head}")
        if lag is not None and not 1 <= lag <= lags:
            raise InvalidInputError(f"lag must be 1 to {lags}, got {lag}")
        values = values.mean(axis=0) if head is None else values[head]
        values = values.sum(axis=-1) if lag is None else values[..., lag - 1]
        return pd.DataFrame(values, *self._axes())

    def by_lag(self) -> pd.DataFrame:
        """Return attention by lag: followers in rows, lags from 1 in columns."""
        values = self.values.mean(axis=(0, 1)).sum(axis=1)  # (N, L)
        lags = pd.RangeIndex(1, values.shape[1] + 1, name="lag")
        return pd.DataFrame(values, self._axes()[0], lags)

    def through_time(self, follower: str) -> pd.DataFrame:
        """Return one follower's attention to each source through time: one row per window."""
        i = self.symbols.index(check_choice("follower", follower, self.symbols))
        values = self.values[:, :, i].mean(axis=1).sum(axis=-1)  # (n, S)
        return pd.DataFrame(values, self.timestamps, self._axes()[1])

    def plot(self, ax: Axes | None = None, **selection) -> Axes:
        """Draw :meth:`map` of the selection."""
        return attention_heatmap(self.map(**selection), self.symbols, self.sources, ax=ax)

    def _axes(self) -> tuple[pd.Index, pd.Index]:
        return pd.Index(self.symbols, name="follower"), pd.Index(self.sources, name="leader")


def attention_maps(
    model, data: CrossAttentionData | np.ndarray, *, every: int = 1
) -> AttentionMaps:
    """Collect the attention maps of a model's last layer over windows.

    Parameters
    ----------
    model : CrossAttentionMultiAsset or CrossAttentionForecaster
        A forecaster's attention, over all its parts and channels, counts as one head.
    data : CrossAttentionData or ndarray of shape (n, N, T, F)
    every : int
        Take each ``every``-th window: the maps hold n · H · N · S · L numbers.
    """
    check_int("every", every)
    exogenous: tuple[str, ...] = ()
    if isinstance(data, CrossAttentionData):
        symbols, stamps = symbols_of(model, data), data.timestamps[::every]
        if not isinstance(model, CrossAttentionMultiAsset):
            exogenous = getattr(model, "sources_", data.sources)[len(symbols) :]
    else:
        symbols = tuple(str(k) for k in range(np.shape(data)[1]))
        stamps = pd.RangeIndex(len(data))[::every]
    parts, start = [], 0
    for values in attention_of(model, data):
        parts.append(values[(-start) % every :: every])
        start += len(values)
    return AttentionMaps(np.concatenate(parts), symbols, stamps, exogenous)


def rollout(layers: Sequence[np.ndarray], *, residual: float = 0.5) -> np.ndarray:
    """Attention rollout: multiply attention through layers, residual connections included.

    Parameters
    ----------
    layers : sequence of ndarray of shape (..., n_assets, n_assets)
        Attention of each layer, first layer first, heads averaged.
    residual : float
        Share of each token that passes a layer unchanged.

    Returns
    -------
    ndarray of shape (..., n_assets, n_assets)
        Rows sum to 1 where those of every layer do.

    References
    ----------
    Abnar and Zuidema (2020), "Quantifying Attention Flow in Transformers", ACL.

    Examples
    --------
    >>> one = np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> rollout([one, one]).tolist()
    [[0.25, 0.75], [0.0, 1.0]]
    """
    if not len(layers):
        raise InvalidInputError("layers must hold at least one map, got none")
    if len(sizes := {n for each in layers for n in np.shape(each)[-2:]}) > 1:
        raise InvalidInputError(f"layers must be square and of one size, got {sorted(sizes)}")
    total = np.eye(np.shape(layers[0])[-1])
    for attention in layers:
        step = residual * np.eye(np.shape(attention)[-1]) + (1 - residual) * np.asarray(attention)
        total = step @ total
    return total


def leadership_scores(model, data: CrossAttentionData) -> pd.DataFrame:
    """Leadership scores of each source: attention received, influence, and an uninformative score.

    Returns
    -------
    DataFrame
        By source: ``attention`` (mean attention that it gets from the others), ``as_follower``
        (mean of its own row: 1/S whatever was learned), ``influence`` (root mean square of what it
        adds to the others' forecasts, as a multiple of the average asset's) and ``influenced``
        (the same of what others add to its own). Exogenous series have no row: NaN there.
    """
    check_windows("data", data)
    mean = attention_maps(model, data, every=max(len(data) // 500, 1)).map()
    values = mean.to_numpy(copy=True)
    as_follower = values.mean(axis=1)
    np.fill_diagonal(values, np.nan)
    measured = measure_contributions(model, data)
    power = (measured.total**2).mean(axis=0)
    np.fill_diagonal(power, 0.0)
    level = power.sum() / len(power) or 1.0
    sources = mean.columns.rename("symbol")
    received = {"as_follower": as_follower, "influenced": np.sqrt(power.sum(axis=1) / level)}
    table = pd.DataFrame(received, mean.index.rename("symbol")).reindex(sources)
    table["attention"] = np.nanmean(values, axis=0)
    table["influence"] = np.sqrt(power.sum(axis=0) / level)
    return table[["attention", "as_follower", "influence", "influenced"]]


def predict_and_visualize(
    model,
    X: CrossAttentionData | np.ndarray,
    symbols: Sequence[str],
    device: str = "auto",
    path: str | PathLike | None = None,
) -> tuple[np.ndarray, Figure]:
    """Predict, and draw the attention maps and the latest prediction.

    Parameters
    ----------
    model : CrossAttentionMultiAsset or CrossAttentionForecaster
    X : CrossAttentionData or ndarray of shape (n, N, T, F)
        Windows; an array, for networks alone, must be in the model's order.
    symbols : sequence of str
        Names of the assets, in the order of ``X``.
    device : str
        ``"auto"`` takes a GPU where there is one.
    path : path, optional
        Also save the figure there; the ending chooses the format.

    Returns
    -------
    predictions : ndarray
        As :func:`crossattn.predict` gives them: returns or weights (n, N), or class logits
        (n, N, 3).
    figure : matplotlib Figure
        The mean map over windows and heads, the share of each lag where the model resolves lags,
        and the latest prediction.

    Raises
    ------
    InvalidInputError
        As many symbols as assets are needed.

    Examples
    --------
    >>> from crossattn import CrossAttentionMultiAsset
    >>> model = CrossAttentionMultiAsset(n_assets=3, n_features=1, seed=0)
    >>> X = np.zeros((4, 3, 12, 1), dtype=np.float32)
    >>> predictions, figure = predict_and_visualize(model, X, ["A", "B", "C"], device="cpu")
    >>> predictions.shape, len(figure.axes) >= 2
    ((4, 3), True)
    """
    import matplotlib.pyplot as plt
    from seaborn import heatmap

    symbols = list(check_names("symbols", symbols))
    path = None if path is None else check_path("path", path)
    if not isinstance(X, CrossAttentionData):
        X = check_array("X", X, (None,) * 4, np.float32)
    n_assets = len(X.symbols) if isinstance(X, CrossAttentionData) else np.shape(X)[1]
    if len(symbols) != n_assets:
        raise InvalidInputError(f"symbols must name {n_assets} assets, got {symbols}")
    predictions = forecasts_of(model, X, device=device)
    maps = attention_maps(model, X, every=max(len(X) // 500, 1))
    rows = [maps.symbols.index(symbol) for symbol in getattr(X, "symbols", maps.symbols)]
    columns = [*rows, *range(len(rows), len(maps.sources))]
    values = maps.values[:, :, rows][:, :, :, columns]  # in the order of X
    maps = AttentionMaps(values, tuple(symbols), maps.timestamps, maps.exogenous)
    n_lags = maps.values.shape[-1]
    above = ["map", "lags"] if n_lags > 1 else ["map"]
    figure, panels = plt.subplot_mosaic(
        [above, ["latest"] * len(above)], figsize=(4.6 * len(above), 6.6), height_ratios=(3, 2)
    )
    title = "Mean attention"
    attention_heatmap(maps.map(), symbols, maps.sources, title=title, ax=panels["map"])
    if n_lags > 1:
        colours = {"vmin": 0, "vmax": 1, "cmap": "cividis", "cbar_kws": {"label": "attention"}}
        heatmap(maps.by_lag(), ax=panels["lags"], **colours)
        title = "Attention by lag"
        panels["lags"].set(xlabel="lag (bars)", ylabel="query asset (follower)", title=title)
        panels["lags"].tick_params(axis="y", rotation=0)
    classes = getattr(model, "output_type", "") == "classification"
    _draw_latest(predictions[-1], symbols, classes, panels["latest"])
    plt.close(figure)
    if path is not None:
        try:
            with any_letters():
                figure.savefig(path, bbox_inches="tight")
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"path {path} cannot be written: {error}") from None
    return predictions, figure


def _draw_latest(latest: np.ndarray, symbols: list[str], classes: bool, ax: Axes) -> None:
    """Draw returns or weights as bars, quantiles as ranges, logits as stacked probabilities."""
    places = np.arange(len(symbols))
    if classes:
        odds = pd.DataFrame(softmax(latest, axis=1), symbols, SIGNALS)
        odds.plot.barh(stacked=True, ax=ax).legend(ncols=3, bbox_to_anchor=(1, -0.15))
    elif latest.ndim == 2:
        ax.hlines(places, latest.min(axis=1), latest.max(axis=1))
        ax.plot(np.median(latest, axis=1), places, "o")
    else:
        ax.barh(places, latest)
        ax.axvline(0, color="black", linewidth=0.8)
    ax.locator_params(axis="x", nbins=4)
    label = "probability" if classes else "prediction (fraction)"
    ax.set(xlabel=label, title="Latest window")
    ax.set_yticks(places, symbols)
    ax.invert_yaxis()


def information_flow(report, sectors: dict[str, str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the significant pairs of a lead-lag report as a graph, leader to follower.

    Parameters
    ----------
    report : LeadLagReport
    sectors : dict of str to str, optional
        Colours the assets.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        Width grows with the size of the effect; blue arrows are positive, orange negative.
    """
    import networkx

    check_type("report", report, LeadLagReport, "LeadLagReport")
    graph = report.graph()
    ax = new_axes(ax, figsize=(6, 6))
    effects = pd.Series(networkx.get_edge_attributes(graph, "effect"), dtype=float)
    sector = pd.Series([(sectors or {}).get(symbol, "") for symbol in graph.nodes])
    networkx.draw_networkx(
        graph,
        networkx.circular_layout(graph),
        ax=ax,
        font_size=8,
        node_size=900,
        node_color=[PALETTE[2 + k % 6] for k in pd.factorize(sector, sort=True)[0]],
        width=list(0.6 + 2.5 * effects.abs() / effects.abs().max()),
        edge_color=list(np.where(effects >= 0, PALETTE[0], PALETTE[1])),
        connectionstyle="arc3,rad=0.12",
    )
    ax.set_title(str(report).split(" (")[0])
    ax.set_axis_off()
    return ax
