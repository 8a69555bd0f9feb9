"""Validate arguments: types, shapes, numbers, choices, names, seeds.

Used at public entry points alone; inner functions trust their callers. Every refusal names the
argument, says what it must be and shows what it got.
"""

import os
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from crossattn.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor

INFINITY = float("inf")
LARGEST_INT = 2**63 - 1  # that NumPy and torch count and seed with


def check_type(name: str, value: object, kind: type | UnionType, wanted: str) -> None:
    """Refuse what is not of the type ``kind``, which a message calls ``wanted``."""
    if not isinstance(value, kind):
        raise InvalidInputError(f"{name} must be {wanted}, got {type(value).__name__}")


def check_shape(name: str, tensor: "Tensor", *axes: int | str) -> None:
    """Refuse a tensor without these axes: each a size, or the name of one of any size."""
    shape = tuple(tensor.shape)
    sizes = [m if isinstance(n, str) else n for n, m in zip(axes, shape, strict=False)]
    if len(shape) != len(axes) or tuple(sizes) != shape:
        wanted = ", ".join(map(str, axes))
        raise InvalidInputError(f"{name} must have shape ({wanted}), got {shape}")


def check_int(name: str, value: object, *, at_least: int = 1) -> int:
    """Return ``value`` as an int, or refuse what is no integer or too small or large."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < at_least:
        raise InvalidInputError(f"{name} must be an integer of at least {at_least}, got {value!r}")
    if value > LARGEST_INT:
        raise InvalidInputError(f"{name} must be at most {LARGEST_INT}, got {value!r}")
    return int(value)


def check_jobs(n_jobs: object) -> int:
    """Return a number of parallel jobs, or refuse it."""
    if check_int("n_jobs", n_jobs, at_least=-1) == 0 or n_jobs > 1024:
        raise InvalidInputError(f"n_jobs must be 1 to 1024, or -1 for every core, got {n_jobs}")
    return int(n_jobs)


def check_float(
    name: str,
    value: object,
    *,
    above: float = -INFINITY,
    at_least: float = -INFINITY,
    below: float = INFINITY,
    at_most: float = INFINITY,
) -> float:
    """Return ``value`` as a float, or refuse what is no number between the bounds, or NaN."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not (above < value < below and at_least <= value <= at_most):
        limits = {"above": above, "at least": at_least, "below": below, "at most": at_most}
        given = [f"{text} {limit}" for text, limit in limits.items() if np.isfinite(limit)]
        wanted = f"a finite number {' and '.join(given)}".strip()
        raise InvalidInputError(f"{name} must be {wanted}, got {value!r}")
    return float(value)


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return ``value``, or refuse what is not one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def check_bool(name: str, value: object) -> bool:
    """Return ``value``, or refuse what is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInputError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_names(name: str, value: object) -> tuple[str, ...]:
    """Return ``value`` as a tuple of texts, or refuse what is no sequence of them."""
    names = () if isinstance(value, (str, bytes)) or not np.iterable(value) else tuple(value)
    if not names or not all(isinstance(one, str) for one in names):
        raise InvalidInputError(f"{name} must be a sequence of names, got {value!r}")
    return names


def check_same_names(name: str, given: Collection, known: Collection) -> None:
    """Refuse names that are not the known ones, in any order, by the first that differs."""
    if odd := sorted(set(given) ^ set(known), key=str):
        shown = [str(each) for each in known][:20] + ["..."] * (len(known) > 20)
        raise InvalidInputError(f"{name} must be {', '.join(shown) or 'none'}; {odd[0]!r} differs")


def labels_of(value: object) -> list | None:
    """Return the labels of a Series, or of a DataFrame's columns; None where there are none."""
    if not hasattr(value, "iloc"):  # of pandas
        return None
    labels = list(getattr(value, "columns", value.index))
    return None if labels == list(range(len(labels))) else labels


def in_order(name: str, value: object, symbols: Collection | None) -> object:
    """Return a Series or DataFrame with its symbols in this order, or refuse other symbols.

    What has no labels goes by position, also where ``symbols`` is None.
    """
    if symbols is None or (labels := labels_of(value)) is None:
        return value
    check_same_names(f"{name}: symbols", labels, symbols)
    return value[list(symbols)]


def check_mapping(name: str, value: object) -> Mapping:
    """Return ``value``, or refuse what is no mapping with at least one name."""
    if not isinstance(value, Mapping) or not value:
        got = "an empty one" if isinstance(value, Mapping) else type(value).__name__
        raise InvalidInputError(f"{name} must be a mapping of at least one name, got {got}")
    return value


def check_path(name: str, value: object) -> Path:
    """Return ``value`` as a Path, or refuse what names no file or folder."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise InvalidInputError(f"{name} must be a path, got {value!r}")
    if "\0" in os.fspath(value):
        raise InvalidInputError(f"{name} must be a path without zero bytes, got {value!r}")
    return Path(value)


def check_arrays(
    name: str, value: object, shape: tuple[int | None, ...] | None = None
) -> dict[str, np.ndarray]:
    """Return a mapping of names to floats, as :func:`check_array`, or refuse one of others."""
    given = check_mapping(name, value)
    return {key: check_array(f"{name}: {key!r}", each, shape) for key, each in given.items()}


def check_array(
    name: str, value: object, shape: tuple[int | None, ...] | None, dtype: type = np.float64
) -> np.ndarray:
    """Return ``value`` as floats of a shape, None where any will do, or refuse it."""
    try:
        raw = np.asarray(value)
        mixed = raw.flat if raw.dtype == object else ()
        if raw.dtype.kind in "cmMSU" or any(isinstance(one, (str, bytes)) for one in mixed):
            raise TypeError("complex numbers, times or texts")
        if hasattr(value, "isna"):  # of pandas: what is missing may be NA, which is no number
            value = value.to_numpy(dtype=dtype, na_value=np.nan)
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError):
        got = repr(value)
        got = type(value).__name__ if len(got) > 80 or "\n" in got else got
        raise InvalidInputError(f"{name} must hold numbers, got {got}") from None
    if shape is None:
        return array
    fits = len(shape) == array.ndim
    if not fits or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        wanted = str(shape).replace("None", "any")
        raise InvalidInputError(f"{name} must have shape {wanted}, got {array.shape}")
    return array


def check_same_shape(*, dims: Collection[int] = (), **given: object) -> list[np.ndarray]:
    """Return arrays of floats, or refuse other shapes than one, with so many axes if given.

    Columns of a DataFrame are put in the order of the last one's.
    """
    symbols = labels_of(list(given.values())[-1])
    arrays = [check_array(name, in_order(name, x, symbols), None) for name, x in given.items()]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim not in (dims or (arrays[0].ndim,)):
        names, got = (" and ".join(map(str, each)) for each in (given, shapes))
        raise InvalidInputError(f"{names} must have one shape, got {got}")
    return arrays


def check_time_zone(name: str, value: object) -> str:
    """Return ``value``, or refuse what is no time zone of the IANA database."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise InvalidInputError(
            f"{name} must be a zone such as 'UTC' or 'America/New_York', got {value!r}"
        ) from None
    return value
