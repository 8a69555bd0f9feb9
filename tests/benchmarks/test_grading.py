"""Thirty submissions, right, wrong and hostile, generated and graded in one go."""

import csv
import os
import time

import pytest

pytest.importorskip("nbgrader")

from grader.submissions import answers, hand_in, notebook
from grading.grade import main
from grading.sandbox import isolation_problem

MINUTES = 15
HOSTILE = {
    "loop": "while True:\n    pass",
    "memory": "hoard = bytearray(10**11)",
    "flood": "while True:\n    print('x' * 1000)",
    "socket": "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=3)",
    "files": "import shutil\nfor place in ('/usr', '/tmp'):\n    shutil.rmtree(place)",
    "tests": "get_ipython().run_cell = lambda *a, **k: None",
    "processes": "import os\nfor _ in range(64):\n    os.fork() or os._exit(0)",
    "threads": (
        "import threading, time\nthreading.stack_size(32768)\nfor _ in range(1000):\n"
        "    threading.Thread(target=time.sleep, args=[5], daemon=True).start()\ntime.sleep(3)"
    ),
    "end": "import os\nos._exit(0)",
    "deaf": (
        "while True:\n    try:\n        while True:\n            pass\n"
        "    except BaseException:\n        pass"
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(bool(isolation_problem()), reason=isolation_problem() or "a sandbox is here")
def test_thirty_submissions_in_fifteen_minutes(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in [f"ps{k}" for k in range(1, 9)]:
        hand_in(folder, f"right-{name}", name, answers(name))
        hand_in(folder, f"blank-{name}", name, notebook(name, "release"))
    wrong = "def attention(query, key, value, mask=None):\n    return query, key"
    for k in range(4):
        hand_in(folder, f"wrong-{k}", "ps1", answers("ps1", attention=wrong))
    for kind, text in HOSTILE.items():
        hand_in(folder, f"hostile-{kind}", "ps1", answers("ps1", gradient=text))
    started = time.monotonic()
    assert main([str(folder), "--out", str(out)]) == 0
    seconds = time.monotonic() - started
    with (out / "grades.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    for row in rows:
        share = float(row["score"]) / float(row["max_score"])
        kind = row["student"].split("-")[0]
        assert {"right": share == 1, "blank": share == 0}.get(kind, 0 < share < 1), row
    print(f"30 submissions in {seconds:.0f} s on {os.cpu_count()} cores")
    assert seconds < 60 * MINUTES
