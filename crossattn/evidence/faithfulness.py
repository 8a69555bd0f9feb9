"""Faithfulness of attention: interventions that test whether attention explains the model.

Built in chapter: Attention is not explanation.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd
import torch

from crossattn._validation import check_int, check_type
from crossattn.errors import InvalidInputError
from crossattn.evidence._models import forecast_kind, forecasts_of, symbols_of
from crossattn.evidence.contributions import measure_contributions, without_source
from crossattn.evidence.maps import attention_maps
from crossattn.evidence.scores import correlation
from crossattn.figures import PALETTE, Axes, new_axes
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.loop import train_cross_attention_model
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData

LEAST_ASSETS = 3  # two have but two ordered pairs, whose correlation is -1 or 1
AGREEMENT = 0.7  # least correlation of a map with the effect of an intervention
GRADIENT_WINDOWS = 128
RELIANCE = 0.1  # least share of the forecast that uniform attention costs
# by name: what decides attention scores, beside the keys below
SCORE_PARAMETERS = (
    "query_embedding",
    "query_projection.weight",
    "query_projection.bias",
    "content_weight",
    "content_lag",
    "content_self",
)
KEY_PARAMETERS = ("key_embedding", "lag_embedding")


@dataclass(frozen=True)
class FaithfulnessReport:
    """Results of the faithfulness tests, each with statistic, threshold and verdict."""

    #: a row a test and map: ``test``, ``map`` ("attention", the raw weights, or "influence", the
    #: model's own contributions), ``statistic``, ``threshold``, ``verdict`` ("explains", "does not
    #: explain")
    tests: pd.DataFrame
    #: the maps compared, followers in rows: ``attention``, ``influence``, ``zeroed edge``,
    #: ``shuffled history`` and, of a network, ``integrated gradients``
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
        table = self.tests.to_html(index=False, float_format="{:.3f}".format)
        return f"<p><strong>{escape(str(self))}</strong></p>{table}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every statistic beside its threshold."""
        ax = new_axes(ax)
        labels = self.tests["test"] + " (" + self.tests["map"] + ")"
        colours = np.where(self.tests["verdict"] == "explains", PALETTE[2], PALETTE[5])
        ax.barh(labels, self.tests["statistic"], color=colours)
        ax.plot(self.tests["threshold"], labels, "k|", markersize=14)
        ax.invert_yaxis()
        ax.set(xlabel="agreement, or skill lost (bar: threshold)", title=str(self))
        return ax


def audit_faithfulness(model, data: CrossAttentionData, *, seed: int = 0) -> FaithfulnessReport:
    """Test whether attention, and the model's own contributions, agree with interventions.

    Parameters
    ----------
    model : CrossAttentionMultiAsset or CrossAttentionForecaster
        Fitted; its forecasts are returns.
    data : CrossAttentionData
        Later windows, of three assets or more. Exogenous series are not tested.
    seed : int
        Of the shuffles.

    Raises
    ------
    InvalidInputError
        An argument is wrong, the model forecasts no returns, or there are fewer than three assets.

    Notes
    -----
    *Zeroed edge*: how far the forecast of i moves when j's past is replaced by its mean.
    *Shuffled history*: how much the follower's squared error grows when j's bars are permuted in
    time. *Integrated gradients*: attribution along the path from the mean to the window. A map
    explains if its correlation with each, over all ordered pairs, is at least 0.7. *Uniform
    attention*: all scores are set equal; attention explains if that costs at least a tenth of the
    forecast's variance.

    References
    ----------
    Jain and Wallace (2019), "Attention is not Explanation", NAACL. Wiegreffe and Pinter (2019),
    "Attention is not not Explanation", EMNLP. Sundararajan, Taly and Yan (2017), "Axiomatic
    Attribution for Deep Networks", ICML.
    """
    check_windows("data", data)
    _check_forecasts_returns(model)
    seed = check_int("seed", seed, at_least=0)
    symbols = symbols_of(model, data)
    data = data.select(symbols=symbols)
    if (n_assets := len(symbols)) < LEAST_ASSETS:
        raise InvalidInputError(f"data must hold {LEAST_ASSETS} assets or more, got {n_assets}")
    attention = attention_maps(model, data, every=max(len(data) // 500, 1)).map().to_numpy()
    total = measure_contributions(model, data).total[:, :, :n_assets]
    claims = {"attention": attention[:, :n_assets], "influence": np.sqrt((total**2).mean(axis=0))}
    observed = {
        "zeroed edge": zeroed_edges(model, data),
        "shuffled history": shuffled_histories(model, data, seed=seed),
    }
    network = isinstance(model, CrossAttentionMultiAsset)
    if network:
        observed["integrated gradients"] = integrated_gradients(model, data)
    off = ~np.eye(n_assets, dtype=bool)
    rows = [
        (test, name, correlation(claimed[off], effect[off]), AGREEMENT)
        for test, effect in observed.items()
        for name, claimed in claims.items()
    ]
    if network:  # share of the forecast's variance that is lost with even attention
        even = forecasts_of(with_uniform_attention(model), data)
        cost = 1.0 - max(correlation(forecasts_of(model, data), even), 0.0) ** 2
        rows.append(("uniform attention", "attention", cost, RELIANCE))
    tests = pd.DataFrame(rows, columns=["test", "map", "statistic", "threshold"])
    explains = tests["statistic"] >= tests["threshold"]
    tests["verdict"] = np.where(explains, "explains", "does not explain")
    axes = pd.Index(symbols, name="follower"), pd.Index(symbols, name="leader")
    maps = {name: pd.DataFrame(values, *axes) for name, values in (claims | observed).items()}
    return FaithfulnessReport(tests, maps)


def _check_forecasts_returns(model) -> None:
    if (kind := forecast_kind(model)) != "return":
        raise InvalidInputError(f"model must forecast returns, got {type(model).__name__} ({kind})")


def zeroed_edges(model, data: CrossAttentionData) -> np.ndarray:
    """Change of each forecast without each source: root mean square (N, N), follower by leader."""
    check_windows("data", data)
    base = forecasts_of(model, data)
    sources = range(len(data.symbols))
    moved = [forecasts_of(model, without_source(data, j)) - base for j in sources]
    return np.sqrt(np.nanmean(np.square(moved), axis=1)).T  # (follower, leader)


def shuffled_histories(model, data: CrossAttentionData, *, seed: int = 0) -> np.ndarray:
    """Cost of shuffling each source's bars in time (N, N), in shares of the follower's power."""
    generator = np.random.default_rng(seed)
    target = data.y
    power = np.nanmean(target**2, axis=0)
    base = np.nanmean((target - forecasts_of(model, data)) ** 2, axis=0)
    cost = np.empty((len(data.symbols),) * 2)
    rows = np.arange(data.ends[0] - data.lookback + 1, data.ends[-1] + 1)
    for source in range(len(data.symbols)):
        panel = np.array(data.panel)
        panel[rows, source] = panel[generator.permutation(rows), source]
        shuffled = forecasts_of(model, replace(data, panel=panel))
        error = np.nanmean((target - shuffled) ** 2, axis=0)
        cost[:, source] = (error - base) / power
    return cost


def integrated_gradients(model: CrossAttentionMultiAsset, data: CrossAttentionData) -> np.ndarray:
    """Integrated gradients of each forecast by source: root mean square (N, N)."""
    chosen = np.linspace(0, len(data) - 1, min(GRADIENT_WINDOWS, len(data))).round().astype(int)
    data = data.select(features=model.features)
    x = torch.from_numpy(np.nan_to_num(np.array(data.X[chosen], dtype=np.float32)))
    return np.sqrt((attributions(model, x) ** 2).mean(axis=0))


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
        ``[k, i, j]``: attribution of forecast i to asset j. Over j they add up to the forecast
        minus that of the mean window, but for what the network computes outside of its gradients
        (a few per cent in the lag preset).
    """
    check_type("model", model, CrossAttentionMultiAsset, "CrossAttentionMultiAsset")
    check_type("x", x, torch.Tensor, "Tensor")
    check_int("n_steps", n_steps)
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


def with_uniform_attention(model: CrossAttentionMultiAsset) -> CrossAttentionMultiAsset:
    """Return a copy of a network whose attention scores are all equal."""
    if not isinstance(model, CrossAttentionMultiAsset):
        raise InvalidInputError(f"model has no attention scores: {type(model).__name__}")
    uniform = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in uniform.named_parameters():
            if name.endswith(SCORE_PARAMETERS):
                parameter.zero_()  # every softmax is even; values, gains and heads stay
    return uniform


def frozen_attention(
    model: CrossAttentionMultiAsset,
    train: CrossAttentionData,
    val: CrossAttentionData,
    test: CrossAttentionData,
    *,
    seed: int = 0,
    **options,
) -> pd.Series:
    """Retrain all but the attention, three times: for the learned map and for two control maps.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
        Fitted, of the ``lag`` preset: elsewhere attention depends on layers that are retrained.
        Not changed.
    train, val, test : CrossAttentionData
        Parts in time order; the new heads are fitted on the first two.
    seed : int
        Seed of the new heads and of the shuffle.
    **options
        Of :func:`~crossattn.train_cross_attention_model`, such as ``epochs``.

    Returns
    -------
    Series
        Correlation of forecast and return on ``test``, by what was frozen: ``trained together``
        (nothing), ``learned`` (its own attention), ``uniform`` (all scores equal) and ``shuffled``
        (its parameters permuted: maps are as sharp but of other assets). If one of the last two
        does as well as ``learned``, the skill is in the heads and the map shows nothing.

    References
    ----------
    Wiegreffe and Pinter (2019), "Attention is not not Explanation", EMNLP.
    """
    if not isinstance(model, CrossAttentionMultiAsset) or model.config.preset != "lag":
        raise InvalidInputError(f"model must be of the lag preset, got {type(model).__name__}")
    _check_forecasts_returns(model)
    seed = check_int("seed", seed, at_least=0)
    generator = torch.Generator().manual_seed(seed)

    def shuffled(parameter: torch.Tensor) -> torch.Tensor:
        order = torch.randperm(parameter.numel(), generator=generator)
        return parameter.flatten()[order].view_as(parameter)

    skill = {"trained together": _skill(model, test)}
    changes = {"learned": torch.clone, "uniform": torch.zeros_like, "shuffled": shuffled}
    for name, change in changes.items():
        retrained = _with_new_heads(model, change, seed)
        train_cross_attention_model(retrained, train, val, seed=seed, progress=False, **options)
        skill[name] = _skill(retrained, test)
    return pd.Series(skill, name="correlation")


def _with_new_heads(
    model: CrossAttentionMultiAsset, change: Callable, seed: int
) -> CrossAttentionMultiAsset:
    """Return a fresh model whose score parameters are those of ``model``, changed and frozen."""
    fresh = CrossAttentionMultiAsset.from_config(dataclasses.replace(model.config, seed=seed))
    learned = {name: p.detach().cpu() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            if name.endswith(SCORE_PARAMETERS + KEY_PARAMETERS):
                parameter.copy_(change(learned[name]))
                parameter.requires_grad_(False)
    return fresh


def _skill(model: CrossAttentionMultiAsset, test: CrossAttentionData) -> float:
    return correlation(forecasts_of(model, test), test.y)
