"""``crossattn fetch``: faults through the command line, and what a user may ask for."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from standin import scene
from standin.bybit import to_ms
from standin.commands import exit_code

from crossattn.cli import fetch
from crossattn.data.files import read_bars


def words(server, out, *more, symbols=scene.SYMBOL, start=scene.START, end=scene.END):
    span = ["--start", start, "--end", end]
    return [
        "fetch", "--source", "bybit", "--symbols", symbols, *span,
        "--base-url", server.url, "--out", str(out), *map(str, more),
    ]  # fmt: skip


@pytest.fixture
def run(capfd, monkeypatch):
    """Return a function that runs the command and returns exit code, stdout and stderr lines."""

    monkeypatch.setattr(fetch, "LIMITS", scene.PATIENT)

    def run_command(*arguments):
        code = exit_code(arguments)
        said = capfd.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run_command


def missing(lines):
    return [line for line in lines if line.startswith("missing:")]


def test_what_is_written_reads_back_exactly(server, run, tmp_path):
    symbols = ["btcusdt", "SOL-27JUN25"]
    span = {"start": "2022-01-01", "end": "2024-01-01"}  # a Monday: the week from then on is meant
    options = ["--interval", "W", "--category", "inverse"]
    server.symbols |= dict.fromkeys(symbols, scene.FOREVER)
    code, told, _ = run(*words(server, tmp_path, *options, symbols=", ".join(symbols), **span))
    frames = read_bars(tmp_path)
    assert code == 0 and told == [f"wrote: {symbol} 105 bars" for symbol in symbols]
    assert set(frames) == set(symbols)
    for symbol, frame in frames.items():
        truth = scene.true_rows(server, symbol, "W", **span, category="inverse")
        assert np.array_equal(scene.frame_rows(frame)[:, :7], truth[:, :7])


def test_a_bare_date_as_end_is_its_midnight(server, run, tmp_path):
    for end in ("2024-01-11", "2024-01-11T00:00"):
        _, told, _ = run(*words(server, tmp_path / end, end=end))
        assert told == [f"wrote: {scene.SYMBOL} 25 bars"]


def test_the_others_are_written_when_one_symbol_fails(server, run, tmp_path):
    code, told, complaints = run(*words(server, tmp_path, symbols=f"NOSUCH,{scene.SYMBOL}"))
    assert code == 2 and list(read_bars(tmp_path)) == [scene.SYMBOL]
    assert told == [f"wrote: {scene.SYMBOL} 1234 bars"]
    (complaint,) = [line for line in complaints if not line.startswith("fetching:")]
    assert complaint.startswith("error: NOSUCH: ") and "10001" in complaint


def test_a_gap_is_one_line_on_stdout(server, run, tmp_path):
    server.holes = {to_ms(f"2024-02-01T0{hour}:00") for hour in (3, 4, 5, 8)}
    code, told, _ = run(*words(server, tmp_path))
    assert code == 0
    assert missing(told) == [
        f"missing: {scene.SYMBOL} 2024-02-01T03:00:00Z..2024-02-01T05:00:00Z 3 bars",
        f"missing: {scene.SYMBOL} 2024-02-01T08:00:00Z..2024-02-01T08:00:00Z 1 bars",
    ]


WRONG_OPTIONS = [
    ("", "--source"),
    ("--source bybit", "--symbols"),
    ("--source bybit --symbols A,,B", "--symbols"),
    ("--source bybit --symbols A --interval 7", "interval"),
    ("--source bybit --symbols A --start soon", "--start"),
    ("--source bybit --symbols A --timeout nan", "--timeout"),
    ("--source bybit --symbols A --base-url file:///etc", "base_url"),
    ("--source bybit --symbols A --sample x", "--sample"),
    ("--source yahoo --symbols A", "--start"),
    ("--source sample", "--sample"),
]


@pytest.mark.parametrize(("options", "said"), WRONG_OPTIONS)
def test_a_wrong_option_is_refused_in_one_line(options, said, run, tmp_path):
    code, told, complaints = run("fetch", *options.split(), "--out", str(tmp_path / "out"))
    assert code == 2 and told == []
    (line,) = complaints
    assert line.startswith("error: ") and said in line


def test_an_out_that_is_a_file_is_refused_before_anything_is_asked(server, run, tmp_path):
    (tmp_path / "out").write_text("mine")
    code, _, complaints = run(*words(server, tmp_path / "out"))
    assert code == 2 and "--out" in complaints[0] and not server.asks


# The real process


def start_process(arguments):
    program = "import sys; from crossattn.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True)


def finish(process):
    told, complaint = process.communicate(timeout=60)
    return process.returncode, told, complaint


# a fault, whether it goes on, and what must come of it; test_bybit_faults.py has all of them
FAULTS = [
    ("403 with a web page: the region is blocked", "always", "refused"),
    ("302 to file:///etc/passwd", "always", "refused"),
    ("HTTP 404", "always", "refused"),
    ("gzip with a flipped byte", "once", "exact"),
    ("10006 without headers", "once", "exact"),
    ("a high below its low", "always", "gap"),
    ("without its newest row", "always", "named"),
]


@pytest.mark.parametrize(("name", "form", "expected"), FAULTS)
def test_a_process_refuses_in_one_line_or_recovers(name, form, expected, tmp_path):
    with scene.make_server(scene.fault_named(name), form) as server:
        code, told, complaint = finish(start_process(words(server, tmp_path / "out")))
    complaints = complaint.splitlines()
    if expected == "refused":
        assert code == 2 and told == "" and not (tmp_path / "out").exists()
        assert len(complaints) == 1 and complaint.startswith("error: ")
    else:
        assert code == 0 and all(line.startswith("warning: ") for line in complaints)
        assert expected != "exact" or not complaints
        frame = read_bars(tmp_path / "out")[scene.SYMBOL]
        scene.check_frame(frame, server, missing(told.splitlines()), expected)


def test_ctrl_c_in_a_process_exits_130_and_keeps_what_came(server, tmp_path):
    server.delay_s = 0.3
    process = start_process(words(server, tmp_path / "out", start="2022-01-01"))
    deadline = time.monotonic() + 60
    while len(server.asks) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    code, told, complaint = finish(process)
    assert code == 130 and "Traceback" not in complaint
    rows = scene.frame_rows(read_bars(tmp_path / "out")[scene.SYMBOL])
    truth = scene.true_rows(server, start="2022-01-01")
    assert 0 < len(rows) < len(truth)
    assert np.array_equal(rows[:, :7], truth[-len(rows) :, :7])
    (line,) = missing(told.splitlines())
    assert line.endswith(f" {len(truth) - len(rows)} bars")
