"""CPU seconds of each command from start to finish on few bars: next to nothing but imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from crossattn import simulate_market
from crossattn.cli import main
from crossattn.data.files import write_bars

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "import sys; from crossattn.cli import main; sys.exit(main())"]
LEAST = 3  # runs of each, the best of which counts


def cpu_seconds(words, command=COMMAND) -> float:
    process = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, words
    return usage.ru_utime + usage.ru_stime


def test_imports(keep):
    """The package's names are loaded when they are used: importing it loads no torch."""
    programs = {"python -c pass": "pass", "import crossattn": "import crossattn"}
    programs["import torch"] = "import torch"
    taken = {
        name: min(cpu_seconds([program], [sys.executable, "-c"]) for _ in range(LEAST))
        for name, program in programs.items()
    }
    keep("start_up", "imports", taken)
    assert taken["import crossattn"] < 0.5 * taken["import torch"]


def test_a_forecast_takes_less_than_three_seconds(tmp_path, keep):
    frames = simulate_market(n_assets=3, n_steps=700, seed=11).frames
    write_bars({symbol: frame[:600] for symbol, frame in frames.items()}, tmp_path / "past")
    write_bars(frames, tmp_path / "bars")
    run, bars, out = (str(tmp_path / name) for name in ("run", "bars", "out.csv"))
    words = ["--lookback", "24", "--horizon", "1", "--epochs", "1", "--n-models", "1"]
    assert main(["train", "--run", run, "--data", str(tmp_path / "past"), *words]) == 0
    both = ["--run", run, "--data", bars]
    forecast = ["predict", *both, "--out", out]
    orders = ["--orders", str(tmp_path / "orders.csv"), "--equity", "1000"]
    commands = {
        "--version": ["--version"],
        "simulate": ["simulate", "--out", str(tmp_path / "made"), "--steps", "300"],
        "check": ["check", "--data", bars],
        "check --run": ["check", *both],
        "predict": forecast,
        "predict --last 1": [*forecast, "--last", "1"],
        "predict --last 1 --orders": [*forecast, "--last", "1", *orders],
        "backtest": ["backtest", *both, "--out", str(tmp_path / "traded")],
        "leadlag": ["leadlag", *both],
        "verify": ["verify", *both],
        "report": ["report", "--run", run, "--out", str(tmp_path / "report.html")],
    }
    taken = {n: min(cpu_seconds(w) for _ in range(LEAST)) for n, w in commands.items()}
    keep("start_up", "crossattn", taken)
    assert taken["predict --last 1"] < 3.0
    assert taken["predict --last 1 --orders"] < 3.0
