"""The tools that build and check the book: each finds what it is there to find."""

import ast
import inspect
import re
import subprocess
import sys
from xml.etree import ElementTree

import nbformat
import pytest
from check_links import wrong_in_pages, wrong_in_styles
from execute_notebooks import execute, is_cached
from jupyter_cache import get_cache
from mutation_checks import MUTATIONS
from notebooks import ROOT, toc_files

import crossattn

pytest.importorskip("sphinx")
import chapter_map
import figures
import plan
import source
from offline import package_digest

PAGE = '<html><body><h1 id="top">A</h1>{}</body></html>'


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<a href="b.html#there">b</a>', None),
        ('<a href="https://example.org/">a link may leave</a>', None),
        ('<a href="#top">up</a>', None),
        ('<a href="b.html#nowhere">b</a>', "no anchor b.html#nowhere"),
        ('<a href="c.html">c</a>', "no page c.html"),
        ('<img src="gone.png">', "no page gone.png"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css"),
        ('<img src="data:image/gif;base64,R0lGOD">', None),
    ],
)
def test_links_are_followed(tmp_path, body, complaint):
    (tmp_path / "a.html").write_text(PAGE.format(body))
    (tmp_path / "b.html").write_text(PAGE.format('<p id="there">b</p>'))
    assert wrong_in_pages(tmp_path) == ([f"a.html: {complaint}"] if complaint else [])


def test_styles_are_followed(tmp_path):
    (tmp_path / "a.css").write_text(
        "@import 'https://example.org/f.css'; a{src:url(f.woff)}\nb{src:url(data:font/woff;A)}"
    )
    complaints = ["loads https://example.org/f.css", "no file f.woff"]
    assert wrong_in_styles(tmp_path) == [f"a.css: {complaint}" for complaint in complaints]


def test_reading_order_is_that_of_the_table_of_contents(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n"
        "- caption: One\n  chapters:\n  - file: z\n    sections:\n    - file: y\n"
        "- caption: Two\n  chapters:\n  - file: a\n"
    )
    assert toc_files("_toc.yml", tmp_path) == ["index", "z", "y", "a"]


def test_plan_knows_what_is_listed():
    toc = {"root": "i", "parts": [{"chapters": [{"file": "a.ipynb"}, {"file": "b/c"}]}]}
    assert plan.listed_files(toc) == {"a", "b/c"}


def test_the_reference_lists_every_public_name_once():
    text = (ROOT / "book" / "appendices" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. (?:data|auto(?:function|class|exception)):: (\w+)$", text, re.M)
    assert sorted(listed) == dir(crossattn)


def test_source_is_the_packages_own_with_shorter_docstrings():
    from crossattn.attention import functional

    def bare(text):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.Module) and ast.get_docstring(node):
                node.body[0] = ast.Pass()
        return ast.dump(tree)

    text = inspect.getsource(functional)
    shown = source.without_docstrings(text)
    assert bare(shown) == bare(text)
    assert len(shown) < len(text)


def test_a_notebook_that_passes_is_kept_until_its_code_changes(tmp_path):
    path = tmp_path / "chapter.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in ("x = 6;", "x * 7", "x;")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)
    cache = get_cache(tmp_path / "cache")
    assert not is_cached(cache, path)
    assert execute(cache, [path]) == 0
    record = cache.match_cache_file(path)
    kept = cache.get_cache_bundle(record.pk).nb
    assert record.data["execution_seconds"] > 0 and "execution_seconds" not in kept.metadata
    assert kept.cells[1].outputs[0].data["text/plain"] == "42"
    assert [cell.execution_count for cell in kept.cells] == [1, 2, 3]
    assert kept.cells[2].outputs == [], "the semicolon hides a result"

    notebook.cells[0].source = "x = 1 / 0"
    nbformat.write(notebook, path)
    assert not is_cached(cache, path)
    assert execute(cache, [path]) == 1
    assert not is_cached(cache, path)


def test_executed_chapters_are_kept_apart_by_every_file_of_the_package(tmp_path):
    folder = tmp_path / "crossattn" / "evidence"
    (folder / "__pycache__").mkdir(parents=True)
    digests = set()
    for name in ("explorer.py", "explorer.js", "explorer.css"):
        (folder / name).write_text("1")
        digests.add(package_digest(tmp_path))
    (folder / "explorer.js").write_text("2")
    digests.add(package_digest(tmp_path))
    assert len(digests) == 4
    (folder / "__pycache__" / "explorer.cpython-311.pyc").write_text("3")
    assert package_digest(tmp_path) in digests


@pytest.mark.parametrize(
    ("tool", "arguments", "complaint"),
    [
        ("check.py", ["spelling"], "error: no step ['spelling']"),
        ("mutation_checks.py", ["gravity"], "error: no mutation ['gravity']"),
        ("run_on_device.py", ["gone.ipynb"], "error: there is no gone.ipynb"),
        ("check_links.py", ["gone"], "error: no built book in gone"),
    ],
)
def test_a_mistake_at_the_command_line_is_named(tool, arguments, complaint):
    command = [sys.executable, str(ROOT / "tools" / tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_every_mutation_finds_its_text_and_its_tests():
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text().count(mutation.old) == 1, mutation.name
        tests = (word for word in mutation.tests.split() if "/" in word)
        assert all((ROOT / test).exists() for test in tests), mutation.name


def test_every_chapter_is_on_the_map_once():
    numbers = [number for part in chapter_map.read_map(ROOT) for number in part["chapters"]]
    written = {n for name in toc_files("_toc.yml") if (n := chapter_map.number_of(name))}
    assert written <= set(numbers) and len(numbers) == len(set(numbers))


def test_the_map_marks_the_chapter_and_escapes_titles():
    parts = [{"part": "Bars & more", "chapters": ["8"]}]
    parts += [{"part": "Model", "chapters": ["3b", "99"]}]
    titles = {"8": "<i>8</i>", "3b": "Full"}
    drawn = chapter_map.draw(parts, "3b", {"8": "a.html", "3b": "b.html"}, titles)
    page = ElementTree.fromstring(drawn)
    links = {a.get("href"): a for a in page.iter() if a.tag.endswith("}a")}
    assert links["b.html"].get("aria-current") == "page"
    assert links["a.html"].get("aria-label") == "Chapter 8: <i>8</i>"
    assert page.get("aria-label").endswith("This chapter is about: Model") and len(links) == 2


SVG_FIGURE = (
    '<svg><g id="patch_1">\n<path d="M0 0" style="fill: #ffffff"/></g><g style="fill: #ffffff"/>'
    '<path style="stroke: #000000"/></svg>'
)


def test_a_dark_copy_has_light_ink_and_no_paper():
    dark = figures.darkened(SVG_FIGURE)
    assert dark.count("fill: none") == 1 and dark.count("#ffffff") == 1
    assert "#000000" not in dark and 'svg fill="#e8e8e8"' in dark
