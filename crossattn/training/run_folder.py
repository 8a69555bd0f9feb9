"""A run folder: history, the last checkpoint, and at the end the model.

A checkpoint is tensors under a name of their own, then a checksummed JSON that points to them,
replaced atomically: a kill at any moment leaves the old checkpoint or the new one.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from crossattn._io import write_file
from crossattn._validation import check_path
from crossattn.config import TrainingConfig
from crossattn.errors import DamagedFileError, InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training import checkpoint
from crossattn.training.callables import name_of_callable
from crossattn.windows.dataset import CrossAttentionData

POINTER = "checkpoint.json"
FIRST_WRITTEN = ".checkpoint*.part"  # what a kill can leave behind before there is a pointer
HISTORY = "history.jsonl"
RUN_FILES = (POINTER, HISTORY, checkpoint.MODEL_FILE, checkpoint.CONFIG_FILE)


@dataclass
class Progress:
    """Progress of a training: epoch, batch, history, best loss."""

    epoch: int = 1  #: of the next batch, from 1
    batch: int = 0  #: its number in the epoch, from 0
    loss_sum: float = 0.0  #: over the epoch's rows so far
    history: list[dict] = field(default_factory=list)  #: one entry a finished epoch
    best_epoch: int = 0  #: 0: none yet
    best_val_loss: float | None = None
    finished: bool = False


def fingerprint(
    model: CrossAttentionMultiAsset,
    parts: Sequence[CrossAttentionData],
    recipe: TrainingConfig,
    **settings,
) -> dict:
    """Return what must be the same for a run to go on: configuration, recipe, data, seed."""
    if callable(recipe.loss):
        recipe = replace(recipe, loss=name_of_callable("loss", recipe.loss))
    data = digest_of_windows(parts)
    mark = {"model": model.config.to_dict(), "recipe": asdict(recipe), "data": data}
    return json.loads(json.dumps(mark | settings))


def digest_of_windows(parts: Sequence[CrossAttentionData]) -> str:
    """Return the SHA-256 of what a model learns from: features, targets, exogenous series."""
    digest = hashlib.sha256()
    for data in parts:
        arrays = [data.series, data.y, data.bar_returns]
        if data.bar_volatilities is not None:
            arrays.append(data.realised_volatility)
        if data.exogenous is not None:
            digest.update(repr(data.exogenous_names).encode())
            arrays.append(data.exogenous)
        for array in arrays:
            digest.update(str(array.shape).encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


class RunFolder:
    """The folder of one training run; ``None`` keeps nothing; only ``writes`` processes write."""

    def __init__(self, directory: str | Path | None, *, resume: bool, writes: bool = True):
        self.writes = writes
        self.path = None if directory is None else check_path("run_dir", directory)
        if self.path is None:
            if resume:
                raise InvalidInputError("resume=True needs a run_dir")
            return
        if self.path.exists() and not self.path.is_dir():
            raise InvalidInputError(f"run_dir must be a folder, got the file {self.path}")
        if not resume and any((self.path / name).exists() for name in RUN_FILES):
            raise InvalidInputError(
                f"run_dir {self.path} holds a run: resume it (resume=True, --resume) or use another"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"run_dir {self.path}: {error.strerror}") from None

    def claim(self, mark: dict) -> None:
        """Write what the run is made of, before anything is finished."""
        if self._pointer(mark) is None and self.writes:
            checkpoint.write_checksummed_json(self.path / POINTER, {"run": mark})

    def write_history(self, entries: Sequence[dict]) -> None:
        """Write one line of JSON an epoch, where the file does not hold them already."""
        lines = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        history = self.path / HISTORY
        if not history.exists() or history.read_bytes() != lines:
            write_file(history, lines)

    def save(self, progress: Progress, tensors: Mapping[str, torch.Tensor], mark: dict) -> None:
        """Write a checkpoint and drop the one before it."""
        if self.path is None or not self.writes:
            return
        name = f"checkpoint-{progress.epoch:05d}-{progress.batch:07d}.safetensors"
        digest = checkpoint.write_tensors(self.path / name, tensors)
        pointer = {"progress": asdict(progress), "file": name, "sha256": digest, "run": mark}
        checkpoint.write_checksummed_json(self.path / POINTER, pointer)
        self._reconcile(progress, name)

    def restore(self, mark: dict) -> tuple[Progress, dict[str, torch.Tensor]] | None:
        """Return the last checkpoint, None where there is none."""
        pointer = None if self.path is None else self._pointer(mark)
        if pointer is None:
            return None
        with checkpoint.must_fit(f"{self.path / POINTER} is not a checkpoint"):
            progress = Progress(**pointer["progress"])
            name, digest = Path(pointer["file"]).name, pointer["sha256"]
        tensors = checkpoint.read_tensors(self.path / name, digest)
        if self.writes:
            self._reconcile(progress, name)
        return progress, tensors

    def _pointer(self, mark: dict) -> dict | None:
        """Return the pointer to the last checkpoint of this run, None where there is none."""
        path = self.path / POINTER
        if not path.exists():
            self._clear_parts(FIRST_WRITTEN)
            return None
        pointer = checkpoint.read_checksummed_json(path)
        run = pointer.get("run")
        if not isinstance(run, dict):
            raise DamagedFileError(f"{path} is not a checkpoint")
        if changed := [key for key in mark if run.get(key) != mark[key]]:
            raise InvalidInputError(
                f"run_dir {self.path} holds a run with another {' and '.join(changed)}: resume it "
                "with the bars and settings that it began with, or choose another folder"
            )
        self._clear_parts(".*.part")
        return pointer

    def _clear_parts(self, names: str) -> None:
        """Drop the temporary files that a kill left behind."""
        if self.writes:
            with contextlib.suppress(OSError):
                for part in self.path.rglob(names):
                    part.unlink(missing_ok=True)

    def _reconcile(self, progress: Progress, newest: str) -> None:
        """Make history and checkpoints agree with the pointer: a kill may have come in between."""
        self.write_history(progress.history)
        for old in self.path.glob("checkpoint-*.safetensors"):
            if old.name != newest:
                old.unlink(missing_ok=True)
