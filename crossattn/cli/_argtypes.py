"""Type converters for argparse: integers, numbers, dates, paths."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from crossattn.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = 2**63 - 1  # of the integers that NumPy and torch count and seed with


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = nonnegative_int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def bars_or_duration(text: str) -> int | pd.Timedelta:
    """Parse a number of bars, or a duration such as 24h."""
    if not text.strip()[-1:].isalpha():
        return positive_int(text)
    from crossattn.data.durations import check_span

    try:
        return check_span("span", text.strip())
    except InvalidInputError:
        raise argparse.ArgumentTypeError(
            f"must be a number of bars or a duration such as 24h, got {text!r}"
        ) from None


def nonnegative_int(text: str) -> int:
    """Parse a whole number from 0 to 2**63 - 1."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}")
    if value > _LARGEST:
        raise argparse.ArgumentTypeError(f"must be at most {_LARGEST}, got {text}")
    return value


def _number(rule: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a parser of finite numbers that keep a rule."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"must be a number, got {text!r}")
        if not holds(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}")
        return value

    return parse


positive_float = _number("above 0", lambda value: value > 0)
fraction = _number("in [0, 1)", lambda value: 0 <= value < 1)
probability = _number("between 0 and 1", lambda value: 0 < value < 1)


def utc_datetime(text: str) -> datetime:
    """Parse an ISO 8601 moment; UTC where no offset is given, and a bare date is 00:00 UTC."""
    try:
        value = datetime.fromisoformat(text)
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"must be an ISO 8601 date or time such as 2024-01-31, got {text!r}"
        ) from None


def utc_end(text: str) -> datetime:
    """Parse the end of a span as :func:`utc_datetime` does; a bare date means all of that day."""
    value = utc_datetime(text)
    with contextlib.suppress(ValueError):
        value = datetime.combine(date.fromisoformat(text), time.max, UTC)
    return value


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"must be names separated by commas, got {text!r}")
    return found


def folder(text: str) -> Path:
    """Parse the path of a folder, which may be there or not; an empty text is no path."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a folder, got an empty text")
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"must name a folder, and {text!r} is a file")
    return path


def new_file(text: str) -> Path:
    """Parse the path of a file to write: its folder is there, and it is no folder itself."""
    path = Path(text)
    if not text.strip() or path.is_dir():
        raise argparse.ArgumentTypeError(f"must name a file, got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r} to write to")
    return path
