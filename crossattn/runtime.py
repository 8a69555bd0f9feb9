"""Device, random seeds, compiled loops and the sample sizes of the book.

Imports no other module of the package but ``errors``; torch and numba are imported only by the
functions that need them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from crossattn.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

SIZE_VARIABLE = "CROSSATTN_SIZE"
FEW_ROWS = 200  # a plain loop over as many is faster than loading numba


def scaled_size(full: int, minimum: int = 1) -> int:
    """Scale a sample size by the environment variable ``CROSSATTN_SIZE`` (1 by default).

    Every chapter scales its numbers of bars, epochs and seeds with this function, so that one
    variable makes the whole book smaller or larger.

    Parameters
    ----------
    full : int
        The size at which the chapter's claims are asserted.
    minimum : int
        Lower bound of the result.

    Examples
    --------
    >>> scaled_size(20_000)
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
    """Return a torch device by name; ``"auto"`` takes a GPU when there is one.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
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
    except (RuntimeError, AssertionError, ImportError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device {str(device)!r} cannot be used here: {reason}") from None
    return chosen


@contextlib.contextmanager
def on_device(model: torch.nn.Module, device: torch.device) -> Iterator[torch.nn.Module]:
    """Context manager: move a model to a device, and back on exit."""
    before = next(model.parameters()).device
    try:
        yield model.to(device)
    finally:
        model.to(before)


@functools.cache
def compiled(loop: Callable) -> Callable:
    """Compile a loop by numba; what it makes is kept on disk between runs, where it can be."""
    from numba import njit

    try:
        return njit(cache=True)(loop)
    except RuntimeError:  # there is no place on disk to keep it
        return njit(loop)


def compiled_if_worth(loop: Callable, n_rows: int) -> Callable:
    """Compile a loop where it runs over many rows, or where the compiler is loaded anyway."""
    return compiled(loop) if n_rows > FEW_ROWS or "numba" in sys.modules else loop


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed torch's random generators of the CPU and of one device.

    ``torch.manual_seed`` seeds every accelerator, and queues each call with its stack trace until
    CUDA is initialised: called once a training step, that is slow and leaks memory.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
