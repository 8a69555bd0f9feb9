"""Frozen attention with retrained heads: is it the attention that carries a model's skill?

Built in chapter: Attention is not explanation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd
import torch

from crossattn.errors import InvalidInputError
from crossattn.evidence.faithfulness import SCORE_PARAMETERS
from crossattn.evidence.forecasts import correlation
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.loop import train_cross_attention_model
from crossattn.training.prediction import predict
from crossattn.windows.dataset import CrossAttentionData

KEY_PARAMETERS = ("key_identity", "lag_embedding")


def frozen_attention(
    model: CrossAttentionMultiAsset,
    train: CrossAttentionData,
    val: CrossAttentionData,
    test: CrossAttentionData,
    *,
    seed: int = 0,
    **options,
) -> pd.Series:
    """Retrain everything but the attention, for the learned map and for two maps of straw.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
        Fitted, of the ``lag`` preset: elsewhere attention depends on layers that are retrained.
        Left as it is.
    train, val, test : CrossAttentionData
        Parts in time order; the new heads are fitted on the first two.
    seed : int
        Of the new heads, and of the shuffle.
    **options
        Of :func:`~crossattn.train_cross_attention_model`, such as ``epochs``.

    Returns
    -------
    Series
        Correlation of forecast and return on ``test``, by what was frozen: ``trained together``
        (nothing: the model as it came), ``learned`` (its own attention, new gains and gates),
        ``uniform`` (all scores equal) and ``shuffled`` (its parameters dealt anew, so that maps
        are as sharp and point elsewhere).

    Raises
    ------
    InvalidInputError
        Another preset than ``lag``.

    Notes
    -----
    If ``uniform`` or ``shuffled`` does as well as ``learned``, the skill is in the heads and the
    map shows nothing. Costs three trainings.

    References
    ----------
    Wiegreffe and Pinter (2019), "Attention is not not Explanation", EMNLP.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=2000, predictability=0.2, seed=0)
    >>> data = prepare_cross_attention_data(market.frames, 12, 1, features=["log_return"])
    >>> parts = data.split()
    >>> model = CrossAttentionMultiAsset(3, 1, features=("log_return",))
    >>> _ = train_cross_attention_model(model, *parts[:2], epochs=4, progress=False)
    >>> skill = frozen_attention(model, *parts, epochs=4)
    >>> bool(skill["learned"] > skill["uniform"])
    True
    """
    if getattr(getattr(model, "config", None), "preset", None) != "lag":
        raise InvalidInputError(f"model must be of the lag preset, got {type(model).__name__}")
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
    """Return a fresh model whose scores are the changed ones of ``model``, and stay so."""
    fresh = CrossAttentionMultiAsset.from_config(dataclasses.replace(model.config, seed=seed))
    learned = {name: p.detach().cpu() for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            if name.endswith(SCORE_PARAMETERS + KEY_PARAMETERS):
                parameter.copy_(change(learned[name]))
                parameter.requires_grad_(False)
    return fresh


def _skill(model: CrossAttentionMultiAsset, test: CrossAttentionData) -> float:
    return correlation(predict(model, test), test.y)
