"""Generate the releases of the assignments from their sources, with nbgrader.

Usage: ``python tools/assignments.py`` writes book/assignments/release; ``--check`` compares with
what is there instead; ``--term NAME`` first gives every source a new term, hence new data.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from grading.autograder import Course

from crossattn.errors import InvalidInputError

ASSIGNMENTS = Path(__file__).resolve().parent.parent / "book" / "assignments"


def set_term(source: Path, term: str) -> None:
    """Replace the term in every source notebook."""
    if not re.fullmatch(r"[\w .-]{1,40}", term):
        raise SystemExit(f"error: --term must be letters, digits, space, . _ -, got {term!r}")
    for path in sorted(source.glob("*/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = [
                re.sub(r'^TERM = "[^"]*"', f'TERM = "{term}"', line) for line in cell["source"]
            ]
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def generate(into: Path) -> dict[str, bytes]:
    """Generate every release in a folder of its own; return the files by relative path."""
    shutil.copytree(ASSIGNMENTS / "source", into / "source")
    course = Course(into, ASSIGNMENTS / "nbgrader_config.py")
    for folder in sorted((into / "source").iterdir()):
        course.release(folder.name)
    return contents(into / "release")


def contents(release: Path) -> dict[str, bytes]:
    """Return the notebooks of a folder of releases by relative path."""
    files = sorted(release.glob("*/*.ipynb"))
    return {path.relative_to(release).as_posix(): path.read_bytes() for path in files}


def main(arguments: list[str] | None = None) -> int:
    """Write or compare the releases; 1 where they differ, 2 where a source is at fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--term")
    options = parser.parse_args(arguments)
    if options.term is not None:
        set_term(ASSIGNMENTS / "source", options.term)
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = generate(Path(folder))
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    release = ASSIGNMENTS / "release"
    if options.check:
        there = contents(release)
        wrong = {n for n in made.keys() | there.keys() if made.get(n) != there.get(n)}
        for name in sorted(wrong):
            print(f"release/{name} is not what its source generates: run make assignments")
        return 1 if wrong else 0
    shutil.rmtree(release, ignore_errors=True)
    for name, content in made.items():
        target = release / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    print(f"{len(made)} releases in {release.relative_to(ASSIGNMENTS.parent.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
