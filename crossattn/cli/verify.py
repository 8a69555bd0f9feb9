"""``crossattn verify``: leakage audit of a run, by perturbing the future of its bars."""

import argparse

import pandas as pd

import crossattn as ca
from crossattn.cli import _run_folder as runs
from crossattn.cli._console import echo
from crossattn.errors import CrossAttentionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn verify``."""
    runs.add_folders(parser)


def run(args: argparse.Namespace) -> None:
    """Perturb, delete, extend, shuffle and poison the future of bars → features → forecasts."""
    run = runs.open_run(args.run_dir)

    def forecasts(frames):
        data = runs.load_windows(run, frames, args, include_latest=True)
        answers = run.forecast(data)
        names = data.symbols
        if answers.ndim == 3:
            names = [f"{symbol} output {k}" for symbol in names for k in range(answers.shape[2])]
        return pd.DataFrame(answers.reshape(len(data), -1), data.timestamps, names)

    report = ca.audit_leakage(forecasts, runs.read_run_bars(run, args.data, args.time_zone), cuts=4)
    if not report.passed:
        raise CrossAttentionError(f"the run does not pass the leakage audit; {report}")
    echo(str(report))
