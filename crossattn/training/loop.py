"""The training loop: scaling, schedule, early stopping, best weights, history, resume.

Built in chapter: Training.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from crossattn import runtime
from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.losses import Truth, loss_for
from crossattn.training.rows import Rows, panel_tensor, rows_of
from crossattn.windows.data import CrossAttentionData


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves besides the weights in the model.

    Attributes
    ----------
    model : CrossAttentionMultiAsset
        With the best weights.
    history : DataFrame
        One row an epoch: ``epoch, train_loss, val_loss, lr``.
    best_epoch : int
    best_val_loss : float
    stopped_early : bool
    """

    model: CrossAttentionMultiAsset
    history: pd.DataFrame
    best_epoch: int
    best_val_loss: float
    stopped_early: bool


def train_cross_attention_model(
    model: CrossAttentionMultiAsset,
    train_data: CrossAttentionData,
    val_data: CrossAttentionData,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    device: str = "auto",
    *,
    seed: int = 0,
    patience: int = 10,
    run_dir=None,
    resume: bool = False,
    progress: bool = True,
    **options,
) -> TrainingResult:
    recipe = model.config.recipe.with_options(
        epochs=epochs, batch_size=batch_size, lr=lr, **options
    )
    device = runtime.select_device(device)
    model.to(device)
    fit_scaling(model, train_data, device)
    train, val = rows_of(model, train_data, device), rows_of(model, val_data, device)
    loss_of = loss_for(model.output_type, recipe.loss)
    groups = parameter_groups(model, recipe)
    optimizer = torch.optim.AdamW(
        groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=device.type != "mps"
    )
    steps_an_epoch = math.ceil(len(train) / recipe.batch_size)
    n_steps = recipe.epochs * steps_an_epoch
    history, best, best_loss, best_epoch = [], None, math.inf, 0
    step = 0
    for epoch in runtime.progress(range(1, recipe.epochs + 1), shown=progress, desc="epoch"):
        order = np.random.default_rng([seed, epoch]).permutation(len(train))
        order = torch.from_numpy(order).to(device)
        total = 0.0
        model.train()
        for chosen in order.split(recipe.batch_size):
            rate = one_cycle(step / n_steps, recipe.warmup)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            loss = batch_loss(model, train, train.ends[chosen], loss_of, recipe)
            penalty = recipe.gain_penalty * min(1.0, 2 * step / n_steps)
            if penalty:
                gains = model.body.gains()
                objective = loss + penalty * gains.abs().sum() / model.config.n_assets
            else:
                objective = loss
            optimizer.zero_grad(set_to_none=True)
            objective.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            total += loss.item() * len(chosen)
            step += 1
        val_loss = evaluate(model, val, loss_of, recipe)
        history.append(
            {
                "epoch": epoch,
                "train_loss": total / len(train),
                "val_loss": val_loss,
                "lr": recipe.lr * rate,
            }
        )
        if val_loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(model.state_dict()), val_loss, epoch
        if epoch - best_epoch >= patience:
            break
    if best is None:
        raise InvalidInputError("training never reached a finite validation loss")
    model.load_state_dict(best)
    model.symbols = train_data.symbols
    model.lookback, model.horizon = train_data.lookback, train_data.horizon
    model.eval()
    return TrainingResult(
        model, pd.DataFrame(history), best_epoch, best_loss, best_epoch < recipe.epochs
    )


def one_cycle(progress: float, warmup: float) -> float:
    """Return the share of the peak learning rate: a half cosine up, a half cosine down."""
    if progress < warmup:
        return 0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * progress / warmup))
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def parameter_groups(model, recipe) -> list[dict]:
    """Group parameters by their multiple of the learning rate."""
    groups: dict[float, list] = {}
    for name, parameter in model.named_parameters():
        factor = recipe.lr_factors.get(name.rsplit(".", 1)[-1], 1.0)
        groups.setdefault(factor, []).append(parameter)
    return [{"params": group, "peak": recipe.lr * factor} for factor, group in groups.items()]


def batch_loss(model, rows: Rows, ends, loss_of, recipe):
    """Return the loss of the windows that end at ``ends``."""
    truth = Truth(rows.targets[ends], rows.noise[ends], clip=recipe.target_clip)
    return loss_of(model.answer(rows.store.gather(ends)), truth)


@torch.no_grad()
def evaluate(model, rows: Rows, loss_of, recipe) -> float:
    """Return the mean loss over all windows."""
    model.eval()
    total = 0.0
    for ends in rows.ends.split(4096):
        total += batch_loss(model, rows, ends, loss_of, recipe).item() * len(ends)
    return total / len(rows)


def fit_scaling(model, data: CrossAttentionData, device) -> None:
    """Fit every scale on the training part."""
    panel, _ = panel_tensor(data, device)
    with torch.no_grad():
        model.body.reader.fit(panel, data.lookback)
        y = torch.from_numpy(data.y).to(device)
        scale = y.square().nanmean(0).sqrt()
        model.head.scale.copy_(torch.where(scale > 0, scale, 1.0))
