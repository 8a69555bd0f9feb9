"""Exceptions and warnings of the package.

Whatever a bad input, a server or a damaged file causes is a :class:`CrossAttentionError`; the
command line turns each into one line and exit code 2. Anything else that escapes is a defect.
"""

import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType


class CrossAttentionError(Exception):
    """Base of every error that a caller can cause or must handle.

    Its text is one line of at most 600 characters, whatever was passed: a table in place of a
    number is named by its beginning.
    """

    def __str__(self) -> str:
        line = " ".join(super().__str__().split())
        return line if len(line) <= 600 else line[:597] + "..."


class InvalidInputError(CrossAttentionError, ValueError):
    """A value is wrong: the message names the argument and what it got."""


class VenueError(CrossAttentionError):
    """A data venue refused, misbehaved or could not be reached."""


class DamagedFileError(CrossAttentionError):
    """A file is not what it claims to be: cut, altered, foreign or of another version."""


class MissingDependencyError(CrossAttentionError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class CrossAttentionWarning(UserWarning):
    """Something was left out or replaced, by name, and the result is still right."""


def warn(message: str, stacklevel: int) -> None:
    """Warn by a CrossAttentionWarning; ``stacklevel`` counts from the caller, as in warnings."""
    warnings.warn(message, CrossAttentionWarning, stacklevel=stacklevel + 1)


def first_names(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def import_optional(module: str, caller: str, extra: str) -> ModuleType:
    """Import a module of an optional package, or raise how to install it."""
    try:
        return import_module(module)
    except ImportError:
        text = f"{caller} needs {module.split('.')[0]}: pip install 'crossattn[{extra}]'"
        raise MissingDependencyError(text) from None


def __getattr__(name: str):
    """Make NotFittedError on first use: the command line must not import scikit-learn."""
    if name != "NotFittedError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sklearn.exceptions

    bases = (InvalidInputError, sklearn.exceptions.NotFittedError)
    doc = "A model is used before ``fit``; scikit-learn's error of this name too."
    error = globals()[name] = type(name, bases, {"__doc__": doc, "__module__": __name__})
    return error
