"""TensorBoard, for those who watch several runs at once; optional.

Built in chapter: Training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from crossattn.errors import InvalidInputError, MissingDependencyError

BOARD = "tensorboard"


@contextlib.contextmanager
def scalar_board(
    run_dir: Path | None, first_epoch: int, *, wanted: bool
) -> Iterator[Callable[[dict], None]]:
    """Open ``run_dir/tensorboard`` and yield what adds one entry of the history to it.

    Parameters
    ----------
    run_dir : Path or None
    first_epoch : int
        The epoch that comes next. What a killed run wrote of it and later ones is hidden, so that a
        resumed run shows every epoch once.
    wanted : bool
        False opens nothing, and drops the entries.

    Raises
    ------
    InvalidInputError
        There is no run folder to write to.
    MissingDependencyError
        The package tensorboard is not installed.
    """
    if not wanted:
        yield lambda entry: None
        return
    if run_dir is None:
        raise InvalidInputError("tensorboard=True needs a run_dir")
    writer = _writer_class()(str(run_dir / BOARD), purge_step=first_epoch)
    with contextlib.closing(writer):

        def add(entry: dict) -> None:
            for name in sorted(set(entry) - {"epoch"}):
                writer.add_scalar(name, entry[name], entry["epoch"])
            writer.flush()

        yield add


def _writer_class():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "tensorboard=True needs the package tensorboard: pip install 'crossattn[tensorboard]'"
        ) from None
    return SummaryWriter
