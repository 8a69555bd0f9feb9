"""Which notebooks there are: the chapters in the order of the table of contents, then assignments.

Usage: ``python tools/notebooks.py`` prints one path a line.
"""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENTS = ROOT / "book" / "assignments" / "source"


def toc_files(entry: dict | list | str, root: Path = ROOT) -> list[str]:
    """Return the files that a table of contents lists, in reading order, without suffix."""
    if isinstance(entry, str):
        return toc_files(yaml.safe_load((root / entry).read_text(encoding="utf-8")), root)
    if isinstance(entry, list):
        return [name for item in entry for name in toc_files(item, root)]
    own = [entry[key] for key in ("root", "file") if key in entry]
    nested = (entry[key] for key in ("parts", "chapters", "sections") if key in entry)
    return own + [name for below in nested for name in toc_files(below, root)]


def chapters(root: Path = ROOT) -> list[Path]:
    """Return the chapters of the book, in reading order; pages of assignments are none."""
    paths = ((root / name).with_suffix(".ipynb") for name in toc_files("_toc.yml", root))
    return [path for path in paths if path.exists() and path.parent.parent.name == "book"]


def executed_notebooks(root: Path = ROOT) -> list[Path]:
    """Return every notebook that must run from top to bottom: chapters, then assignments."""
    return [*chapters(root), *sorted((root / ASSIGNMENTS.relative_to(ROOT)).glob("*/*.ipynb"))]


if __name__ == "__main__":
    for notebook in executed_notebooks():
        print(notebook.relative_to(ROOT).as_posix())
