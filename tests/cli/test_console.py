"""CLI output survives closed and full streams, and its work does not depend on that."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from standin.commands import python

from crossattn.cli import main
from crossattn.cli._console import echo, print_error

SAMPLE = ["fetch", "--source", "sample", "--sample", "us_volatility"]
UNREAD, CLOSED = "unread", "closed"


def command(words, *, stdout, stderr=subprocess.PIPE, **environment):
    """Run ``crossattn`` with a closed pipe, or without a stream, as its output."""
    read, write = os.pipe()
    os.close(read)
    streams = {UNREAD: write, CLOSED: None}
    closed = [number for number, how in ((1, stdout), (2, stderr)) if how == CLOSED]
    options = {"stdout": streams.get(stdout, stdout), "stderr": streams.get(stderr, stderr)}
    options["preexec_fn"] = lambda: [os.close(number) for number in closed]
    program = [sys.executable, "-m", "crossattn", *words]
    try:
        return subprocess.run(program, **options, env=os.environ | environment, text=True)
    finally:
        os.close(write)


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("stdout", [UNREAD, CLOSED])
def test_work_goes_on_when_stdout_is_closed(tmp_path, stdout, buffered):
    done = command([*SAMPLE, "--out", tmp_path], stdout=stdout, PYTHONUNBUFFERED=buffered)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["NASDAQ.csv", "SPX.csv", "VIX.csv"]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout here")
def test_a_table_can_go_down_a_pipe():
    write = "from crossattn._io import atomic_write as whole\nwith whole('/dev/stdout') as file:"
    done = python(f"{write} file.write_text('a,b\\n')")
    assert (done.stdout, done.stderr) == ("a,b\n", "")


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout here")
@pytest.mark.parametrize("named", ["/dev/stdout", "log"])
def test_a_file_that_output_is_redirected_to_is_added_to(tmp_path, named):
    path = tmp_path / "log"
    path.write_text("kept\n")
    write = f"from crossattn._io import write_file\nwrite_file({str(tmp_path / named)!r}, 'a,b\\n')"
    program = f"print('before', flush=True)\n{write}\nprint('after')"
    with path.open("a") as log:
        assert subprocess.run([sys.executable, "-c", program], stdout=log).returncode == 0
    assert path.read_text() == "kept\nbefore\na,b\nafter\n" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_into_a_closed_pipe_is_no_failure(words):
    done = command(words, stdout=UNREAD, PYTHONUNBUFFERED="")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("stderr", [UNREAD, CLOSED])
def test_a_refusal_into_a_closed_pipe_keeps_its_exit_code(stderr):
    done = command(["demo", "--seed", "x"], stdout=subprocess.PIPE, stderr=stderr)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_results_that_do_not_fit_on_the_disk_are_refused(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = command([*SAMPLE, "--out", tmp_path], stdout=full)
        assert done.returncode == 2
        assert done.stderr.startswith("error: cannot use standard output")
        assert command(["demo", "--seed", "x"], stdout=full, stderr=full).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_is_said_in_any_encoding(tmp_path, encoding):
    out = tmp_path / "\u0416\udcff"  # a folder whose name is not UTF-8
    words = ["simulate", "--out", out, "--assets", "2", "--steps", "3"]
    words += ["--scenario", "null"]
    done = command(words, stdout=subprocess.PIPE, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1 and len(list(out.iterdir())) == 2


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u2028", "\u202egnirts", "\r"])
def test_a_name_is_one_line_of_visible_characters(name, capsys):
    echo(f"wrote: {name}")
    print_error("error", f"no {name}")
    said = capsys.readouterr()
    for text in said:
        assert text.endswith("\n") and text[:-1].isprintable()
    assert repr(name)[1:-1] in said.out


def test_a_warning_that_was_made_an_error_is_a_refusal(tmp_path):
    words = ["fetch", "--source", "sample", "--sample", "us_indices", "--out", str(tmp_path)]
    assert main(words) == 0
    words = ["train", "--data", str(tmp_path), "--run", str(tmp_path / "run")]
    environment = {"PYTHONWARNINGS": "error::UserWarning", "OMP_NUM_THREADS": "1"}
    done = command(words, stdout=subprocess.PIPE, **environment)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.startswith("error: features dropped: ") and done.stderr.count("\n") == 1


def test_a_program_that_calls_main_keeps_its_own_warnings(capsys, monkeypatch):
    shown = warnings.showwarning
    with pytest.raises(SystemExit):
        main(["--version"])
    assert warnings.showwarning is shown


def test_speech_fits_a_stream_of_any_kind(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    echo("\u0416")
    assert sys.stdout.getvalue() == "\u0416\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_the_environment_can_keep_every_bar_away(quiet):
    asked = "import crossattn._io as r; r._in_notebook = lambda: True"
    environment = {**os.environ, "TQDM_DISABLE": "1" if quiet else ""}
    environment = {name: value for name, value in environment.items() if value}
    answer = python(f"{asked}; print(r.progress([1]).disable)", check=True, env=environment)
    assert answer.stdout.strip() == str(quiet)
