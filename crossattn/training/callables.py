"""Names of a user's own losses, by which a run tells one from another."""

import hashlib
from types import CodeType, FunctionType, ModuleType

import numpy as np
import torch

from crossattn.errors import InvalidInputError

PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)


def name_of_callable(argument: str, value: object) -> str:
    """Return what distinguishes a callable in every process: its name and a SHA-256.

    Of a function its code, defaults and closure, and the numbers and texts that it reads in its
    module; of an object its type and state. What cannot be read is refused as that argument.
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    try:
        facts = repr(_facts(value))
    except Exception as error:  # of an object's own __reduce__
        raise InvalidInputError(
            f"{argument} {name} cannot be kept with a run_dir, as it has a state that cannot be "
            f"read: {error}"
        ) from None
    return f"{name} {hashlib.sha256(facts.encode()).hexdigest()}"


def _facts(value: object) -> object:
    """Return what distinguishes a value, as texts in lists, free of addresses and hash seeds."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, type | ModuleType):
        return [getattr(value, key, "") for key in ("__module__", "__qualname__", "__name__")]
    if isinstance(value, set | frozenset):
        return sorted(repr(_facts(x)) for x in value)
    if isinstance(value, CodeType):
        parts = [value.co_code, value.co_names, value.co_consts]
    elif isinstance(value, FunctionType):
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, vars(value)]
        parts += [cell.cell_contents for cell in value.__closure__ or ()]
        read = [value.__globals__.get(name) for name in value.__code__.co_names]
        parts += [x for x in read if isinstance(x, PLAIN)]
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, torch.Tensor | np.ndarray):
        parts = [str(value.dtype), value.tolist()]
    else:  # what pickle would keep of it, and the functions of its class
        kept = value.__reduce_ex__(4)
        parts = [kept]
        if not isinstance(kept, str):  # arguments, state, entries of a list and of a mapping
            parts = [*kept[1:3], *(list(entries or ()) for entries in kept[3:5])]
        parts += [x for _, x in sorted(vars(type(value)).items()) if isinstance(x, FunctionType)]
    return [_facts(type(value)), *map(_facts, parts)]
