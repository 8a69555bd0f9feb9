"""Does this attention explain this model? Interventions that would show if it does not.

Built in chapter: Attention is not explanation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from crossattn.errors import InvalidInputError
from crossattn.evidence.contributions import (
    forecast_function,
    measure_contributions,
    without_source,
)
from crossattn.evidence.forecasts import correlation
from crossattn.evidence.maps import attention_maps
from crossattn.windows.dataset import CrossAttentionData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AGREEMENT = 0.7
RELIANCE = 0.1
SCORE_PARAMETERS = (
    "query_identity",
    "follower_identity",
    "query_projection.weight",
    "query_projection.bias",
    "content_weight",
    "content_lag",
    "content_self",
)


@dataclass(frozen=True)
class FaithfulnessReport:
    """Each test with its number and its verdict.

    Attributes
    ----------
    tests : DataFrame
        One row a test and map: ``test``, ``map`` ("attention", the raw weights, or "influence",
        what the model itself says each source adds), ``statistic``, ``threshold``, ``verdict``
        ("explains", "does not explain").
    maps : dict of str to DataFrame
        The maps compared, followers in rows: ``attention``, ``influence``, ``zeroed edge``,
        ``shuffled history``, ``integrated gradients``.
    """

    tests: pd.DataFrame
    maps: dict[str, pd.DataFrame]

    @property
    def attention_explains(self) -> bool:
        """Whether raw attention passed every test."""
        raw = self.tests[self.tests["map"] == "attention"]
        return bool((raw["verdict"] == "explains").all())

    def __str__(self) -> str:
        lines = [
            f"{name}: explains in {int((rows['verdict'] == 'explains').sum())} of {len(rows)} tests"
            for name, rows in self.tests.groupby("map", sort=False)
        ]
        return "; ".join(lines)

    def _repr_html_(self) -> str:
        return f"<p><strong>{escape(str(self))}</strong></p>" + self.tests.to_html(
            index=False, float_format="{:.3f}".format
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every statistic beside its threshold."""
        from crossattn.figures import PALETTE, new_axes

        ax = new_axes(ax)
        places = np.arange(len(self.tests))
        explains = self.tests["verdict"] == "explains"
        colours = [PALETTE[2] if e else PALETTE[5] for e in explains]
        ax.barh(places, self.tests["statistic"], color=colours)
        ax.plot(self.tests["threshold"], places, "k|", markersize=14)
        labels = self.tests["test"] + " (" + self.tests["map"] + ")"
        ax.set_yticks(places, labels)
        ax.invert_yaxis()
        ax.set(xlabel="agreement, or skill lost (bar: threshold)", title=str(self))
        return ax


def faithfulness(model, data: CrossAttentionData, *, seed: int = 0) -> FaithfulnessReport:
    """Test a model's attention, and its stated influence, against interventions.

    Parameters
    ----------
    model : CrossAttentionMultiAsset or CrossAttentionForecaster
        Fitted; its forecasts are returns.
    data : CrossAttentionData
        Later windows.
    seed : int
        Of the shuffles.

    Returns
    -------
    FaithfulnessReport

    Raises
    ------
    InvalidInputError
        The model has no attention to test.

    Notes
    -----
    *Zeroed edge*: how far the forecast of i moves when j's past is replaced by its mean.
    *Shuffled history*: how much larger the follower's squared error gets when j's bars are dealt
    anew in time. *Integrated gradients*: attribution along the path from the mean to the window.
    Each gives a map of follower by leader, and a map explains if its correlation with that one,
    over all ordered pairs, is at least 0.7. *Uniform attention*: all scores are set equal and
    the rest of the model kept; attention that can be levelled without costing a tenth of the
    forecast explained nothing.

    References
    ----------
    Jain and Wallace (2019), "Attention is not Explanation", NAACL. Wiegreffe and Pinter (2019),
    "Attention is not not Explanation", EMNLP. Sundararajan, Taly and Yan (2017), "Axiomatic
    Attribution for Deep Networks", ICML.
    """
    symbols = tuple(getattr(model, "symbols", None) or data.symbols)
    data = data.select(symbols=symbols)
    attention = attention_maps(model, data, every=max(len(data) // 500, 1)).map().to_numpy()
    influence = np.sqrt((measure_contributions(model, data).total ** 2).mean(axis=0))
    observed = {
        "zeroed edge": zeroed_edges(model, data),
        "shuffled history": shuffled_histories(model, data, seed=seed),
        "integrated gradients": integrated_gradients(model, data),
    }
    rows = []
    off = ~np.eye(len(symbols), dtype=bool)
    for test, effect in observed.items():
        for name, claimed in {"attention": attention, "influence": influence}.items():
            agreement = correlation(claimed[off], effect[off])
            rows.append(_row(test, name, agreement, AGREEMENT))
    rows.append(_row("uniform attention", "attention", uniform_cost(model, data), RELIANCE))
    index = pd.Index(symbols, name="follower")
    tables = {"attention": attention, "influence": influence, **observed}
    return FaithfulnessReport(
        tests=pd.DataFrame(rows),
        maps={
            name: pd.DataFrame(values, index=index, columns=index.rename("leader"))
            for name, values in tables.items()
        },
    )


def zeroed_edges(model, data: CrossAttentionData) -> np.ndarray:
    """Return how far each forecast moves without each source: root mean square (N, N)."""
    forecast = forecast_function(model)
    base = forecast(data)
    moved = [forecast(without_source(data, j)) - base for j in range(len(data.symbols))]
    return np.sqrt(np.mean(np.square(moved), axis=1)).T  # (follower, leader)


def shuffled_histories(model, data: CrossAttentionData, *, seed: int = 0) -> np.ndarray:
    """Return what shuffling each source's bars in time costs each follower (N, N).

    In shares of the follower's mean squared return; negative where the shuffle helped by chance.
    """
    forecast = forecast_function(model)
    generator = np.random.default_rng(seed)
    target = data.y
    power = np.nanmean(target**2, axis=0)
    base = np.nanmean((target - forecast(data)) ** 2, axis=0)
    cost = np.empty((len(data.symbols),) * 2)
    rows = np.arange(data.ends[0] - data.lookback + 1, data.ends[-1] + 1)
    for source in range(len(data.symbols)):
        panel = np.array(data.panel)
        panel[rows, source] = panel[generator.permutation(rows), source]
        error = np.nanmean((target - forecast(replace(data, panel=panel))) ** 2, axis=0)
        cost[:, source] = (error - base) / power
    return cost


def integrated_gradients(
    model, data: CrossAttentionData, *, n_windows: int = 128, n_steps: int = 12
) -> np.ndarray:
    """Return the size of each source's attribution in each forecast: root mean square (N, N).

    Parameters
    ----------
    model : CrossAttentionMultiAsset or CrossAttentionForecaster
    data : CrossAttentionData
    n_windows : int
        Windows, evenly spread.
    n_steps : int
        Points on the path from each feature's mean to the window (midpoint rule).

    Returns
    -------
    ndarray of shape (n_assets, n_assets)
    """
    members = getattr(model, "models", None) or [model]
    if not all(hasattr(member, "forward") for member in members):
        raise InvalidInputError(f"model has no gradients: {type(model).__name__}")
    chosen = np.linspace(0, len(data) - 1, min(n_windows, len(data))).round().astype(int)
    data = data.select(features=members[0].features)
    x = torch.from_numpy(np.nan_to_num(np.array(data.X[chosen], dtype=np.float32)))
    total = np.mean([attributions(member, x, n_steps=n_steps) for member in members], axis=0)
    return np.sqrt((total**2).mean(axis=0))


def attributions(model, x: torch.Tensor, *, n_steps: int = 12) -> np.ndarray:
    """Integrate gradients of a network from the mean of ``x`` to each window.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
    x : Tensor of shape (n, N, T, F)
        Finite windows.
    n_steps : int

    Returns
    -------
    ndarray of shape (n, N, N)
        ``[k, i, j]``: attribution of forecast i to everything of asset j. Over j they add up to
        the forecast minus that of the mean window, as the number of steps grows, but for what the
        network computes outside of its gradients (a few per cent in the lag preset).
    """
    device = next(model.parameters()).device
    x = x.to(device)
    start = x.mean(dim=(0, 2), keepdim=True).expand_as(x)
    model.eval()
    n_assets = x.shape[1]
    total = torch.zeros(len(x), n_assets, n_assets, device=device)
    for step in range(n_steps):
        at = (start + (step + 0.5) / n_steps * (x - start)).requires_grad_(True)
        forecast = model(at)
        for i in range(n_assets):
            (slope,) = torch.autograd.grad(forecast[:, i].sum(), at, retain_graph=i < n_assets - 1)
            total[:, i] += (torch.nan_to_num(slope) * (x - start)).sum(dim=(2, 3)) / n_steps
    return total.detach().cpu().numpy()


def with_uniform_attention(model):
    """Return a copy of a network or forecaster whose attention scores are all equal.

    Values, gains and heads stay; queries and content weights are zero, so every softmax is even.

    Raises
    ------
    InvalidInputError
        The model holds nothing that scores.
    """
    levelled = copy.deepcopy(model)
    found = False
    with torch.no_grad():
        for member in getattr(levelled, "models", None) or [levelled]:
            named = member.named_parameters() if hasattr(member, "named_parameters") else []
            for name, parameter in named:
                if name.endswith(SCORE_PARAMETERS):
                    parameter.zero_()
                    found = True
    if not found:
        raise InvalidInputError(f"model has no attention to level: {type(model).__name__}")
    return levelled


def uniform_cost(model, data: CrossAttentionData) -> float:
    """Return the share of the forecast's variance that is lost when attention is made uniform."""
    base = forecast_function(model)(data)
    levelled = with_uniform_attention(model)
    even = forecast_function(levelled)(data)
    return 1.0 - max(correlation(base.ravel(), even.ravel()), 0.0) ** 2


def _row(test: str, name: str, statistic: float, threshold: float) -> dict:
    verdict = "explains" if statistic >= threshold else "does not explain"
    return {
        "test": test,
        "map": name,
        "statistic": statistic,
        "threshold": threshold,
        "verdict": verdict,
    }
