"""The form of every notebook: what a reader, the build and a course may rely on."""

import ast
import itertools
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
from notebooks import ROOT, chapters, executed_notebooks

import crossattn
from crossattn.cli import COMMANDS

CHAPTERS = chapters()
EXERCISE = re.compile(
    r"^[`:]{3,}\{exercise\}\s*(?P<title>.*)\n(?:.*\n)*?:label:\s*(?P<label>\S+)", re.M
)
LABEL = re.compile(r"^\$\$ *\(([\w:-]+)\)|^:(?:label|name): *(\S+)|^\(([\w:-]+)\)= *$", re.M)
FORBIDDEN_MODULES = {"requests", "urllib", "http", "socket", "subprocess", "yfinance", "warnings"}
FORBIDDEN_TEXT = {
    "a magic or shell escape": re.compile(r"^\s*[%!]", re.M),
    "an absolute path": re.compile(r"""["'](/(?:home|root|tmp|usr|work|mnt|Users)\b|[A-Z]:\\\\)"""),
    "an address on the network": re.compile(r"""["']https?://(?!127\.0\.0\.1|localhost)"""),
    "a global warning filter": re.compile(r"filterwarnings|simplefilter|PYTHONWARNINGS"),
}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def syntax(code: list[dict]) -> ast.Module:
    return ast.parse("\n".join(map(source, code)))


def is_solution(cell: dict) -> bool:
    return "solution" in cell["metadata"].get("tags", [])


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


every_notebook = pytest.mark.parametrize(
    "path", executed_notebooks(), ids=names(executed_notebooks())
)
NUMBERED = [path for path in CHAPTERS if path.stem[0].isdigit()]
every_chapter = pytest.mark.parametrize("path", NUMBERED, ids=names(NUMBERED))


def test_every_notebook_of_the_book_is_listed():
    written = set((ROOT / "book").glob("*/[0-9]*.ipynb"))
    assert written - set(CHAPTERS) == set(), "written, but not in _toc.yml"
    assert len(CHAPTERS) == len(set(CHAPTERS))


@every_notebook
def test_committed_without_outputs_with_lasting_names_for_the_usual_kernel(path):
    notebook, code = read(path), cells(path, "code")
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5)
    assert len(ids) == len(set(ids))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@every_notebook
@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_stays_on_the_readers_machine(path, what):
    found = [c["id"] for c in cells(path, "code") if FORBIDDEN_TEXT[what].search(source(c))]
    assert found == [], f"{what} in these cells"


@every_notebook
def test_imports_nothing_that_reaches_out(path):
    imported = set()
    for node in ast.walk(syntax(cells(path, "code"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    allowed = {"subprocess"} if path.parent.name == "scale" else set()  # it starts two processes
    assert imported & FORBIDDEN_MODULES <= allowed


@every_chapter
def test_code_cells_are_short(path):
    code = cells(path, "code")
    lengths = {cell["id"]: len(source(cell).splitlines()) for cell in code}
    assert {name: n for name, n in lengths.items() if n > 30} == {}
    folded = {"hide-input", "hide-cell"}  # drawings, checks and solutions
    shown = [lengths[c["id"]] for c in code if not folded & set(c["metadata"].get("tags", []))]
    assert statistics.median(shown) <= 8, sorted(shown)


@every_chapter
def test_claims_are_asserted(path):
    tree = syntax([cell for cell in cells(path, "code") if not is_solution(cell)])
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    taught = [node for node in asserts if node.msg is not None]
    assert len(asserts) >= 10
    assert len(taught) >= 0.7 * len(asserts), "most asserts should say what they teach"


@every_chapter
def test_no_public_name_is_redefined(path):
    body, kinds = syntax(cells(path, "code")).body, ast.FunctionDef | ast.ClassDef
    defined = {node.name for node in body if isinstance(node, kinds)}
    assert defined & set(dir(crossattn)) == set()


@every_chapter
def test_exercises_have_solutions_that_check_themselves(path):
    notebook_cells = read(path)["cells"]
    labels, solved = [], []
    for cell, following in itertools.zip_longest(notebook_cells, notebook_cells[1:]):
        prose = source(cell) if cell["cell_type"] == "markdown" else ""
        for exercise in EXERCISE.finditer(prose):
            assert "★" in exercise["title"], f"{exercise['label']} says how hard it is"
            labels.append(exercise["label"])
            solved.append(following is not None and is_solution(following))
    assert len(labels) >= 3 and len(labels) == len(set(labels))
    assert all(solved), [label for label, done in zip(labels, solved, strict=True) if not done]
    for cell in filter(is_solution, notebook_cells):
        assert source(cell).startswith("# Solution"), cell["id"]
        assert "assert " in source(cell), f"{cell['id']} proves itself"
        assert "hide-cell" in cell["metadata"]["tags"], cell["id"]
        assert cell["metadata"].get("jupyter", {}).get("source_hidden") is True, cell["id"]


def test_labels_are_unique_in_the_whole_book():
    owners = defaultdict(list)
    for path in CHAPTERS:
        prose = "\n".join(source(cell) for cell in cells(path, "markdown"))
        figures = (c["metadata"].get("mystnb", {}).get("figure", {}) for c in cells(path, "code"))
        labels = [next(filter(None, groups)) for groups in LABEL.findall(prose)]
        for label in labels + [figure["name"] for figure in figures if figure]:
            owners[label].append(path.stem)
    assert {label: where for label, where in owners.items() if len(where) > 1} == {}


@every_chapter
def test_opens_with_a_title_and_a_card(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert source(first).startswith("# ")
    assert "chapter-card" in source(first)


@every_chapter
def test_ends_with_takeaways_and_reading(path):
    prose = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert re.search(r"^## Takeaways", prose, re.M)
    assert re.search(r"^## Further reading", prose, re.M)
    assert re.search(r"^## .*[Gg]o(es)? wrong", prose, re.M)


@every_chapter
def test_figures_are_described(path):
    for cell in cells(path, "code"):
        options = cell["metadata"].get("mystnb", {})
        if "figure" in options:
            assert options.get("image", {}).get("alt"), f"{cell['id']} has no alternative text"
            assert options["figure"].get("caption"), f"{cell['id']} has no caption"


def test_every_command_is_on_its_page():
    page = (ROOT / "book/appendices/command.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{command-help\} (\w+)$", page, re.M) == list(COMMANDS)
