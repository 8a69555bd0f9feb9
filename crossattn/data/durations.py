"""Spans given as a number of bars or as a duration such as "24h"."""

import contextlib
import re
from datetime import timedelta
from numbers import Integral

import pandas as pd

from crossattn.errors import InvalidInputError


def check_span(name: str, value: object) -> int | pd.Timedelta:
    """Return a number of bars as an int or a duration as a Timedelta; refuse anything else.

    A duration is a text with a unit, such as ``"24h"`` or ``"5d"``, or any kind of time delta.

    Examples
    --------
    >>> check_span("horizon", 24), check_span("horizon", "5d")
    (24, Timedelta('5 days 00:00:00'))
    """
    has_unit = isinstance(value, timedelta) or any(letter.isalpha() for letter in str(value))
    has_unit &= not isinstance(value, bool | float)
    if isinstance(value, Integral) and not has_unit and 1 <= value < 2**63 and value is not True:
        return int(value)
    given, duration = value, pd.NaT
    if isinstance(value, str) and not value.startswith("P"):  # pandas deprecates H, d and w
        given = re.sub(r"(?<=[\d\s])[Hdw](?![A-Za-z])", lambda unit: unit[0].swapcase(), value)
    if has_unit:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            duration = pd.Timedelta(given).floor("us")  # as fine as clocks are
    if duration > pd.Timedelta(0):  # False for NaT
        return duration
    raise InvalidInputError(
        f"{name} must be a number of bars, at least 1, or a duration such as '24h', got {value!r}"
    )


def span_text(span: pd.Timedelta) -> str:
    """Return a duration in its largest whole unit.

    Examples
    --------
    >>> [span_text(pd.Timedelta(span)) for span in ("24h", "5D", "90min")]
    ['24 h', '5 days', '90 min']
    """
    for unit, least in (("days", 3), ("h", 1), ("min", 1), ("s", 1), ("ms", 1)):
        count = span / pd.Timedelta(1, unit)
        if count >= least and count == int(count):
            return f"{int(count)} {unit}"
    return str(span)
