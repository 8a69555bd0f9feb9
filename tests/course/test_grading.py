"""Grading: full marks, none, partial ones, and hostile submissions that harm nothing."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader")

from crossattn.course.feedback import Question, feedback_page, questions_of
from crossattn.course.grade import find_submissions, main, read_submission
from crossattn.course.sandbox import Limits, isolation_problem
from crossattn.errors import InvalidInputError

from .submissions import ASSIGNMENTS, answers, hand_in, notebook

NAMES = [f"ps{k}" for k in range(1, 9)]

if problem := isolation_problem():
    assert not os.environ.get("CI"), f"CI must grade in a sandbox: {problem}"
needs_sandbox = pytest.mark.skipif(bool(problem), reason=problem or "a sandbox is here")

HOSTILE = {
    "by_hand": """
import socket
try:
    socket.create_connection(("127.0.0.1", 9), timeout=2)
except OSError as error:
    refused = type(error).__name__
scores, shares = [0, 0, 0], [0, 0, 1]
import glob, os, shutil
for place in ("/usr", "/tmp", os.path.expanduser("~"), {package!r}):
    shutil.rmtree(place, ignore_errors=True)
seen = glob.glob({sources!r}) + glob.glob({canary!r})
print("SEEN", seen)
""",
    "attention": "attention = bytearray(10**11)",
    "gradient": "get_ipython().run_cell = lambda *a, **k: None",
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Grade a handful of submissions once; scores by student and question, and the folder."""
    if problem:
        pytest.skip(problem)
    root = tmp_path_factory.mktemp("course")
    folder, out, canary = root / "in", root / "out", root / "canary.txt"
    canary.write_text("alive")
    hand_in(folder, "right", "ps1", answers("ps1"))
    hand_in(folder, "blank", "ps8", notebook("ps8", "release"))
    late = "def backtest(prices, targets, cost):\n" + (
        "    targets = np.vstack([targets[:1] * np.nan, targets[:-1]])\n"
        "    from crossattn.course.money import account_by_loop\n"
        "    return account_by_loop(prices, targets, cost)\n"
    )
    hand_in(folder, "late", "ps8", answers("ps8", backtest=late))
    package = str(Path(nbformat.__file__).parent)
    sources = str(ASSIGNMENTS / "source" / "*" / "*")
    hostile = {**HOSTILE}
    hostile["by_hand"] = HOSTILE["by_hand"].format(
        package=package, sources=sources, canary=str(canary)
    )
    hand_in(folder, "hostile", "ps1", answers("ps1", **hostile))
    loops = answers("ps1", by_hand="while True:\n    pass", gradient="print('x' * 10**6)")
    hand_in(folder, "loops", "ps1", loops)
    (folder / "linked").mkdir()
    (folder / "linked" / "ps1.ipynb").symlink_to(canary)
    (folder / "torn").mkdir()
    (folder / "torn" / "ps1.ipynb").write_text('{"cells": [')
    assert main([str(folder), "--out", str(out), "--cell-seconds", "4"]) == 0
    with (out / "questions.csv").open(encoding="utf-8") as file:
        rows = {(row["student"], row["question"]): row for row in csv.DictReader(file)}
    return rows, out, canary


def points(rows, student):
    return {q: float(row["points"]) for (who, q), row in rows.items() if who == student}


@needs_sandbox
def test_right_answers_get_full_marks_and_untouched_releases_none(graded):
    rows, *_ = graded
    assert sum(points(rows, "right").values()) == 12
    assert sum(points(rows, "blank").values()) == 0


@needs_sandbox
def test_late_weights_keep_the_points_that_they_deserve(graded):
    rows, *_ = graded
    mine = points(rows, "late")
    assert mine["metrics"] == 2 and mine["timing"] == mine["costs"] == 0
    assert "one row late" in rows["late", "timing"]["message"]


@needs_sandbox
def test_hostile_submissions_lose_points_and_harm_nothing(graded):
    rows, out, canary = graded
    mine = points(rows, "hostile")
    assert mine["attention"] == 0, "memory"
    assert mine["gradient"] == 0, "a kernel that no longer runs tests"
    assert "changed how tests run" in rows["hostile", "gradient"]["message"]
    assert canary.read_text() == "alive" and Path(nbformat.__file__).exists()
    executed = nbformat.read(out / "autograded" / "hostile" / "ps1" / "ps1.ipynb", as_version=4)
    printed = [o.text for c in executed.cells for o in c.get("outputs", []) if "text" in o]
    assert any("SEEN []" in text for text in printed), "hidden tests and files are out of sight"


@needs_sandbox
def test_endless_loops_and_floods_cost_only_their_own_question(graded):
    rows, *_ = graded
    mine = points(rows, "loops")
    assert mine["scores"] == mine["gradient"] == 0
    assert mine["attention"] == 3 and mine["nobody"] == 2
    assert "longer than allowed" in rows["loops", "scores"]["message"]
    assert "may print" in rows["loops", "gradient"]["message"]


@needs_sandbox
def test_damaged_files_get_a_row_and_a_reason(graded):
    _, out, _ = graded
    with (out / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert len(rows) == 7
    assert "link" in rows["linked"]["note"] and "no notebook" in rows["torn"]["note"]
    assert rows["torn"]["score"] == "0" and rows["torn"]["max_score"] == "12"


@needs_sandbox
def test_feedback_is_complete_in_itself(graded):
    _, out, _ = graded
    pages = list((out / "feedback").glob("*/*.html"))
    assert len(pages) == 7
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script|src=|href=|url\(|@import", text)
        assert "HIDDEN TESTS" not in text


def test_words_of_a_submission_are_escaped():
    cell = nbformat.v4.new_code_cell("'<script>alert(1)</script>'")
    cell.metadata["nbgrader"] = {"grade_id": "a", "solution": True, "grade": False}
    page = feedback_page(
        "t", [Question("q", 0, 1, "<img src=x>")], nbformat.v4.new_notebook(cells=[cell])
    )
    assert "<script" not in page and "<img" not in page


def test_without_a_sandbox_grading_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("crossattn.course.grade.isolation_problem", lambda: "no bwrap here")
    hand_in(tmp_path / "in", "ada", "ps1", answers("ps1"))
    assert main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: no bwrap here; --no-isolation")


def test_names_that_are_no_ids_are_refused(tmp_path):
    (tmp_path / "=cmd()").mkdir()
    with pytest.raises(InvalidInputError, match="named by id"):
        list(find_submissions(tmp_path, NAMES))


def test_large_files_are_refused(tmp_path):
    path = tmp_path / "ps1.ipynb"
    path.write_text(" " * 2000)
    with pytest.raises(InvalidInputError, match="at most 1,000 bytes"):
        read_submission(path, Limits(submission_bytes=1000))


@pytest.mark.parametrize("name", NAMES)
def test_release_holds_no_solution_and_no_hidden_test(name):
    source, release = notebook(name), notebook(name, "release")
    text = "\n".join(cell.source for cell in release.cells)
    assert "HIDDEN" not in text and "BEGIN SOLUTION" not in text
    assert text.count("raise NotImplementedError()") >= 3
    assert any("BEGIN HIDDEN TESTS" in cell.source for cell in source.cells)
    assert 10 <= sum(question.possible for question in questions_of(source)) <= 15
