"""Label the folds of hidden solutions "Show the solution"."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def name_folds(app: Sphinx, doctree: nodes.document) -> None:
    """Set the prompt of each hidden cell that is tagged as a solution."""
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"] and cell.get("hide_mode"):
            cell["prompt_show"] = "Show the solution"
            cell["prompt_hide"] = "Hide the solution"


def setup(app: Sphinx) -> dict:
    """Connect."""
    app.connect("doctree-read", name_folds)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
