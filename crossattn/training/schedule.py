"""The learning rate over time and over parameters."""

import math
from collections.abc import Sequence

import torch

from crossattn.config import TrainingConfig
from crossattn.model.network import CrossAttentionMultiAsset

START = 0.04


def one_cycle(progress: float, warmup: float) -> float:
    """Return the share of the peak rate after a share ``progress`` of all steps.

    Half a cosine up from 4 % while warming up, half a cosine down to 0 after it.

    Examples
    --------
    >>> [round(one_cycle(p, 0.2), 2) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return START + (1 - START) * (0.5 - 0.5 * math.cos(math.pi * progress / warmup))
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def plateau_cuts(val_losses: Sequence[float], patience: int) -> int:
    """Return how often ``patience`` epochs, and then one more, passed without a better loss.

    As :class:`torch.optim.lr_scheduler.ReduceLROnPlateau` with a threshold of 0, but a function of
    the history, so that a resumed run cuts alike. A loss that is not a number is no better.
    """
    best, waited, cuts = math.inf, 0, 0
    for loss in val_losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited > patience:
            waited, cuts = 0, cuts + 1
    return cuts


def rate_share(recipe: TrainingConfig, progress: float, val_losses: Sequence[float]) -> float:
    """Return the share of the peak rate by the recipe's schedule, from what training knows.

    Examples
    --------
    >>> recipe = TrainingConfig(schedule="plateau", plateau_patience=1, plateau_factor=0.5)
    >>> [round(rate_share(recipe, p, []), 2) for p in (0.0, 0.1, 0.2, 1.0)]
    [0.04, 0.52, 1.0, 1.0]
    >>> rate_share(recipe, 0.5, [1.0, 2.0, 3.0])
    0.5
    """
    if recipe.schedule == "cosine":
        return one_cycle(progress, recipe.warmup)
    cuts = plateau_cuts(val_losses, recipe.plateau_patience)
    return one_cycle(min(progress, recipe.warmup), recipe.warmup) * recipe.plateau_factor**cuts


def penalty_share(progress: float, begins: float, full: float) -> float:
    """Return the share of the full penalty after a share ``progress`` of all steps.

    A penalty from the start drives gains to zero before heads have learned; without one no head is
    pruned.

    Examples
    --------
    >>> [round(penalty_share(p, 0.3, 0.6), 2) for p in (0.0, 0.3, 0.45, 0.6, 1.0)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    return min(1.0, max(0.0, (progress - begins) / (full - begins)))


def make_optimizer(model: CrossAttentionMultiAsset, recipe: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW: one group for each multiple of the learning rate, which keeps its peak."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        factor = recipe.lr_factors.get(name.rsplit(".", 1)[-1], 1.0)
        groups.setdefault(factor, []).append(parameter)
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        [{"params": group, "peak": recipe.lr * factor} for factor, group in groups.items()],
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        fused=fused,
    )
