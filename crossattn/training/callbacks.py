"""Callbacks: code that runs after each step and each epoch of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossattn.errors import InvalidInputError, import_optional
from crossattn.training.run_folder import RunFolder

if TYPE_CHECKING:
    from crossattn.training.trainer import Trainer

TENSORBOARD_FOLDER = "tensorboard"


class Callback:
    """Base class of training callbacks: override the methods that you need.

    ``trainer.progress`` is where the training stands, ``trainer.model`` the model. Under
    ``torchrun`` every process calls its own. An exception ends the training; a run folder keeps its
    last checkpoint.

    Examples
    --------
    >>> class StopAfter(Callback):
    ...     def __init__(self, epochs):
    ...         self.epochs = epochs
    ...
    ...     def on_epoch_end(self, trainer):
    ...         if len(trainer.progress.history) >= self.epochs:
    ...             trainer.progress.finished = True
    """

    def on_start(self, trainer: Trainer) -> None:
        """Run before the first step, of a resumed run too."""

    def on_step(self, trainer: Trainer) -> None:
        """Run after each batch; ``trainer.progress.batch`` of the epoch are done."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Run after each epoch; ``trainer.progress.history[-1]`` is its entry."""

    def on_end(self) -> None:
        """Run when training stops, whatever the reason."""


class Checkpoint(Callback):
    """Write a checkpoint after each epoch, and ``every`` so many steps of the optimiser.

    ``mark`` is what must be the same for a run to go on.
    """

    def __init__(self, folder: RunFolder, mark: dict, every: int | None = None):
        self.folder, self.mark, self.every = folder, mark, every

    def on_step(self, trainer: Trainer) -> None:
        batch = trainer.progress.batch
        # never between batches whose gradients wait to be added
        due = self.every and batch % (self.every * trainer.recipe.accumulate) == 0
        if due and batch < trainer.batches:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if not trainer.progress.finished:  # the last one is written with the best weights
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self.folder.save(trainer.progress, trainer.tensors(), self.mark)


class TensorBoard(Callback):
    """Write each entry of the history to ``run_dir/tensorboard``."""

    def __init__(self, folder: RunFolder):
        if folder.path is None:
            raise InvalidInputError("tensorboard=True needs a run_dir")
        import_optional("tensorboard", "tensorboard=True", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._open, self._folder = SummaryWriter, str(folder.path / TENSORBOARD_FOLDER)

    def on_start(self, trainer: Trainer) -> None:
        # what a killed run wrote of this epoch and later ones is hidden: each shows once
        self._writer = self._open(self._folder, purge_step=trainer.progress.epoch)

    def on_epoch_end(self, trainer: Trainer) -> None:
        entry = trainer.progress.history[-1]
        for name in sorted(set(entry) - {"epoch"}):
            self._writer.add_scalar(name, entry[name], entry["epoch"])
        self._writer.flush()

    def on_end(self) -> None:
        self._writer.close()
