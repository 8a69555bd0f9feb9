"""Which notebooks there are, what code they hold, and the environment that commands run in.

Usage: ``python tools/notebooks.py`` prints one path a line: the chapters in the order of the table
of contents, then assignments.
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENTS = ROOT / "book" / "assignments" / "source"


def toc_files(entry: dict | list | str, root: Path = ROOT) -> list[str]:
    """Return the files that a table of contents lists, in reading order, without suffix."""
    if isinstance(entry, str):
        import yaml  # no dependency of the package: a machine that runs cells may lack it

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


def executed_notebooks() -> list[Path]:
    """Return every notebook that must run from top to bottom: chapters, then assignments."""
    return [*chapters(), *sorted(ASSIGNMENTS.glob("*/*.ipynb"))]


def code_cells(path: Path) -> dict[int, str]:
    """Return the code of a notebook's cells by their place in it."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {k: "".join(c["source"]) for k, c in enumerate(cells) if c["cell_type"] == "code"}


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a command: this Python's programs, modules of some folders."""
    before = {"PATH": [Path(sys.executable).parent], "PYTHONPATH": folders}
    paths = {
        name: os.pathsep.join(filter(None, [*map(str, first), os.environ.get(name)]))
        for name, first in before.items()
    }
    return os.environ | paths | {"TQDM_DISABLE": "1"} | variables


if __name__ == "__main__":
    for notebook in executed_notebooks():
        print(notebook.relative_to(ROOT).as_posix())
