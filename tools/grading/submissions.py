"""Find and read the notebooks that were handed in (untrusted input)."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossattn.errors import InvalidInputError
from grading.sandbox import Limits

STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Submission:
    """One notebook that a student handed in."""

    student: str
    assignment: str
    path: Path


def find_submissions(folder: Path, assignments: list[str]) -> Iterator[Submission]:
    """Yield the notebooks of known assignments, by student, in the order of names.

    Parameters
    ----------
    folder : Path
    assignments : list of str
        Names of assignments that have a source.

    Yields
    ------
    Submission

    Raises
    ------
    InvalidInputError
        The folder does not exist, or a student's folder has a name that is no id.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"SUBMISSIONS must be a folder of students, got {str(folder)!r}")
    for home in sorted(folder.iterdir()):
        if home.name.startswith(".") or not (home.is_dir() or home.is_symlink()):
            continue
        if not STUDENT.fullmatch(home.name) or home.is_symlink():
            raise InvalidInputError(
                f"SUBMISSIONS must hold one folder a student, named by id (letters, digits, . _ "
                f"@ -), got {home.name!r}"
            )
        for name in assignments:
            for path in (home / f"{name}.ipynb", home / name / f"{name}.ipynb"):
                if path.is_symlink() or path.exists():
                    yield Submission(home.name, name, path)
                    break


def left_out(folder: Path, assignments: list[str]) -> list[str]:
    """Return the notebooks that no one would grade, by student, as paths below the folder.

    Parameters
    ----------
    folder : Path
    assignments : list of str

    Returns
    -------
    list of str
        Files whose name is that of no assignment, and second copies.
    """
    graded = {submission.path for submission in find_submissions(folder, assignments)}
    notebooks = sorted({*folder.glob("*/*.ipynb"), *folder.glob("*/[!.]*/*.ipynb")} - graded)
    return [path.relative_to(folder).as_posix() for path in notebooks]


def read_submission(path: Path, limits: Limits):
    """Read a notebook file that must be an ordinary file of bounded size.

    Returns
    -------
    NotebookNode
        In the present format, whatever version the file has.

    Raises
    ------
    InvalidInputError
        A link, a device, or a file that is too large or no notebook.
    """
    import nbformat

    if path.parent.is_symlink():
        raise InvalidInputError("the submission must be an ordinary file, got a linked folder")
    if path.is_symlink():
        raise InvalidInputError("the submission must be an ordinary file, got a link")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInputError("the submission must be an ordinary file")
        content = file.read(limits.submission_bytes + 1)
    if len(content) > limits.submission_bytes:
        raise InvalidInputError(
            f"the submission must have at most {limits.submission_bytes:,} bytes"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # older formats, which are mended here
            notebook = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
            nbformat.validate(notebook)
    except Exception as error:  # any damage that a file can have
        reason = str(error).splitlines() or [type(error).__name__]
        raise InvalidInputError(f"the submission is no notebook: {reason[0][:200]}") from None
    return notebook


def claimed_id(notebook) -> str:
    """Return the student's id that a notebook states; "" where it states none.

    Examples
    --------
    >>> from nbformat.v4 import new_code_cell, new_notebook
    >>> claimed_id(new_notebook(cells=[new_code_cell('STUDENT = " ada "  # me')]))
    'ada'
    """
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    said = re.search(r"""^STUDENT\s*=\s*(["'])(.*?)\1""", text, re.MULTILINE)
    return said[2].strip() if said else ""
