"""``{plan}``: the whole plan of the book, with what is not written yet marked as planned.

The content is one part a paragraph: its title, then one line a chapter, ``path | title | about``.
A chapter counts as written where the table of contents lists it; one that was studied on fresh seeds
says how many of its claims hold there.
A reference to a chapter that is planned becomes its title.
"""

from __future__ import annotations

import functools
import posixpath
import sys
from pathlib import Path

import yaml
from docutils import nodes
from robustness_page import ENOUGH, kept_rows, n_holding
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(Path(__file__).parents[2] / "tools"))
from notebooks import toc_files


def listed_files(toc: dict) -> set[str]:
    """Return every file in the parts of a table of contents, without suffix."""
    return {Path(name).with_suffix("").as_posix() for name in toc_files(toc["parts"])}


@functools.cache
def planned_titles(root: Path) -> dict[str, str]:
    """Return the title of every chapter in the plan of the landing page, by path."""
    lines = (root / "book" / "index.md").read_text(encoding="utf-8").splitlines()
    rows = (line.split(" | ") for line in lines if line.startswith("book/"))
    return {path.strip(): title.strip() for path, title, _ in rows}


class Plan(SphinxDirective):
    """Parts and chapters, each with its status."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return one list a part."""
        toc_path = Path(self.env.srcdir) / "_toc.yml"
        self.env.note_dependency(str(toc_path))
        written = listed_files(yaml.safe_load(toc_path.read_text(encoding="utf-8")))
        studied = kept_rows(Path(self.env.srcdir))
        plan = nodes.container(classes=["plan"])
        for paragraph in "\n".join(self.content).strip().split("\n\n"):
            title, *chapters = paragraph.splitlines()
            plan += nodes.rubric(title, title)
            items = nodes.bullet_list(classes=["plan-part"])
            for chapter in chapters:
                path, name, about = (part.strip() for part in chapter.split("|"))
                row = studied.get(posixpath.basename(path))
                items += self.chapter(path, name, about, path in written, row)
            plan += items
        return [plan]

    @staticmethod
    def chapter(
        path: str, name: str, about: str, is_written: bool, studied: dict | None
    ) -> nodes.list_item:
        """Return one line: a link where the chapter is written, its subject, a mark."""
        title: nodes.Node = nodes.inline(name, name, classes=["plan-title"])
        if is_written:
            title = addnodes.pending_xref(
                "",
                title,
                refdomain="std",
                reftype="doc",
                reftarget=f"/{path}",
                refexplicit=True,
                refwarn=True,
            )
        line = nodes.paragraph(classes=["plan-line"])
        line += title
        line += nodes.inline(about, about, classes=["plan-about"])
        mark = "" if is_written else "planned"
        if studied:
            n_held = n_holding(studied, ENOUGH)
            mark = f"{n_held} of {studied['asserts']} claims hold on fresh seeds"
        if mark:
            line += nodes.inline(mark, mark, classes=["plan-mark"])
        return nodes.list_item("", line)


def resolve_planned(app: Sphinx, env, node, contnode):
    """Return the title of a planned chapter for a reference to it."""
    if node.get("reftype") != "doc":
        return None
    folder = posixpath.dirname(node["refdoc"])
    path = posixpath.normpath(posixpath.join(folder, node["reftarget"]))
    title = planned_titles(Path(env.srcdir)).get(path.lstrip("/"))
    return nodes.emphasis(title, title) if title else None


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("plan", Plan)
    app.connect("missing-reference", resolve_planned)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
