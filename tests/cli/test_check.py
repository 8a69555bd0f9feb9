"""``crossattn check``: findings, unreadable files, drift and the live coefficient of a run."""

import shutil

import numpy as np
import pandas as pd
import pytest
from standin.commands import simulate, train_words

from crossattn import simulate_market
from crossattn.cli import main
from crossattn.data.files import write_bars

HOSTILE = "<b>A</b>\n=1+1"


def sound_frames():
    frames = simulate_market(n_assets=4, n_steps=1500, seed=31).frames
    frames[HOSTILE] = frames.pop("A00")
    return frames


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Bars with a split, a misprint and a hostile name."""
    folder = tmp_path_factory.mktemp("bars")
    frames = sound_frames()
    frames["A01"].iloc[600:, :4] /= 10
    frames[HOSTILE].iloc[900, :4] *= 1000
    write_bars(frames, folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[(), ("--d-model", "8", "--n-heads", "1", "--n-layers", "1")],
    ids=["forecaster", "network"],
)
def run_dir(request, bars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "bars").symlink_to(bars)
    assert main(train_words(folder, "--epochs", "1", *request.param)) == 0
    return folder / "run"


@pytest.fixture
def check(capsys):
    """Give a way to check bars, which must succeed: it returns the lines on standard output."""

    def run_check(bars, *words):
        capsys.readouterr()
        assert main(["check", "--data", str(bars), *map(str, words)]) == 0
        return capsys.readouterr().out.splitlines()

    return run_check


def test_one_line_a_finding_and_exit_0(bars, check):
    split, misprint, end = sorted(check(bars), key=lambda line: line[0] != "A")
    assert split.startswith("A01: looks like a 10:1 split at 2022-01-26 00:00")
    assert misprint.startswith("<b>A</b>\\n=1+1: close at 2022-02-07 12:00 is 99")
    assert end == "checked: 4 assets, 6000 bars, 2 findings"


def test_sound_bars_have_no_findings(tmp_path, check):
    simulate(tmp_path, "--assets", "3", "--steps", "600")
    assert check(tmp_path) == ["checked: 3 assets, 1800 bars, no findings"]


def test_every_unreadable_file_is_named(bars, tmp_path, capsys):
    shutil.copytree(bars, tmp_path, dirs_exist_ok=True)
    (tmp_path / "BAD.csv").write_text("time,open\n")
    (tmp_path / "WORSE.csv").write_text("")
    assert main(["check", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["unreadable"] * 2
    assert "BAD.csv" in said.out and "WORSE.csv" in said.out
    assert said.err.startswith("error: 2 files of") and len(said.err.splitlines()) == 1
    assert main(["check", "--data", str(tmp_path / "none")]) == 2


def test_train_prints_and_keeps_the_findings(run_dir, tmp_path):
    findings = pd.read_csv(run_dir / "findings.csv")
    assert set(findings["symbol"]) == {"A01", HOSTILE}
    coverage = pd.read_csv(run_dir / "bars_coverage.csv", index_col="symbol")
    assert (coverage["bars"] == 1500).all()
    page = tmp_path / "report.html"
    report = ["report", "--run", str(run_dir), "--out", str(page)]
    assert main(report) == 0
    text = page.read_text()
    assert "looks like a 10:1 split" in text and "<b>A</b>" not in text and "Coverage" in text
    (run_dir / "findings.csv").write_text("broken")
    assert main(report) == 2
    findings.to_csv(run_dir / "findings.csv", index=False)


def test_a_run_is_checked_on_later_bars(bars, run_dir, check):
    said = check(bars, "--run", run_dir)
    assert any(line.startswith("drift: 0 of ") for line in said), said
    live = said[-1].removeprefix("live: information coefficient ").split()
    value, error, n_windows = float(live[0]), float(live[2]), int(live[3].strip("("))
    assert abs(value) < 6 * error and 400 < n_windows < 500


def test_a_run_is_checked_against_bars_of_another_source_and_no_later_ones(
    run_dir, tmp_path, check
):
    frames = sound_frames()
    late = frames["A02"].iloc[1050:]
    wide = late["close"] * np.exp(np.abs(np.random.default_rng(0).normal(0, 0.5, len(late))))
    frames["A02"].loc[late.index, "high"] = np.maximum(late["high"], wide)
    write_bars(frames, tmp_path)
    said = check(tmp_path, "--run", run_dir)
    assert any(line.startswith("drift: range of A02: index ") for line in said)
    write_bars({symbol: frame[:700] for symbol, frame in sound_frames().items()}, tmp_path)
    assert check(tmp_path, "--run", run_dir)[-1].startswith("live: no bars later than training")
