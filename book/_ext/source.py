"""``{source} crossattn.NAME``: the source of one object of the package, by its full path.

The build reads it from the package and cuts docstrings to their first line. In the reference, a
docstring's line ``Built in chapter: TITLE`` becomes a link to that chapter.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import textwrap
from importlib import import_module
from pathlib import Path

from docutils import nodes
from plan import planned_titles
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import crossattn


def without_docstrings(source: str) -> str:
    """Cut every docstring to its first line."""
    lines, tree = source.splitlines(), ast.parse(source)
    for node in sorted(ast.walk(tree), key=lambda n: -getattr(n, "lineno", 0)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            place = node.body[0]
            opening = lines[place.lineno - 1]
            quotes = opening.lstrip().lstrip("r")[:3]
            if place.end_lineno > place.lineno:
                lines[place.lineno - 1 : place.end_lineno] = [opening.rstrip() + quotes]
    return "\n".join(lines)


class Source(SphinxDirective):
    """Show the source of an object of the package."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the code block, with a caption that names the file."""
        try:
            found = pkgutil.resolve_name(self.arguments[0])
        except (ImportError, AttributeError) as error:
            raise self.error(f"{self.arguments[0]} is not in the package: {error}") from error
        path = Path(inspect.getsourcefile(found))
        self.env.note_dependency(str(path))
        code = without_docstrings(textwrap.dedent(inspect.getsource(found)).rstrip())
        literal = nodes.literal_block(code, code, language="python")
        literal["classes"].append("package-source")
        where = path.relative_to(Path(crossattn.__file__).parent.parent).as_posix()
        caption = nodes.caption(where, "", nodes.literal(where, where))
        wrapper = nodes.container("", caption, literal, literal_block=True)
        wrapper["classes"] += ["literal-block-wrapper", "package-source"]
        self.set_source_info(wrapper)
        return [wrapper]


def edit_docstring(app: Sphinx, what, name, found, options, lines: list[str]) -> None:
    """Link ``Built in chapter: TITLE`` to the chapter, and head each module by its name.

    A module without such a line belongs to the chapter of its package.
    """
    if what == "module" and not any("Built in chapter" in line for line in lines):
        package = inspect.getdoc(import_module(name.rpartition(".")[0] or name)) or ""
        lines += ["", *re.findall("^Built in.*", package, re.M), ""]
    chapters = {title.lower(): path for path, title in planned_titles(Path(app.srcdir)).items()}
    for place, line in enumerate(lines):
        if built := re.match(r"(\s*)Built in chapter:?\s+(.+?)\.?$", line):
            path = chapters.get(built[2].lower())
            if path is None:
                raise ValueError(f"{name}: no chapter is called {built[2]!r}")
            lines[place] = f"{built[1]}*Built in chapter* :doc:`/{path}`."
    if what == "module":
        lines[:0] = [f".. rubric:: ``{name}``", ""]


def add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Give each object the anchor ``crossattn.NAME``, to which pages of viewcode link back."""
    taken = set()
    for signature in doctree.findall(addnodes.desc_signature):
        taken.update(signature["ids"])
        anchor = f"crossattn.{signature.get('fullname')}"
        if anchor not in taken:
            signature["ids"].append(anchor)
            taken.add(anchor)


def setup(app: Sphinx) -> dict:
    """Register."""
    app.add_directive("source", Source)
    app.connect("doctree-read", add_anchors)
    app.connect("autodoc-process-docstring", edit_docstring, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
