"""CPU seconds of each command from start to finish on few bars: next to nothing but imports."""

import sys

import pytest
from benchmarks.measure import cpu_seconds

from crossattn import simulate_market
from crossattn.cli import main
from crossattn.data.files import write_bars

pytestmark = pytest.mark.slow
COMMAND = "import sys; from crossattn.cli import main; sys.exit(main())"
LEAST = 3  # runs of each, the best of which counts


def least_seconds(program, *words) -> float:
    return min(cpu_seconds([sys.executable, "-c", program, *words]) for _ in range(LEAST))


def test_imports(keep):
    """The package's names are loaded when they are used: importing it loads no torch."""
    programs = {"python -c pass": "pass", "import crossattn": "import crossattn"}
    programs["import torch"] = "import torch"
    taken = {name: least_seconds(program) for name, program in programs.items()}
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
    taken = {name: least_seconds(COMMAND, *words) for name, words in commands.items()}
    keep("start_up", "crossattn", taken)
    assert taken["predict --last 1"] < 3.0
    assert taken["predict --last 1 --orders"] < 3.0
