"""Turn chapters into slides: a slide for each section and for each figure or cell of code.

Usage: ``python tools/slides.py CHAPTER.ipynb ... [--out DIR]``. Solutions and exercises are left
out. The pages load reveal.js from the network when shown; ``--reveal URL`` names a copy of it.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter


def slide_type(cell: nbformat.NotebookNode) -> str:
    """Where a cell goes: a new slide, below the present one, on it, or nowhere."""
    if "solution" in cell.metadata.get("tags", []) or "{exercise}" in cell.source:
        return "skip"
    if cell.cell_type == "markdown" and cell.source.startswith(("# ", "## ")):
        return "slide"
    if cell.cell_type == "code" or cell.source.startswith("### "):
        return "subslide"
    return "-"


def to_slides(notebook: nbformat.NotebookNode, reveal: str = "") -> str:
    """Return the page of one chapter."""
    for cell in notebook.cells:
        cell.metadata["slideshow"] = {"slide_type": slide_type(cell)}
    exporter = SlidesExporter(reveal_scroll=True, reveal_number="c/t")
    if reveal:
        exporter.reveal_url_prefix = reveal
    page, _ = exporter.from_notebook_node(notebook)
    return page


def main() -> int:
    """Write one page a chapter; 2 where a file is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("_build") / "slides")
    parser.add_argument("--reveal", default="")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.chapters:
        if not path.is_file():
            print(f"error: there is no {path}", file=sys.stderr)
            return 2
        target = options.out / f"{path.stem}.slides.html"
        page = to_slides(nbformat.read(path, as_version=4), options.reveal)
        target.write_text(page, encoding="utf-8")
        print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
