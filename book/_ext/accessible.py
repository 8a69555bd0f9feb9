"""Mend what the writers of pages get wrong for a screen reader."""

from __future__ import annotations

from sphinx.application import Sphinx


def mend_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Drop the list role of a bibliography, whose entries are no list items."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def setup(app: Sphinx) -> dict:
    """Connect."""
    app.connect("html-page-context", mend_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
