"""Grading: full marks, none, partial ones, and hostile submissions that harm nothing."""

import copy
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from standin.commands import files_of

pytest.importorskip("nbgrader")

from grading.feedback import Question, feedback_page, questions_of
from grading.grade import Graded, main
from grading.nbgrader_metadata import restore_marks
from grading.sandbox import SCRATCH_BYTES, Limits, isolation_problem, sandbox_command
from grading.submissions import find_submissions, left_out, read_submission

from .submissions import ASSIGNMENTS, answers, hand_in, notebook

ROOT = ASSIGNMENTS.parents[1]
NAMES = [f"ps{k}" for k in range(1, 13)]

if problem := isolation_problem():
    assert not os.environ.get("CI"), f"CI must grade in a sandbox: {problem}"
pytestmark = pytest.mark.timeout(900)  # the first test waits for all submissions
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


# A shown number counts as points for nbgrader; replaced tools make any answer right.
FORGED = {
    "by_hand": """
class Three(list):
    def __len__(self):
        get_ipython().displayhook(1.0)
        return 3
scores = Three([9, 9, 9])
abs = lambda x: -1
""",
    "attention": """
def attention(*_):
    get_ipython().displayhook(3.0)
    import os
    os.environ["CROSSATTN_STUDENT"] = "somebody else"
""",
    "gradient": """
torch.allclose = lambda *_, **__: True
def score_gradient(shares, values):
    return shares
""",
}
BOMB = """
import threading, time
threading.stack_size(32768)
for _ in range(1000):
    threading.Thread(target=time.sleep, args=[3], daemon=True).start()
time.sleep(2)
"""
SCRIBBLE = """
import ipykernel, pathlib
(pathlib.Path(ipykernel.get_connection_file()).parent / "notes").write_bytes(bytes(10**6))
import time
time.sleep(2)
"""


def careless():
    """Right answers that warn and take names of hidden tests, in a notebook that was tinkered with.

    One cell is copied, two are deleted, one is renamed, one is forged; the kernel is another.
    """
    right = "def score_gradient(shares, values):\n"
    right += "    import sys, warnings\n    warnings.warn('careful')\n"
    right += "    print('working', file=sys.stderr)\n"
    right += "    return helper * shares * (values - shares @ values)\n"
    submission = answers("ps1", gradient=right)
    by_name = {c.metadata.get("nbgrader", {}).get("grade_id"): c for c in submission.cells}
    copied = copy.deepcopy(by_name["gradient"])
    copied.source, copied.id = f"# an earlier try\n{copied.source}", "copied"
    submission.cells.insert(submission.cells.index(by_name["gradient"]), copied)
    submission.cells.remove(by_name["test-mask"])
    submission.cells.remove(by_name["setup"])
    by_name["attention"].metadata.nbgrader.grade_id = "mine"
    by_name["test-shares"].metadata.nbgrader.points = 50
    by_name["test-shares"].source = "pass"
    bonus = nbformat.v4.new_code_cell("1")
    bonus.metadata["nbgrader"] = {**by_name["test-mask"].metadata.nbgrader, "grade_id": "bonus"}
    names = "from numpy import *\nq, k, v, dots, helper, closed = 1, 2, 3, 4, 1, 6"
    own = nbformat.v4.new_code_cell(names)
    by_name["by-hand"].source += "\nnp, abs, len, print = 0, 1, 2, lambda *_, **__: None"
    check = nbformat.v4.new_code_cell("del print\nprint('OWN', q, k, v, dots, helper, closed)")
    submission.cells[1:1] = [own]
    submission.cells += [bonus, check]
    submission.metadata["kernelspec"] = {"name": "julia-1.9", "display_name": "Julia"}
    return submission


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Grade a handful of submissions once; scores by student and question, and the folder."""
    if problem:
        pytest.skip(problem)
    root = tmp_path_factory.mktemp("course")
    folder, out, canary = root / "in", root / "out", root / "canary.txt"
    canary.write_text("alive")
    hand_in(folder, "right", "ps1", answers("ps1"))
    hand_in(folder, "blank", "ps8", notebook("ps8", "release"), named=False)
    late = "def backtest(prices, targets, cost):\n" + (
        "    targets = np.vstack([targets[:1] * np.nan, targets[:-1]])\n"
        "    from crossattn.checks.money import account_by_loop\n"
        "    return account_by_loop(prices, targets, cost)\n"
    )
    hand_in(folder, "late", "ps8", answers("ps8", backtest=late))
    package = str(Path(nbformat.__file__).parent)
    sources = str(ASSIGNMENTS / "source" / "*" / "*")
    by_hand = HOSTILE["by_hand"].format(package=package, sources=sources, canary=str(canary))
    hand_in(folder, "hostile", "ps1", answers("ps1", **HOSTILE | {"by_hand": by_hand}))
    hand_in(folder, "forger", "ps1", answers("ps1", **FORGED))
    hand_in(folder, "bomb", "ps1", answers("ps1", gradient=BOMB))
    hand_in(folder, "scribbler", "ps1", answers("ps1", by_hand=SCRIBBLE))
    hand_in(folder, "careless", "ps1", careless())
    loops = answers("ps1", by_hand="while True:\n    pass", gradient="print('x' * 10**6)")
    hand_in(folder, "loops", "ps1", loops)
    (folder / "linked").mkdir()
    (folder / "linked" / "ps1.ipynb").symlink_to(canary)
    (folder / "torn").mkdir()
    (folder / "torn" / "ps1.ipynb").write_text('{"cells": [')
    assert main([str(folder), "--out", str(out), "--cell-seconds", "4"]) == 0
    rows = {(row["student"], row["question"]): row for row in read_rows(out / "questions.csv")}
    grades = {row["student"]: row for row in read_rows(out / "grades.csv")}
    return SimpleNamespace(rows=rows, grades=grades, out=out, canary=canary)


def read_rows(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def points(graded, student):
    return {q: float(row["points"]) for (who, q), row in graded.rows.items() if who == student}


def executed(graded, student):
    """Return the notebook of a student's ps1 as the grader ran it."""
    path = graded.out / "autograded" / student / "ps1" / "ps1.ipynb"
    return nbformat.read(path, as_version=4)


# what some students' questions are worth, and what the grader says about them; 0: all of them
DESERVED = {
    "blank": (0, {}),
    "late": ({"metrics": 2, "timing": 0, "costs": 0}, {"timing": "one row late"}),
    "hostile": ({"attention": 0, "gradient": 0}, {"gradient": "changed how tests run"}),
    "loops": (
        {"scores": 0, "gradient": 0, "attention": 3, "nobody": 2},
        {"scores": "longer than allowed", "gradient": "may print"},
    ),
    # shown numbers and replaced tools earn nothing
    "forger": (0, {"scores": "score = dot product", "gradient": "changed how tests run"}),
    "bomb": ({"attention": 3, "gradient": 0}, {"gradient": "started more"}),
    "scribbler": (0, {"scores": "the kernel's sockets"}),
}


@pytest.mark.parametrize("student", DESERVED)
def test_each_question_gets_the_points_that_it_deserves(graded, student):
    worth, said = DESERVED[student]
    mine = points(graded, student)
    expected = worth or dict.fromkeys(mine, 0)
    assert mine and expected.items() <= mine.items()
    assert float(graded.grades[student]["score"]) == sum(mine.values())
    for question, words in said.items():
        assert words in graded.rows[student, question]["message"]


@pytest.mark.parametrize("student", ["right", "careless"])
def test_right_answers_get_full_marks_whatever_was_tinkered_with(graded, student):
    row = graded.grades[student]
    assert sum(points(graded, student).values()) == 12
    assert row["score"] == row["max_score"] == "12"


def test_hostile_submissions_harm_nothing_and_see_no_hidden_test(graded):
    assert graded.canary.read_text() == "alive" and Path(nbformat.__file__).exists()
    cells = executed(graded, "hostile").cells
    printed = [o.text for c in cells for o in c.get("outputs", []) if "text" in o]
    assert any("SEEN []" in text for text in printed)


def test_names_of_hidden_tests_are_kept_and_changed_marks_lost(graded):
    assert executed(graded, "careless").cells[-1].outputs[0].text == "OWN 1 2 3 4 1 6\n"
    note = "cells were missing and are added: setup, attention, test-mask"
    assert graded.grades["careless"]["note"] == note


@needs_sandbox
def test_a_sandboxed_process_starts_no_other_and_writes_only_scratch(tmp_path):
    places = ["/", "/dev", "/etc", "/usr", "/dev/shm", "/tmp"]
    if not Path(sys.prefix).is_relative_to("/tmp"):  # what lies there lies in scratch
        places.insert(0, str(Path(sys.prefix).parent))
    script = f"""
import ctypes, mmap, os, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from grading.kernel import forbid_processes, limit
limit(2**32, 60)
forbid_processes()
shmget = lambda: ctypes.CDLL(None, use_errno=True).shmget(0, 4096, 0o600) + 1 or 1 / 0
for attempt in (os.fork, lambda: subprocess.run(["true"]), lambda: os.memfd_create("x"), shmget):
    try:
        print("DONE", attempt())
    except (OSError, ZeroDivisionError):
        pass
for place in {places}:
    try:
        with open(place + "/x", "wb") as file:
            print("WROTE", place, os.statvfs(place).f_blocks * os.statvfs(place).f_frsize)
    except OSError:
        pass
"""
    command = [*sandbox_command(str(tmp_path), "ada"), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    wrote = [f"WROTE {place} {SCRATCH_BYTES}" for place in ("/dev/shm", "/tmp")]
    assert done.stdout.splitlines() == wrote, done.stderr


def test_damaged_files_get_a_row_and_a_reason(graded):
    rows = graded.grades
    assert len(rows) == 11
    assert rows["right"]["note"] == ""
    assert rows["blank"]["note"] == "the notebook names 'your id', its data here are of 'blank'"
    assert "link" in rows["linked"]["note"] and "no notebook" in rows["torn"]["note"]
    assert rows["torn"]["score"] == "0" and rows["torn"]["max_score"] == "12"


def test_feedback_is_complete_in_itself(graded):
    pages = list((graded.out / "feedback").glob("*/*.html"))
    assert len(pages) == 11
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script|src=|href=|url\(|@import", text)
        assert "HIDDEN TESTS" not in text


def test_words_of_a_submission_are_escaped():
    cell = nbformat.v4.new_code_cell("'<script>alert(1)</script>'")
    cell.metadata["nbgrader"] = {"grade_id": "a", "solution": True, "grade": False}
    questions = [Question("q", 0, 1, "<img src=x>")]
    page = feedback_page("t", questions, nbformat.v4.new_notebook(cells=[cell]))
    assert "<script" not in page and "<img" not in page


def test_without_a_sandbox_grading_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("grading.grade.isolation_problem", lambda: "no bwrap here")
    hand_in(tmp_path / "in", "ada", "ps1", answers("ps1"))
    assert main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: no bwrap here; --no-isolation")


@pytest.mark.parametrize("read", ["submitted", "assignments/source"])
def test_results_never_replace_what_is_read(read, tmp_path, capsys):
    source = tmp_path / "assignments" / "source" / "ps1"
    shutil.copytree(ASSIGNMENTS / "source" / "ps1", source)
    shutil.copy(ASSIGNMENTS / "nbgrader_config.py", source.parents[1])
    submitted = tmp_path / "submitted"
    hand_in(submitted / "ada", "ps1", "ps1", answers("ps1"))  # nbgrader's layout
    before = files_of(tmp_path)
    words = ["--out", str((tmp_path / read).parent), "--assignments", str(source.parents[1])]
    assert main([str(submitted), *words, "--no-isolation"]) == 2
    told = capsys.readouterr().err
    assert f"would replace {tmp_path / read}:" in told and files_of(tmp_path) == before


def test_what_was_graded_before_an_interruption_is_kept(monkeypatch, tmp_path, capsys):
    def grade_two(submission, *_):
        if submission.student == "c":
            raise KeyboardInterrupt
        return Graded(submission, [Question("q", 1, 2, "")], "", 0.0)

    monkeypatch.setattr("grading.grade._grade", grade_two)
    for student in "abc":
        hand_in(tmp_path / "in", student, "ps1", notebook("ps1", "release"))
    arguments = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--no-isolation"]
    assert main(arguments) == 130
    assert capsys.readouterr().err.startswith("stopped; what was graded is in ")
    rows = read_rows(tmp_path / "out" / "grades.csv")
    assert [(row["student"], row["score"]) for row in rows] == [("a", "1"), ("b", "1")]


def test_notebooks_that_would_be_overlooked_are_named(tmp_path):
    expected = ["ada/ps1/ps1.ipynb", "bob/ps1 (1).ipynb", "eve/x/PS2.ipynb"]
    found = ["ada/ps1.ipynb", "ada/.ipynb_checkpoints/ps1-checkpoint.ipynb"]
    for place in expected + found:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert left_out(tmp_path, NAMES) == expected


def test_names_that_are_no_ids_are_refused(tmp_path, refuse_input):
    (tmp_path / "=cmd()").mkdir()
    refuse_input(lambda: list(find_submissions(tmp_path, NAMES)), "named by id")


def test_a_notebook_without_marks_is_refused(refuse_input):
    submission = answers("ps1")
    for cell in submission.cells:
        cell.metadata.pop("nbgrader", None)
    release = notebook("ps1", "release")
    refuse_input(lambda: restore_marks(submission, release), "none of its cells carries a mark")


@pytest.mark.parametrize(("first", "ending"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n")])
def test_files_from_other_editors_are_read(tmp_path, first, ending):
    path = tmp_path / "ps1.ipynb"
    text = nbformat.writes(answers("ps1")).encode()
    path.write_bytes(first + text.replace(b"\n", ending))
    assert read_submission(path, Limits()).cells == answers("ps1").cells


def test_notebooks_of_older_formats_are_read(tmp_path, recwarn):
    path = tmp_path / "ps1.ipynb"
    path.write_text(nbformat.writes(nbformat.convert(answers("ps1"), 3), version=3))
    submission = read_submission(path, Limits())
    assert restore_marks(submission, notebook("ps1", "release")) == []
    nbformat.validate(submission)
    assert not recwarn.list


def test_large_files_are_refused(tmp_path, refuse_input):
    path, limits = tmp_path / "ps1.ipynb", Limits(submission_bytes=1000)
    path.write_text(" " * 2000)
    refuse_input(lambda: read_submission(path, limits), "at most 1,000 bytes")


@pytest.mark.parametrize("name", NAMES)
def test_release_holds_no_solution_and_no_hidden_test(name):
    source, release = notebook(name), notebook(name, "release")
    text = "\n".join(cell.source for cell in release.cells)
    assert "HIDDEN" not in text and "BEGIN SOLUTION" not in text
    assert text.count("raise NotImplementedError()") >= 3
    assert any("BEGIN HIDDEN TESTS" in cell.source for cell in source.cells)
    assert 10 <= sum(question.possible for question in questions_of(source)) <= 15
