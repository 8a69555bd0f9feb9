"""Label folded cells: hidden solutions "Show the solution", folded asserts "Show the check"."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx

NAMES = {"tag_solution": "the solution", "tag_check": "the check"}


def name_folds(app: Sphinx, doctree: nodes.document) -> None:
    """Set the prompt of each hidden cell by its tag."""
    for cell in doctree.findall(nodes.container):
        for tag, name in NAMES.items():
            if tag in cell["classes"] and cell.get("hide_mode"):
                cell["prompt_show"] = f"Show {name}"
                cell["prompt_hide"] = f"Hide {name}"


def setup(app: Sphinx) -> dict:
    """Connect."""
    app.connect("doctree-read", name_folds)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
