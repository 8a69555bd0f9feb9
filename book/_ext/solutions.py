"""Solutions are folded away, and their fold says that it is one."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def name_folds(app: Sphinx, doctree: nodes.document) -> None:
    """Say "Show the solution" where a hidden cell is tagged as one."""
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"] and cell.get("hide_mode"):
            cell["prompt_show"] = "Show the solution"
            cell["prompt_hide"] = "Hide the solution"


def setup(app: Sphinx) -> dict:
    """Connect."""
    app.connect("doctree-read", name_folds)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
