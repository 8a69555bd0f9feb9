"""Staged checks: one idea a stage, and a message that names the likely slip.

A check runs its stages in order and stops at the first that fails, because a wrong axis makes every
later message misleading. Where an answer is wrong in a way that many answers are wrong, the check
computes that wrong answer too and, if it matches, reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crossattn.errors import InvalidInputError

TOLERANCE = 1e-6


class CheckFailedError(AssertionError):
    """A learner's answer failed a stage; the message names it and what to look at.

    Examples
    --------
    >>> raise CheckFailedError("stage 2 of 3, the scale: divide by the square root")
    Traceback (most recent call last):
        ...
    crossattn.checks._stages.CheckFailedError: stage 2 of 3, the scale: divide by the square root
    """


Stage = tuple[str, Callable[[], None]]


def run_stages(check: str, stages: list[Stage], until: str | None = None) -> None:
    """Run the stages of one check in order.

    Parameters
    ----------
    check : str
        Name of the check, printed with the result.
    stages : list of (str, callable)
        A title and a function that raises :class:`CheckFailedError` where the stage fails.
    until : str, optional
        Title of the last stage to run.

    Raises
    ------
    CheckFailedError
        At the first stage that fails, with its number and title. An exception of the learner's own
        code is reported in the same way, with its type and text.
    InvalidInputError
        There is no stage of that title.

    Examples
    --------
    >>> run_stages("check_nothing", [("it runs", lambda: None)])
    check_nothing: 1 of 1 stages passed
    """
    titles = [title for title, _ in stages]
    if until is not None and until not in titles:
        raise InvalidInputError(f"until must be one of {', '.join(titles)}, got {until!r}")
    last = len(stages) if until is None else titles.index(until) + 1
    for number, (title, stage) in enumerate(stages[:last], start=1):
        where = f"{check}, stage {number} of {len(stages)} ({title})"
        try:
            stage()
        except CheckFailedError as failure:
            raise CheckFailedError(f"{where}: {failure}") from None
        except NotImplementedError:
            raise CheckFailedError(f"{where}: nothing is written here yet") from None
        except Exception as error:
            raise CheckFailedError(
                f"{where}: your code raised {type(error).__name__}: {error}"
            ) from error
    print(f"{check}: {last} of {len(stages)} stages passed")


def require(condition: bool, message: str) -> None:
    """Fail the stage with ``message`` unless ``condition`` holds."""
    if not bool(condition):
        raise CheckFailedError(message)


def as_array(value, name: str) -> np.ndarray:
    """Return a tensor, table or list as a float array, or fail the stage by name."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise CheckFailedError(
            f"{name} must be an array of numbers, got {type(value).__name__}"
        ) from None


def require_shape(value: np.ndarray, shape: tuple[int, ...], name: str, meaning: str) -> None:
    """Fail the stage unless the array has this shape; ``meaning`` spells the axes out."""
    require(
        value.shape == shape,
        f"{name} must have shape {shape}, that is {meaning}; yours has {value.shape}",
    )


def close(value: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    """Tell whether two arrays agree, NaN with NaN, in shape and to ``tolerance`` of their scale."""
    if value.shape != expected.shape:
        return False
    missing = np.isnan(expected)
    if not np.array_equal(np.isnan(value), missing):
        return False
    if missing.all():
        return True
    scale = max(1.0, float(np.abs(expected[~missing]).max()))
    return bool(np.abs(value[~missing] - expected[~missing]).max() <= tolerance * scale)


def require_close(
    value: np.ndarray,
    expected: np.ndarray,
    name: str,
    slips: Mapping[str, np.ndarray] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Fail the stage unless ``value`` is ``expected``, naming the slip that explains it.

    Parameters
    ----------
    value, expected : ndarray
        The learner's numbers and those of an independent reference.
    name : str
        What the numbers are.
    slips : mapping of str to ndarray, optional
        A teaching message for each known wrong answer.
    tolerance : float
        Relative to the largest expected number, and at least to 1.
    """
    if close(value, expected, tolerance):
        return
    for message, wrong in (slips or {}).items():
        if close(value, np.asarray(wrong, dtype=np.float64), tolerance):
            raise CheckFailedError(message)
    if value.shape != expected.shape:
        raise CheckFailedError(f"{name} must have shape {expected.shape}, got {value.shape}")
    gap = np.abs(np.nan_to_num(value, nan=np.inf) - np.nan_to_num(expected, nan=np.inf))
    gap[np.isnan(value) & np.isnan(expected)] = 0.0
    at = tuple(int(k) for k in np.unravel_index(np.argmax(np.nan_to_num(gap, nan=0)), gap.shape))
    raise CheckFailedError(
        f"{name} is off, most at position {at}: expected {expected[at]:.6g}, got {value[at]:.6g}"
    )
