"""One training in memory: a step, an epoch, and everything that a checkpoint must hold.

Built in chapter: Training.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from crossattn import _utils as runtime
from crossattn.config import TrainingConfig
from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.batches import Part, Rows, rows_of
from crossattn.training.distributed import Team
from crossattn.training.losses import Loss, loss_for
from crossattn.training.run_folder import Progress
from crossattn.training.schedule import make_optimizer, penalty_share, rate_share, set_rate

EVALUATION_BATCH = 4096
REFRESH_EVERY = 16


class Trainer:
    """One training in memory: model, optimiser, rows and where it stands.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
        Scales fitted, on ``device``.
    train, val : Part
    recipe : TrainingConfig
    seed : int
    device : torch.device
    team : Team, optional
        The processes that train together; None: this one alone.
    """

    def __init__(
        self,
        model: CrossAttentionMultiAsset,
        train: Part,
        val: Part,
        recipe: TrainingConfig,
        seed: int,
        device: torch.device,
        team: Team | None = None,
    ):
        self.model = model
        self.recipe = recipe
        self.seed = seed
        self.team = team or Team()
        self.train_rows = rows_of(model, train, recipe, device)
        self.val_rows = rows_of(model, val, recipe, device)
        # the lag preset is a few small products: nothing to gain from lower precision
        self.mixed = device.type == "cuda" and model.config.preset != "lag"
        self.loss: Loss = loss_for(model.output_type, recipe.loss)
        self.parameters = list(model.parameters())
        self.optimizer = make_optimizer(model, recipe)
        self.progress = Progress()
        self.best = _copied(model.state_dict())
        self.batches = math.ceil(len(self.train_rows) / recipe.batch_size)

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
        """Yield the rows of each batch that the epoch still has, the same in every run.

        A loss over a portfolio's path needs consecutive rows: there batches are blocks of time,
        shuffled; elsewhere single rows are.
        """
        self.model.train()
        ends, size = self.train_rows.ends, self.recipe.batch_size
        rng = np.random.default_rng([self.seed, self.progress.epoch])
        if self.model.output_type == "portfolio":
            blocks = list(ends.split(size))
            order = [blocks[k] for k in rng.permutation(len(blocks))]
        else:
            order = ends[torch.from_numpy(rng.permutation(len(ends))).to(ends.device)].split(size)
        yield from order[self.progress.batch :]

    def step(self, rows: Tensor) -> None:
        """Learn from one batch.

        Raises
        ------
        InvalidInputError
            The loss is not finite.
        """
        recipe, state = self.recipe, self.progress
        if state.batch % REFRESH_EVERY == 0:
            self.model.body.refresh(self.train_rows.store)
        # rank 0 draws what one process would; the others' rows need draws of their own
        draw = hash((self.seed, state.epoch, state.batch)) + self.team.rank
        runtime.seed_draws(draw % 2**63, rows.device)
        set_rate(self.optimizer, self.rate_share)
        loss = self._loss(self.train_rows, rows)
        value = loss.item()
        if not math.isfinite(value):
            raise InvalidInputError(
                f"the training loss became {value} in epoch {state.epoch}: lower lr, got "
                f"{recipe.lr}, or look for extreme values in train_data"
            )
        penalty = recipe.gain_penalty * penalty_share(
            self.share, recipe.penalty_from, recipe.penalty_full
        )
        if penalty and hasattr(self.model.body, "gains"):
            gains = self.model.body.gains()
            # every process adds its part, so that their sum is the penalty
            n_parts = self.model.config.n_assets * self.team.size
            loss = loss + penalty * gains.abs().sum() / n_parts
        (loss / recipe.accumulate).backward()
        if (state.batch + 1) % recipe.accumulate == 0 or state.batch + 1 == self.batches:
            self.team.add_gradients(self.parameters)
            torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        state.loss_sum += value * len(rows)
        state.batch += 1

    def end_epoch(self) -> None:
        """Measure the epoch, keep its weights if they are the best."""
        state = self.progress
        val_loss = self.evaluate(self.val_rows)
        rate = self.recipe.lr * self.rate_share
        state.history.append(
            {
                "epoch": state.epoch,
                "train_loss": state.loss_sum / len(self.train_rows),
                "val_loss": val_loss,
                "lr": rate,
            }
        )
        if math.isfinite(val_loss) and (
            state.best_val_loss is None or val_loss < state.best_val_loss
        ):
            state.best_val_loss, state.best_epoch = val_loss, state.epoch
            self.best = _copied(self.model.state_dict())
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0

    @torch.no_grad()
    def evaluate(self, rows: Rows) -> float:
        """Return the mean loss over all rows of a part, in time order."""
        self.model.eval()
        self.model.body.refresh(rows.store)
        batches = rows.ends.split(EVALUATION_BATCH)
        return sum(self._loss(rows, ends).item() * len(ends) for ends in batches) / len(rows)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything a checkpoint must hold."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors.update({f"best.{name}": t for name, t in self.best.items()})
        record = getattr(self.train_rows.store, "record", None)
        if record is not None:
            tensors["store.record"] = record
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{number}.{name}": t for name, t in state.items()})
        return tensors

    def load(self, checkpoint: tuple[Progress, dict[str, Tensor]] | None) -> None:
        """Go back to where a checkpoint was written; None starts afresh."""
        if checkpoint is None:
            return
        self.progress, tensors = checkpoint
        self.model.load_state_dict(_under("model.", tensors))
        self.best = _under("best.", tensors)
        for name, tensor in _under("store.", tensors).items():
            setattr(self.train_rows.store, name, tensor.to(self.train_rows.ends.device))
        optimizer = self.optimizer.state_dict()
        for name, tensor in _under("optimizer.", tensors).items():
            number, _, field = name.partition(".")
            optimizer["state"].setdefault(int(number), {})[field] = tensor
        self.optimizer.load_state_dict(optimizer)

    def _loss(self, rows: Rows, ends: Tensor) -> Tensor:
        precision = contextlib.nullcontext()
        if self.mixed:
            precision = torch.autocast(ends.device.type, torch.bfloat16)
        with precision:
            answer = self.model.answer(rows.store.gather(self.team.share(ends)))
        answer = self.team.whole(answer.float(), len(ends))
        return self.loss(answer, rows.truth(ends, self.model, self.recipe))


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
