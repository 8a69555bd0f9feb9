"""Words of the commands that tests run on small folders of bars."""

import shutil
import subprocess
import sys

import pandas as pd

from crossattn.cli import main
from crossattn.data.files import read_bars


def python(code, **options):
    """Run a program in a fresh interpreter and return what came of it."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, **options)


def exit_code(words):
    """Run ``crossattn`` and return its exit code, also where the parser refuses the words."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code


def train_words(folder, *more):
    bars, run = str(folder / "bars"), str(folder / "run")
    words = ["train", "--data", bars, "--run", run, "--lookback", "24", "--horizon", "1"]
    return [*words, "--epochs", "3", "--device", "cpu", *more]


def run(work, command, *words, bars="bars", name="run"):
    """Run a command on a folder's run and its bars, or others; a report reads no bars."""
    data = [] if command == "report" else ["--data", work / bars]
    return main([command, "--run", str(work / name), *map(str, [*data, *words])])


def simulate(folder, *words):
    """Write the bars of a simulated market of four assets, or as the words say, into a folder."""
    assert main(["simulate", "--assets", "4", *words, "--out", str(folder)]) == 0


def predicted(work, folder, *words, **where):
    """Return the forecasts that ``crossattn predict`` writes into a folder."""
    out = folder / "forecasts.csv"
    assert run(work, "predict", "--out", out, *words, **where) == 0
    return pd.read_csv(out, index_col="close_time", parse_dates=True)


def copy_run(work, folder, name="run"):
    """Copy a run into a folder that shares the bars; return the folder."""
    (folder / "bars").symlink_to(work / "bars")
    shutil.copytree(work / name, folder / "run")
    return folder


def files_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read_closes(folder):
    """Return the closes of a folder of bars, dated by the opens."""
    return pd.DataFrame({symbol: frame["close"] for symbol, frame in read_bars(folder).items()})
