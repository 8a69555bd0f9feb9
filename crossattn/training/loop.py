"""The training loop: scaling, schedule, early stopping, best weights, history, resume."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from crossattn._io import progress
from crossattn._validation import check_bool, check_choice, check_int
from crossattn.config import TrainingConfig
from crossattn.errors import InvalidInputError
from crossattn.figures import new_axes
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.runtime import on_device, select_device
from crossattn.training.batches import as_data, fit_scaling
from crossattn.training.callbacks import Callback, Checkpoint, TensorBoard
from crossattn.training.checkpoint import CONFIG_FILE, save_models
from crossattn.training.distributed import DistributedContext
from crossattn.training.run_folder import RunFolder, fingerprint
from crossattn.training.trainer import Trainer
from crossattn.windows.checks import check_later
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.exogenous import warn_unread
from crossattn.windows.spans import check_spans


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of training: the model, its losses by epoch, the best epoch."""

    model: CrossAttentionMultiAsset  #: with the weights of the best epoch
    history: pd.DataFrame  #: a row an epoch: ``epoch, train_loss, val_loss, lr``
    best_epoch: int
    best_val_loss: float
    stopped_early: bool  #: whether patience ended before the epochs did

    def plot(self, ax=None):
        """Draw training and validation loss by epoch, the best one marked; return the Axes."""
        ax = new_axes(ax)
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
    callbacks: Sequence[Callback] = (),
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    lr_factors: Mapping[str, float] | None = None,
    warmup: float | None = None,
    schedule: str | None = None,
    plateau_patience: int | None = None,
    plateau_factor: float | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    gain_penalty: float | None = None,
    penalty_from: float | None = None,
    penalty_full: float | None = None,
    volatility_half_life: float | None = None,
    target_clip: float | None = None,
    transaction_cost: float | None = None,
    risk_aversion: float | None = None,
    concentration: float | None = None,
    next_bar: bool | None = None,
    accumulate: int | None = None,
) -> TrainingResult:
    """Train a cross-attention network, with early stopping and the best epoch's weights kept.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
        Trained in place, from the weights it has.
    train_data, val_data : CrossAttentionData or (X, y)
        ``val_data`` must be later and purged (:meth:`CrossAttentionData.split` does both); it
        chooses the epoch.
    epochs, batch_size, lr : optional
        None follows the model's own recipe (``model.config.recipe``), here and below.
    device : str
        ``"auto"`` takes a GPU where there is one; there the encoder presets train in bfloat16. The
        model comes back to the device it was on.
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
    callbacks : sequence of Callback
        Run after each step and epoch; see :class:`crossattn.training.callbacks.Callback`.
    loss : str or callable, optional
        A name, or a function of prediction and target that gives a scalar; see
        :func:`crossattn.training.losses.resolve_loss`.
    lr_factors, warmup, schedule, plateau_patience, plateau_factor, weight_decay, clip, \
    gain_penalty, penalty_from, penalty_full, volatility_half_life, target_clip, \
    transaction_cost, risk_aversion, concentration, next_bar, accumulate : optional
        See :class:`~crossattn.config.TrainingConfig`.

    Returns
    -------
    TrainingResult

    Raises
    ------
    InvalidInputError
        Wrong arguments, data that does not fit the model, no known target, a loss that is not
        finite or, with ``run_dir``, has a state that cannot be read, or a folder that holds another
        run.
    DamagedFileError
        The checkpoint to resume from is not what was written.
    MissingDependencyError
        ``tensorboard`` is asked for and not installed.

    Warns
    -----
    CrossAttentionWarning
        Names exogenous series of the data, which a network does not read.

    Notes
    -----
    With ``next_bar`` (the default preset, forecasts of returns) losses are those of the next bar at
    any horizon, and the forecast adds up what is known of each bar in the horizon; not so for a
    duration that is not the same number of bars everywhere.

    Unknown targets are skipped, unknown inputs masked; constant prices give forecasts of zero. A
    Ctrl-C leaves the best weights so far.

    Under ``torchrun`` each process takes its share of every batch; losses and weights are those of
    one process up to rounding (dropout draws differ), and the first writes ``run_dir``, which all
    must see. A run may be resumed by another number of processes.

    Built in chapter: Training.
    """
    given = locals()
    options = {field.name: given[field.name] for field in fields(TrainingConfig)}
    _check_trainable(model)
    listed = np.iterable(callbacks) and not any(isinstance(each, type) for each in callbacks)
    if not listed or not all(hasattr(each, "on_start") for each in callbacks):
        raise InvalidInputError(f"callbacks must be a sequence of Callback, got {callbacks!r}")
    for name, value in (("progress", progress), ("resume", resume), ("tensorboard", tensorboard)):
        check_bool(name, value)
    recipe = model.config.recipe.with_options(**options)
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_parameters()}
    for name in recipe.lr_factors:  # a recipe also names what only larger models have
        check_choice("lr_factors", name, sorted(names.union(model.config.recipe.lr_factors)))
    patience, seed = check_int("patience", patience), check_int("seed", seed, at_least=0)
    if checkpoint_every is not None:
        checkpoint_every = check_int("checkpoint_every", checkpoint_every)
    train, val = _aligned(model, train_data, val_data)
    horizon = train.horizon
    adds_up = recipe.next_bar and model.output_type == "regression" and horizon > 1
    adds_up = adds_up and train.is_steady  # else no number of next bars makes up the horizon
    if adds_up:
        train, val = (replace(d, targets=d.next_returns, horizon=1) for d in (train, val))
    # arrays have no names: the model keeps those it has
    symbols = train.symbols if isinstance(train_data, CrossAttentionData) else model.symbols
    model.update_config(
        symbols=symbols,
        lookback=train.lookback,
        horizon=train.horizon,
        duration=None if train.duration is None else str(train.duration),
    )
    context = DistributedContext.current()
    folder = RunFolder(run_dir, resume=resume, writes=context.is_main)
    settings = {"seed": seed, "horizon": horizon}
    mark = {} if run_dir is None else fingerprint(model, (train, val), recipe, **settings)
    watchers = [TensorBoard(folder)] if tensorboard and context.is_main else []
    watchers.append(Checkpoint(folder, mark, checkpoint_every))
    device = select_device(device)
    context.check_device(device)
    with torch.random.fork_rng(), on_device(model, device):
        torch.manual_seed(seed)
        context.broadcast(model)
        fit_scaling(model, train, device)
        trainer = Trainer(model, train, val, recipe, seed, device, context)
        trainer.load(folder.restore(mark))
        was_finished = trainer.progress.finished
        try:
            _run(trainer, patience, progress and context.is_main, [*watchers, *callbacks])
            if not was_finished:
                folder.save(trainer.progress, trainer.tensors(), mark)
        finally:
            if adds_up:
                model.head.intercept.mul_(horizon)
                model.update_config(horizon=horizon)
        context.barrier(device)
    state = trainer.progress
    if run_dir is not None and context.is_main and not (folder.path / CONFIG_FILE).exists():
        save_models([model], folder.path)
    context.barrier(device)
    return TrainingResult(
        model=model,
        history=pd.DataFrame(state.history),
        best_epoch=state.best_epoch,
        best_val_loss=state.best_val_loss,
        stopped_early=len(state.history) < recipe.epochs,
    )


def _run(trainer: Trainer, patience: int, shown: bool, callbacks: Sequence[Callback]) -> None:
    """Train until the epochs or the patience end; leave the best weights, after a Ctrl-C too."""
    state, total = trainer.progress, trainer.recipe.epochs
    done = state.epoch - 1
    epochs = progress(range(done, total), shown=shown, desc="epoch", total=total, initial=done)
    with contextlib.ExitStack() as stack:
        stack.callback(trainer.model.eval)
        stack.callback(lambda: trainer.model.load_state_dict(trainer.best))
        for callback in callbacks:
            callback.on_start(trainer)
            stack.callback(callback.on_end)
        for _ in epochs:
            if state.finished:
                break
            for rows in trainer.remaining_batches():
                trainer.step(rows)
                for callback in callbacks:
                    callback.on_step(trainer)
            trainer.end_epoch()
            waited = state.epoch - 1 - state.best_epoch
            state.finished |= state.epoch > total or waited >= patience
            for callback in callbacks:
                callback.on_epoch_end(trainer)
    if state.best_val_loss is None:
        raise InvalidInputError("val_data gave no finite loss in any epoch: is any target known?")


def _check_trainable(model: CrossAttentionMultiAsset) -> None:
    """Refuse what is no network, and what can have no gradients."""
    if not hasattr(model, "update_config"):  # a compiled network has it
        raise InvalidInputError(
            f"model must be a CrossAttentionMultiAsset, got {type(model).__name__}"
        )
    for parameter in model.parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise InvalidInputError(f"model must be float32 or float64, got {parameter.dtype}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InvalidInputError("model has no parameter that requires a gradient: all are frozen")
    if not torch.is_grad_enabled():
        raise InvalidInputError("model cannot be trained in torch.no_grad() or inference_mode()")


def _aligned(
    model: CrossAttentionMultiAsset, train_data, val_data
) -> tuple[CrossAttentionData, CrossAttentionData]:
    """Return both parts in one order of symbols and features, the model given their names."""
    if isinstance(train_data, CrossAttentionData):
        check_later("val_data", val_data, "train_data", train_data)
        warn_unread("train_data", "a network", train_data, stacklevel=3)
        names = model.resolve_features(train_data.features)
        train_data = train_data.select(features=names)
        val_data = val_data.select(symbols=train_data.symbols, features=names)
    train, val = as_data(train_data, "train_data", model), as_data(val_data, "val_data", model)
    n_assets = model.config.n_assets
    if len(train.symbols) != n_assets:
        raise InvalidInputError(f"train_data must have {n_assets} assets, got {len(train.symbols)}")
    check_spans("val_data", val, train.lookback, train.horizon, train.duration)
    for name, data in (("train_data", train), ("val_data", val)):
        if not np.isfinite(data.y).any():
            raise InvalidInputError(f"{name} has no known target: nothing can be learned from it")
    model.check_lookback(train.lookback)
    return train, val
