"""The training loop: scaling, schedule, early stopping, best weights, history, resume.

Built in chapter: Training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from crossattn import _utils as runtime
from crossattn._validation import check_int, check_seed
from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.batches import Part, as_part, fit_scaling
from crossattn.training.checkpoint import save_models
from crossattn.training.distributed import Team
from crossattn.training.run_folder import RunFolder, fingerprint
from crossattn.training.tensorboard import scalar_board
from crossattn.training.trainer import Trainer
from crossattn.windows.dataset import CrossAttentionData


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training leaves besides the weights in the model.

    Attributes
    ----------
    model : CrossAttentionMultiAsset
        With the weights of the best epoch.
    history : DataFrame
        One row an epoch: ``epoch, train_loss, val_loss, lr``.
    best_epoch : int
    best_val_loss : float
    stopped_early : bool
        Whether patience ended before the epochs did.
    """

    model: CrossAttentionMultiAsset
    history: pd.DataFrame
    best_epoch: int
    best_val_loss: float
    stopped_early: bool

    def plot(self, ax=None):
        """Draw training and validation loss by epoch, the best one marked; return the Axes."""
        import matplotlib.pyplot as plt

        ax = ax or plt.subplots()[1]
        ax.plot(self.history["epoch"], self.history["train_loss"], label="training")
        ax.plot(self.history["epoch"], self.history["val_loss"], label="validation")
        ax.axvline(self.best_epoch, color="grey", linestyle=":", label="kept")
        ax.set(xlabel="epoch", ylabel="loss")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        return ax


def train_cross_attention_model(
    model: CrossAttentionMultiAsset,
    train_data: CrossAttentionData | tuple[np.ndarray, np.ndarray],
    val_data: CrossAttentionData | tuple[np.ndarray, np.ndarray],
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    device: str | torch.device = "auto",
    *,
    seed: int = 0,
    patience: int = 10,
    run_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    checkpoint_every: int | None = None,
    tensorboard: bool = False,
    **options,
) -> TrainingResult:
    """Fit a model: scales on the training part, weights by its recipe, the best epoch kept.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
        Trained in place, from the weights it has.
    train_data, val_data : CrossAttentionData or (X, y)
        ``val_data`` must be later and purged (:meth:`CrossAttentionData.split` does both); it
        chooses the epoch.
    epochs, batch_size, lr : optional
        None follows the model's own recipe (``model.config.recipe``).
    device : str
        ``"auto"`` takes a GPU where there is one; there the encoder presets train in bfloat16.
    seed : int
        Of the order of rows and of dropout. Initial weights are the model's own ``seed``.
    patience : int
        Epochs without a better validation loss before training stops.
    run_dir : path, optional
        Folder for history, checkpoints and the model.
    resume : bool
        Continue the run in ``run_dir``; the result is the one of an uninterrupted run, bit by bit.
    progress : bool
        Show a bar where there is a terminal.
    checkpoint_every : int, optional
        Steps of the optimiser between checkpoints; one is written after every epoch in any case.
    tensorboard : bool
        Also write the history to ``run_dir/tensorboard``, epoch by epoch.
    **options
        Other fields of :class:`~crossattn.config.TrainingConfig`, such as ``loss`` or ``schedule``.

    Returns
    -------
    TrainingResult

    Raises
    ------
    InvalidInputError
        Wrong arguments, data that does not fit the model, no known target, a loss that is not
        finite, or a folder that holds another run.
    DamagedFileError
        The checkpoint to resume from is not what was written.
    MissingDependencyError
        ``tensorboard`` is asked for and not installed.

    Notes
    -----
    Where the recipe says ``next_bar``, as the default preset's does for forecasts of returns,
    losses are those of the next bar at any horizon, and the forecast adds up over the horizon what
    is known of each of its bars. ``next_bar=False`` learns from the horizon's own return.

    Unknown targets (NaN) are skipped; unknown inputs are masked by the model. Constant prices give
    finite forecasts of zero.

    Under ``torchrun`` all processes train one model: each takes its share of every batch, losses
    and weights are those of one process up to rounding, and the first writes ``run_dir``, which all
    must see. A run may be resumed by another number of processes. Dropout draws differ from those
    of one process.

    Built in chapter: Training.
    """
    recipe = model.config.recipe.with_options(
        epochs=epochs, batch_size=batch_size, lr=lr, **options
    )
    check_int("patience", patience, at_least=1)
    check_seed("seed", seed)
    if checkpoint_every is not None:
        check_int("checkpoint_every", checkpoint_every, at_least=1)
    train, val = _aligned_parts(model, train_data, val_data)
    horizon = train.horizon
    adds_up = recipe.next_bar and model.output_type == "regression" and horizon > 1
    if adds_up:
        train, val = train.of_the_next_bar(), val.of_the_next_bar()
    model.update_config(symbols=train.symbols, lookback=train.lookback, horizon=train.horizon)
    team = Team.join()
    folder = RunFolder(run_dir, resume=resume, writes=team.leads)
    parts = {"train": train, "val": val}
    settings = {"seed": seed, "horizon": horizon}
    mark = {} if run_dir is None else fingerprint(model, parts, recipe, **settings)
    with _repeatable(seed):
        device = runtime.select_device(device)
        team.check_device(device)
        model.to(device)
        team.agree(model)
        fit_scaling(model, train, device)
        trainer = Trainer(model, train, val, recipe, seed, device, team)
        trainer.load(folder.restore(mark))
        watched = {"wanted": tensorboard and team.leads}
        with scalar_board(folder.path, trainer.progress.epoch, **watched) as on_board:
            shown = progress and team.leads
            _run(trainer, folder, mark, patience, shown, checkpoint_every, on_board)
    if adds_up:
        model.head.intercept.mul_(horizon)
        model.update_config(horizon=horizon)
    state = trainer.progress
    if run_dir is not None and team.leads and not (folder.path / "config.json").exists():
        save_models([model], folder.path)
    team.wait(device)
    return TrainingResult(
        model=model,
        history=pd.DataFrame(state.history),
        best_epoch=state.best_epoch,
        best_val_loss=state.best_val_loss,
        stopped_early=len(state.history) < recipe.epochs,
    )


def _run(
    trainer: Trainer,
    folder: RunFolder,
    mark: dict,
    patience: int,
    shown: bool,
    checkpoint_every: int | None,
    on_board: Callable[[dict], None],
) -> None:
    """Train until the epochs or the patience end, with checkpoints; leave the best weights."""
    state = trainer.progress
    total = trainer.recipe.epochs
    bar = runtime.progress(
        range(state.epoch, total + 1),
        shown=shown,
        desc="epoch",
        total=total,
        initial=state.epoch - 1,
    )
    was_finished = state.finished
    for _ in bar:
        if state.finished:
            break
        for rows in trainer.remaining_batches():
            trainer.step(rows)
            # never between batches whose gradients wait to be added
            due = checkpoint_every and (
                state.batch % (checkpoint_every * trainer.recipe.accumulate) == 0
            )
            if due and state.batch < trainer.batches:
                folder.save(state, trainer.tensors(), mark)
        trainer.end_epoch()
        on_board(state.history[-1])
        waited = state.epoch - 1 - state.best_epoch
        state.finished = state.epoch > total or waited >= patience
        if not state.finished:
            folder.save(state, trainer.tensors(), mark)
    if state.best_val_loss is None:
        raise InvalidInputError("val_data gave no finite loss in any epoch: is any target known?")
    trainer.model.load_state_dict(trainer.best)
    trainer.model.eval()
    if not was_finished:
        folder.save(state, trainer.tensors(), mark)


def _aligned_parts(model: CrossAttentionMultiAsset, train_data, val_data) -> tuple[Part, Part]:
    """Return both parts in one order of symbols and features, the model told their names."""
    if isinstance(train_data, CrossAttentionData):
        if not isinstance(val_data, CrossAttentionData):
            raise InvalidInputError(f"val_data must be CrossAttentionData, got {type(val_data)}")
        names = model.resolve_features(train_data.features)
        train_data = train_data.select(features=names)
        val_data = val_data.select(symbols=train_data.symbols, features=names)
    train, val = as_part(train_data, "train_data"), as_part(val_data, "val_data")
    n_assets, n_features = train.targets.shape[1], train.x.shape[-1]
    if (n_assets, n_features) != (model.config.n_assets, model.config.n_features):
        raise InvalidInputError(
            f"train_data must have {model.config.n_assets} assets and {model.config.n_features} "
            f"features, got {n_assets} and {n_features}"
        )
    if (val.x.shape[-1], val.targets.shape[1]) != (n_features, n_assets):
        raise InvalidInputError("val_data must have the assets and features of train_data")
    if (val.lookback, val.horizon) != (train.lookback, train.horizon):
        raise InvalidInputError(
            f"val_data must have train_data's lookback={train.lookback} and "
            f"horizon={train.horizon}, got {val.lookback} and {val.horizon}"
        )
    for name, part in (("train_data", train), ("val_data", val)):
        if not np.isfinite(part.targets[part.ends]).any():
            raise InvalidInputError(f"{name} has no known target: nothing can be learned from it")
    model.check_lookback(train.lookback)
    return train, val


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Leave torch's global generators as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
