"""Staged checks: one idea a stage, and a message that names the likely slip.

A check runs its stages in order and stops at the first that fails, because a wrong axis makes every
later message misleading. Where an answer is wrong in a way that many answers are wrong, the check
computes that wrong answer too and, if it matches, says so.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps

import numpy as np
from numpy.typing import ArrayLike

from crossattn.errors import InvalidInputError

TOLERANCE = 1e-6


class CheckFailedError(AssertionError):
    """A learner's answer failed a stage; the message says which and what to look at."""


_UNTIL = """Other Parameters
    ----------------
    until : str, optional
        Title of the last stage to run; all of them by default.

    Raises
"""


def staged(check: Callable[[Callable], Iterator[str]]) -> Callable[..., None]:
    """Make a check of a generator that yields the title of each stage before its code.

    The check takes the learner's function and ``until``, the title of the last stage to run. It
    raises CheckFailedError at the first stage that fails, with its number and title (an exception
    of the learner's own code is reported in the same way), InvalidInputError where no stage is
    called ``until``.

    Examples
    --------
    >>> @staged
    ... def check_nothing(fn):
    ...     yield "it runs"
    ...     fn()
    >>> check_nothing(lambda: None)
    check_nothing: 1 stages passed
    """

    @wraps(check, assigned=("__module__", "__name__", "__qualname__"))
    def run(fn: Callable, *, until: str | None = None) -> None:
        stages, titles = check(fn), []
        while True:
            where = f"{check.__name__}, stage {len(titles)} ({', '.join(titles[-1:])})"
            try:
                title = next(stages, None)  # runs the stage before it
            except CheckFailedError as failure:
                raise CheckFailedError(f"{where}: {failure}") from None
            except NotImplementedError:
                raise CheckFailedError(f"{where}: nothing is written here yet") from None
            except Exception as error:
                raise CheckFailedError(
                    f"{where}: your code raised {type(error).__name__}: {error}"
                ) from error
            if title is None or until in titles:
                break
            titles.append(title)
        if until is not None and until not in titles:
            raise InvalidInputError(f"until must be one of {', '.join(titles)}, got {until!r}")
        print(f"{check.__name__}: {len(titles)} stages passed")

    del run.__wrapped__  # whose signature lacks ``until``
    run.__doc__ = (check.__doc__ or "").replace("Raises\n", _UNTIL, 1)
    return run


def require(condition: bool, message: str) -> None:
    """Fail the stage with ``message`` unless ``condition`` holds."""
    if not condition:
        raise CheckFailedError(message)


def as_array(value, name: str) -> np.ndarray:
    """Return a tensor, table or list as a float array, or fail the stage by name."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise CheckFailedError(f"{name} must be numbers, got {type(value).__name__}") from None


def require_shape(value: np.ndarray, shape: tuple[int, ...], name: str, meaning: str) -> None:
    """Fail the stage unless the array has this shape; ``meaning`` spells the axes out."""
    require(
        value.shape == shape,
        f"{name} must have shape {shape}, that is {meaning}; yours has {value.shape}",
    )


def close(value: np.ndarray, expected: ArrayLike) -> bool:
    """Tell whether arrays agree in shape and, to ``TOLERANCE`` of their scale, NaN with NaN."""
    expected = np.asarray(expected, dtype=np.float64)
    if value.shape != expected.shape:
        return False
    scale = np.nanmax(np.abs(expected), initial=1.0)
    return np.allclose(value, expected, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def require_close(
    value, expected: ArrayLike, name: str, slips: Mapping[str, ArrayLike] | None = None
) -> None:
    """Fail the stage unless ``value`` is ``expected``, naming the slip that explains it.

    ``value`` may be a tensor, table or list. ``slips`` holds each known wrong answer under the
    message that teaches; the tolerance is relative to the largest expected number, and at least
    to 1.
    """
    value = as_array(value, name)
    if close(value, expected):
        return
    for message, wrong in (slips or {}).items():
        if close(value, wrong):
            raise CheckFailedError(message)
    expected = np.asarray(expected, dtype=np.float64)
    if value.shape != expected.shape:
        raise CheckFailedError(f"{name} must have shape {expected.shape}, got {value.shape}")
    gap = np.nan_to_num(np.abs(value - expected), nan=np.inf)
    gap = np.where(np.isnan(value) & np.isnan(expected), 0.0, gap)
    at = tuple(int(k) for k in np.unravel_index(gap.argmax(), gap.shape))
    raise CheckFailedError(
        f"{name} is off, most at position {at}: expected {expected[at]:.6g}, got {value[at]:.6g}"
    )
