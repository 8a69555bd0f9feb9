"""Pages made from committed results when the book is built: markdown tables and SVG figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import matplotlib as mpl
from docutils import nodes
from docutils.statemachine import StringList
from matplotlib.figure import Figure
from sphinx.util.docutils import SphinxDirective

from crossattn.figures import notebook_image, use_style

MISSING = "*missing*"  # what a table says of a result that was not measured
FIGURES = Path("_build") / "jupyter_execute"  # where figures of cells lie, which get a dark copy


class FromResults(SphinxDirective):
    """A block of markdown, by the name given as argument, made from files of the repository."""

    required_arguments = 1
    blocks: ClassVar[dict[str, Callable[[Path], list[str]]]] = {}
    sources = ""  # a pattern below the root

    def run(self) -> list[nodes.Node]:
        """Return the parsed block."""
        root = Path(self.env.srcdir)
        for path in root.glob(self.sources):
            self.env.note_dependency(str(path))
        page = nodes.container()
        lines = self.blocks[self.arguments[0]](root)
        self.state.nested_parse(StringList(lines, self.name), 0, page)
        return page.children


def versions_of(held: dict) -> str:
    """Return the packages that a results file names, with their versions."""
    return ", ".join(f"{package} {number}" for package, number in held["versions"].items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """Return a markdown table whose first ``words`` columns are words and the others numbers."""
    align = ["---"] * words + ["---:"] * (len(header) - words)
    return ["| " + " | ".join(row) + " |" for row in (header, align, *rows)]


def figure(
    root: Path, name: str, draw: Callable[[Figure], None], caption: str, alt: str
) -> list[str]:
    """Draw a figure into the build and return the markdown that shows it."""
    with mpl.rc_context():
        use_style()
        drawing = Figure(layout="constrained")
        draw(drawing)
        svg = notebook_image(drawing)[0]["image/svg+xml"]
    path = root / FIGURES / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")
    address = f"/{(FIGURES / path.name).as_posix()}"
    return [f"```{{figure}} {address}", f":name: fig-{name}", f":alt: {alt}", "", caption, "```"]
