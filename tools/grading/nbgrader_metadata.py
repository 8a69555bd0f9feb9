"""Restore nbgrader's cell metadata from the release.

Students copy cells, delete some, paste others from elsewhere. Whatever they did, an autograded
notebook has each marked cell of the release once, with the release's points and locks, and no
other.
"""

from __future__ import annotations

from copy import deepcopy

from nbformat.notebooknode import NotebookNode

from crossattn.errors import InvalidInputError


def restore_marks(notebook: NotebookNode, release: NotebookNode) -> list[str]:
    """Give cells the marks of the release, and add the marked cells that are missing.

    Parameters
    ----------
    notebook : NotebookNode
        A submission; changed in place.
    release : NotebookNode
        What the student got.

    Returns
    -------
    list of str
        Names of the cells that were missing, in the order of the release. An added cell stands
        below the marked one that it follows in the release, or above the first.

    Raises
    ------
    InvalidInputError
        No cell has a mark of this release: it is another assignment, or was copied into a new
        notebook cell by cell.

    Notes
    -----
    Of several cells with one name the last keeps it; the others stay as cells without a mark.
    Text of locked cells is restored later, by nbgrader.
    """
    wanted = {mark(cell): cell for cell in release.cells if mark(cell)}
    places = {mark(cell): place for place, cell in enumerate(notebook.cells)}
    kept = {name: notebook.cells[places[name]] for name in wanted if name in places}
    if not kept:
        raise InvalidInputError(
            "the submission must be the notebook that was handed out: none of its cells carries "
            "a mark of this assignment"
        )
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
    missing, after = [], min(places[name] for name in kept)
    for name, original in wanted.items():
        if name not in kept:
            missing.append(name)
            kept[name] = deepcopy(original)
            notebook.cells.insert(after, kept[name])
        kept[name].metadata["nbgrader"] = deepcopy(original.metadata.nbgrader)
        after = next(k for k, cell in enumerate(notebook.cells) if cell is kept[name]) + 1
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{place}"  # copied cells share theirs, old notebooks have none
    return missing


def mark(cell: NotebookNode) -> str:
    """Return the name that nbgrader gave a cell; "" where it gave none."""
    about = cell.metadata.get("nbgrader")
    name = about.get("grade_id") if isinstance(about, dict) else None
    return name if isinstance(name, str) else ""
