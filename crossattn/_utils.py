"""Where the code runs: device, seeds, size of the book, progress, safe writes.

Used by every room, uses none. torch is imported only by the functions that need it.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from crossattn.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

SIZE_VARIABLE = "CROSSATTN_SIZE"


def size(full: int, minimum: int = 1) -> int:
    """Scale a sample size of the book by the one size knob.

    Every chapter asks here how many bars, epochs or seeds to use, so that one environment variable
    (``CROSSATTN_SIZE``, 1 by default) makes the whole book smaller or larger.

    Parameters
    ----------
    full : int
        The size at which the chapter's claims are asserted.
    minimum : int
        Never less than this.

    Returns
    -------
    int

    Raises
    ------
    InvalidInputError
        ``CROSSATTN_SIZE`` is not a positive number.

    Examples
    --------
    >>> size(20_000)
    20000
    """
    text = os.environ.get(SIZE_VARIABLE, "1")
    try:
        scale = float(text)
    except ValueError:
        scale = float("nan")
    if not 0 < scale < float("inf"):
        raise InvalidInputError(f"{SIZE_VARIABLE} must be a positive number, got {text!r}")
    return max(minimum, round(full * scale))


def select_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device that ``device`` names; ``"auto"`` takes a GPU when there is one.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Returns
    -------
    torch.device

    Raises
    ------
    InvalidInputError
        The name is unknown, or that device is not on this machine.
    """
    import torch

    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
        if chosen.type == "meta":
            raise RuntimeError("it holds shapes and no numbers")
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device {str(device)!r} cannot be used here: {reason}") from None
    return chosen


@contextlib.contextmanager
def on_device(model: torch.nn.Module, device: torch.device) -> Iterator[torch.nn.Module]:
    """Move a model to a device, and back to where it was."""
    before = next(model.parameters()).device
    try:
        yield model.to(device)
    finally:
        model.to(before)


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed what torch draws on the CPU and on one device, and nothing else.

    ``torch.manual_seed`` seeds every accelerator too; where none has been used it keeps each call,
    with its stack trace, for the day one is. Once a training step that is slow, and it grows.

    Parameters
    ----------
    seed : int
        In [0, 2**63).
    device : torch.device
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices), for a run that can be repeated."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below us still read the global state
    torch.manual_seed(seed)


def progress(iterable: Iterable[T], *, shown: bool = True, **options) -> Iterable[T]:
    """Wrap ``iterable`` in a progress bar on stderr that vanishes where there is no terminal.

    ``TQDM_DISABLE=1`` in the environment keeps every bar away.
    """
    from tqdm.auto import tqdm

    watched = sys.stderr is not None and sys.stderr.isatty()
    if not shown or not (watched or _in_notebook()):
        options["disable"] = True  # False would overrule the environment
    return tqdm(iterable, file=sys.stderr, leave=False, **options)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it there, whole and synced, on success.

    A reader sees the old file or the new one, never a part; after an error nothing is left behind,
    and an OSError names ``path``. A link is followed. What is no file but takes bytes, such as
    ``/dev/stdout``, is itself what is yielded.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    target = path.resolve()
    temporary = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}.part")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
