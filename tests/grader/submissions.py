"""Submissions of every kind: right, untouched, wrong in typical ways, hostile."""

from pathlib import Path

import nbformat

ASSIGNMENTS = Path(__file__).resolve().parents[2] / "book" / "assignments"


def notebook(assignment: str, kind: str = "source") -> nbformat.NotebookNode:
    """Read a source or release notebook."""
    return nbformat.read(ASSIGNMENTS / kind / assignment / f"{assignment}.ipynb", as_version=4)


def answers(assignment: str, **replacements: str) -> nbformat.NotebookNode:
    """The release, answered like the source but for the named answers (``_`` for ``-``)."""
    source, release = notebook(assignment), notebook(assignment, "release")
    solutions = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in source.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }
    wrong = {name.replace("_", "-"): text for name, text in replacements.items()}
    unknown = wrong.keys() - solutions.keys()
    assert not unknown, f"{assignment} has no answers {unknown}"
    for cell in release.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in solutions:
            cell.source = wrong.get(name, solutions[name])
    return release


def hand_in(folder: Path, student: str, assignment: str, submission, *, named=True) -> None:
    """Put a submission, with the student's id unless told otherwise, where the grader looks."""
    for cell in submission.cells if named else ():
        cell.source = cell.source.replace('STUDENT = "your id"', f'STUDENT = "{student}"')
    home = folder / student
    home.mkdir(parents=True, exist_ok=True)
    nbformat.write(submission, home / f"{assignment}.ipynb")
