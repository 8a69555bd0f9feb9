"""Submissions of every kind: right, untouched, wrong in typical ways, hostile."""

from pathlib import Path

import nbformat

ASSIGNMENTS = Path(__file__).resolve().parents[2] / "book" / "assignments"


def notebook(assignment: str, kind: str = "source") -> nbformat.NotebookNode:
    """Read a source or release notebook."""
    return nbformat.read(ASSIGNMENTS / kind / assignment / f"{assignment}.ipynb", as_version=4)


def marked(notebook: nbformat.NotebookNode, mark: str) -> dict[str, nbformat.NotebookNode]:
    """Return the cells that nbgrader marks as ``solution`` or ``grade``, by name."""
    cells = (cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get(mark))
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def solution(assignment: str, answer: str, slips: dict[str, str]) -> str:
    """Return the source's solution of an answer with some of its text replaced."""
    text = marked(notebook(assignment), "solution")[answer].source
    for right, wrong in slips.items():
        assert right in text
        text = text.replace(right, wrong)
    return text


def answers(assignment: str, **replacements: str) -> nbformat.NotebookNode:
    """The release, answered like the source but for the named answers (``_`` for ``-``)."""
    release = notebook(assignment, "release")
    solutions = marked(notebook(assignment), "solution")
    wrong = {name.replace("_", "-"): text for name, text in replacements.items()}
    unknown = wrong.keys() - solutions.keys()
    assert not unknown, f"{assignment} has no answers {unknown}"
    for name, cell in marked(release, "solution").items():
        cell.source = wrong.get(name, solutions[name].source)
    return release


def hand_in(folder: Path, student: str, assignment: str, submission, *, named=True) -> None:
    """Put a submission, with the student's id unless told otherwise, where the grader looks."""
    for cell in submission.cells if named else ():
        cell.source = cell.source.replace('STUDENT = "your id"', f'STUDENT = "{student}"')
    home = folder / student
    home.mkdir(parents=True, exist_ok=True)
    nbformat.write(submission, home / f"{assignment}.ipynb")
