"""Guards inside a submission's kernel, run before and after each test.

Tests and answers share one process, so an answer can reach the tests' tools. Before a test it is
tried whether a test that must fail still fails, and whether a function of the submission stands in
the place of one that tests call; after it, names that the test took from the submission are given
back. This catches accidents, not a deliberate attack by a student who has read this file.
"""

from __future__ import annotations

import builtins
import os
import sys
from importlib import import_module
from types import ModuleType

import __main__
from crossattn.checks.students import STUDENT_VARIABLE

# Where tests and checks find what they compare with, beside all of crossattn.
TOOLS = ("builtins", "numpy", "numpy.testing", "pandas", "pandas.testing", "torch", "torch.testing")

_before: dict[str, object] = {}
_added: list[str] = []


def begin(proof: str, student: str, store: str, needs: dict[str, str]) -> None:
    """Raise ``ValueError`` with the proof where tests work; return or raise another where not.

    Parameters
    ----------
    proof : str
        Known to the grader alone.
    student : str
        Whose submission this is, whatever the notebook has claimed since.
    store : str
        Name of a dictionary that the next test finds.
    needs : dict of str
        The builtins and modules that it holds, by name.

    Raises
    ------
    ValueError
        With the proof.
    """
    os.environ[STUDENT_VARIABLE] = student
    if replaced() or not failing_tests_fail():
        return
    own = vars(__main__)
    _before.clear()
    _before.update(own)
    _added.append(store)
    own[store] = {
        name: getattr(builtins, name) if home == "builtins" else import_module(home)
        for name, home in needs.items()
    }
    raise ValueError(proof)


def end() -> None:
    """Give back the names that the test has changed; those that it added stay, as at home."""
    vars(__main__).update(_before)
    while _added:
        vars(__main__).pop(_added.pop(), None)


def is_own(value: object, own: dict[str, object]) -> bool:
    """Tell whether a function, a class or an object of a class comes from the submission."""
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__ == "__main__" or getattr(value, "__globals__", None) is own


def replaced() -> list[str]:
    """Name the functions of tools and package whose place one of the submission has taken.

    Returns
    -------
    list of str
    """
    own = vars(__main__)
    places = [
        (name, vars(module))
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
        and (name in TOOLS or name.partition(".")[0] == "crossattn")
    ]
    if "torch" in sys.modules:
        places.append(("torch.Tensor", vars(sys.modules["torch"].Tensor)))
    return [
        f"{place}.{name}"
        for place, names in places
        for name, value in list(names.items())
        if is_own(value, own)
    ]


def failing_tests_fail() -> bool:
    """Tell whether a comparison and a check that must fail do so."""
    import numpy

    from crossattn.checks import check_p_value

    return _fails(lambda: numpy.testing.assert_allclose(0.0, 1.0)) and _fails(
        lambda: check_p_value(lambda *_: 0.0)
    )


def _fails(test) -> bool:
    try:
        test()
    except AssertionError:
        return True
    return False
