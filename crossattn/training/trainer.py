"""One training in memory: a step, an epoch, and everything that a checkpoint must hold."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crossattn.config import TrainingConfig
from crossattn.errors import InvalidInputError
from crossattn.model.batch import Batch
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.runtime import seed_draws
from crossattn.training.batches import make_batch
from crossattn.training.checkpoint import under
from crossattn.training.distributed import DistributedContext
from crossattn.training.losses import Loss, resolve_loss
from crossattn.training.run_folder import Progress
from crossattn.training.schedule import make_optimizer, penalty_share, rate_share
from crossattn.windows.dataset import CrossAttentionData

EVALUATION_BATCH = 4096
UPDATE_EVERY = 16


class Trainer:
    """One training in memory: model, optimiser, batches and progress."""

    def __init__(
        self,
        model: CrossAttentionMultiAsset,
        train: CrossAttentionData,
        val: CrossAttentionData,
        recipe: TrainingConfig,
        seed: int,
        device: torch.device,
        context: DistributedContext | None = None,
    ):
        self.model = model
        self.recipe = recipe
        self.seed = seed
        self.context = context or DistributedContext()
        self.train = make_batch(model, train, recipe, device)  # all windows; drawn from by number
        self.val = make_batch(model, val, recipe, device)
        # the lag preset is a few small products: nothing to gain from lower precision
        self.mixed = device.type == "cuda" and model.config.preset != "lag"
        self.loss: Loss = resolve_loss(recipe.loss, model.output_type)
        self.parameters = list(model.parameters())
        self.optimizer = make_optimizer(model, recipe)
        self.progress = Progress()
        self.best = _copied(model.state_dict())
        self.batches = math.ceil(len(self.train) / recipe.batch_size)

    @property
    def share(self) -> float:
        """How much of the training is done, in [0, 1]."""
        done = (self.progress.epoch - 1) * self.batches + self.progress.batch
        return done / (self.recipe.epochs * self.batches)

    @property
    def rate_share(self) -> float:
        """The share of its peak that the learning rate has now."""
        val_losses = [epoch["val_loss"] for epoch in self.progress.history]
        return rate_share(self.recipe, self.share, val_losses)

    def remaining_batches(self) -> Iterator[Tensor]:
        """Yield the windows' numbers of each batch left in the epoch, the same in every run.

        A loss over a portfolio's path needs consecutive windows: there batches are blocks of time,
        shuffled; elsewhere single windows are.
        """
        self.model.train()
        device, size = self.train.target.device, self.recipe.batch_size
        windows = torch.arange(len(self.train), device=device)
        rng = np.random.default_rng([self.seed, self.progress.epoch])
        if self.model.output_type == "portfolio":
            blocks = windows.split(size)
            order = [blocks[k] for k in rng.permutation(len(blocks))]
        else:
            order = windows[torch.from_numpy(rng.permutation(len(windows))).to(device)].split(size)
        yield from order[self.progress.batch :]

    def step(self, rows: Tensor) -> None:
        """Learn from one batch."""
        recipe, state = self.recipe, self.progress
        if state.batch % UPDATE_EVERY == 0:
            self.train = self.model.body.update_head_scores(self.train)
        # rank 0 draws what one process would; the others' rows need draws of their own
        draw = hash((self.seed, state.epoch, state.batch)) + self.context.rank
        seed_draws(draw % 2**63, rows.device)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.rate_share
        loss = self._loss(self.train, rows)
        value = loss.item()
        if not math.isfinite(value):
            raise InvalidInputError(
                f"the training loss became {value} in epoch {state.epoch}: lower lr, got "
                f"{recipe.lr}, or look for extreme values in train_data"
            )
        share = penalty_share(self.share, recipe.penalty_from, recipe.penalty_full)
        penalty = recipe.gain_penalty * share
        if penalty and hasattr(self.model.body, "gains"):
            gains = self.model.body.gains()
            # every process adds its part, so that their sum is the penalty
            n_parts = self.model.config.n_assets * self.context.size
            loss = loss + penalty * gains.abs().sum() / n_parts
        (loss / recipe.accumulate).backward()
        if (state.batch + 1) % recipe.accumulate == 0 or state.batch + 1 == self.batches:
            self.context.add_gradients(self.parameters)
            torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        state.loss_sum += value * len(rows)
        state.batch += 1

    def end_epoch(self) -> None:
        """Measure the epoch, keep its weights if they are the best."""
        state = self.progress
        val_loss = self.evaluate(self.val)
        entry = {"epoch": state.epoch, "train_loss": state.loss_sum / len(self.train)}
        rate = self.recipe.lr * self.rate_share
        state.history.append(entry | {"val_loss": val_loss, "lr": rate})
        best = math.inf if state.best_val_loss is None else state.best_val_loss
        if math.isfinite(val_loss) and val_loss < best:
            state.best_val_loss, state.best_epoch = val_loss, state.epoch
            self.best = _copied(self.model.state_dict())
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0

    @torch.no_grad()
    def evaluate(self, data: Batch) -> float:
        """Return the mean loss over all windows of a data set, in time order."""
        self.model.eval()
        data = self.model.body.update_head_scores(data)
        windows = torch.arange(len(data), device=data.target.device)
        batches = windows.split(EVALUATION_BATCH)
        return sum(self._loss(data, rows).item() * len(rows) for rows in batches) / len(data)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything a checkpoint must hold."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors.update({f"best.{name}": t for name, t in self.best.items()})
        if self.train.head_scores is not None:
            tensors["batch.head_scores"] = self.train.head_scores
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{number}.{name}": t for name, t in state.items()})
        return tensors

    def load(self, checkpoint: tuple[Progress, dict[str, Tensor]] | None) -> None:
        """Go back to where a checkpoint was written; None starts afresh."""
        if checkpoint is None:
            return
        self.progress, tensors = checkpoint
        self.model.load_state_dict(under("model.", tensors))
        self.best = under("best.", tensors)
        device = self.train.target.device
        inputs = {name: t.to(device) for name, t in under("batch.", tensors).items()}
        self.train = replace(self.train, **inputs)
        optimizer = self.optimizer.state_dict()
        for name, tensor in under("optimizer.", tensors).items():
            number, _, field = name.partition(".")
            optimizer["state"].setdefault(int(number), {})[field] = tensor
        self.optimizer.load_state_dict(optimizer)

    def _loss(self, data: Batch, rows: Tensor) -> Tensor:
        batch = data.take(rows)
        own = batch if self.context.size == 1 else data.take(self.context.shard(rows))
        precision = contextlib.nullcontext()
        if self.mixed:
            precision = torch.autocast(rows.device.type, torch.bfloat16)
        with precision:
            prediction = self.model.predict_batch(own)
        prediction = self.context.all_gather(prediction.float(), len(rows))
        return self.loss(prediction, batch)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
