"""``crossattn check``: check a folder of bars and, of a run, its inputs and live forecasts."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

import crossattn as ca
from crossattn import evidence
from crossattn._io import write_file
from crossattn.cli import _run_folder as runs
from crossattn.cli._console import echo
from crossattn.data.durations import span_text
from crossattn.data.frame import Frames
from crossattn.errors import InvalidInputError
from crossattn.report import Section

FINDINGS_FILE = "findings.csv"
COVERAGE_FILE = "bars_coverage.csv"
INPUTS_FILE = "inputs.json"
COVERAGE_TEXT = (
    "Of each asset: the share of the common clock's rows that it has, within its life, and the "
    "share of its bars whose next row it has too."
)
MOST_LINES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn check``."""
    runs.add_folders(parser, needs_run=False)


def run(args: argparse.Namespace) -> None:
    """Print a line per finding, and of a run the drift of its inputs and its live coefficient."""
    if args.exogenous is not None and args.run_dir is None:
        raise InvalidInputError("--exogenous is read with --run: name a run that has learned it")
    frames = _read_all(args.data, args.time_zone)
    report = ca.check_bars(frames)
    for line in report.lines:
        echo(line)
    bars = f"{len(frames)} assets, {int(report.coverage['bars'].sum())} bars"
    echo(f"checked: {bars}, {len(report.findings) or 'no'} findings")
    if args.run_dir is not None:
        _check_run(args, frames)


def _read_all(folder: Path, time_zone: str | None) -> Frames:
    """Read bars; where files cannot be read, print a line for each of them first."""
    try:
        return ca.read_bars(folder, time_zone=time_zone)
    except InvalidInputError as error:
        more = getattr(error, "__notes__", [])
        if not more:
            raise
        for line in (str(error), *more):
            echo(f"unreadable: {line}")
        raise InvalidInputError(f"{1 + len(more)} files of {folder} cannot be read") from None


def _check_run(args: argparse.Namespace, frames: Frames) -> None:
    from crossattn.evidence.monitoring import OUTSIDE
    from crossattn.training.checkpoint import read_checksummed_json

    run, record = runs.open_run(args.run_dir), runs.read_bars_record(args.run_dir)
    data = runs.load_windows(run, runs.bars_of_run(run, frames), args, include_latest=True)
    until = f"the run has seen bars until {record['seen_until']}"
    try:
        data = runs.out_of_sample(data, record)
    except InvalidInputError:
        echo(f"live: no bars later than training; {until}")
        return
    path = args.run_dir / INPUTS_FILE
    if path.is_file():
        drift = evidence.input_drift(read_checksummed_json(path), data)
        shifted = drift[drift["drifted"]]
        for row in shifted.head(MOST_LINES).itertuples():
            size = f"index {row.psi:.2f}, {row.n_effective:.0f} independent bars"
            if row.outside > OUTSIDE:
                size += f", {row.outside:.0%} of them beyond all of training"
            echo(f"drift: {row.feature} of {row.symbol}: {size}")
        left = int((~drift["tested"]).sum())
        few = f"; {left} have too few independent new bars to tell" if left else ""
        echo(f"drift: {len(shifted)} of {len(drift)} inputs shifted{few}")
    else:
        echo(f"drift: {args.run_dir} holds no {INPUTS_FILE} to compare with; train the run again")
    forecast = run.forecast(data)
    if forecast.ndim == 3:  # classes: up against down
        forecast = forecast[..., 2] - forecast[..., 0]
    is_volatility = run.settings.get("target") == "volatility"
    targets = data.realised_volatility if is_volatility else data.y
    live = evidence.live_coefficient(forecast, targets, horizon=data.horizon)
    times = data.timestamps
    echo(f"live: information coefficient {live}, {times[0]} to {times[-1]}")


def echo_findings(report: ca.BarsReport) -> None:
    """Print the findings for ``crossattn train``: a line each, of the first ones if many."""
    for line in report.lines[:MOST_LINES]:
        echo(f"check: {line}")
    if len(report.lines) > MOST_LINES:
        echo(f"check: {len(report.lines) - MOST_LINES} more findings: see crossattn check")


def write_check(run_dir: Path, report: ca.BarsReport, train: ca.CrossAttentionData) -> None:
    """Keep findings, coverage and a summary of the training inputs in the run folder."""
    from crossattn.training.checkpoint import write_checksummed_json

    write_file(run_dir / FINDINGS_FILE, report.findings.to_csv(index=False))
    write_file(run_dir / COVERAGE_FILE, report.coverage.to_csv())
    write_checksummed_json(run_dir / INPUTS_FILE, evidence.summarise_inputs(train))


def check_sections(run_dir: Path) -> list[Section]:
    """Return the report's sections on the bars that a run was trained on, if it kept any."""
    if not (run_dir / FINDINGS_FILE).is_file():
        return []
    texts = dict.fromkeys(("symbol", "kind", "text", "remark", "spacing"), str)
    read = partial(pd.read_csv, dtype=texts, keep_default_na=False, na_values={"figure": ""})
    with runs.intact(run_dir / FINDINGS_FILE):
        findings = read(run_dir / FINDINGS_FILE).set_index("symbol")
        findings = findings[["kind", "moment", "figure", "text"]]
        coverage = read(run_dir / COVERAGE_FILE).set_index("symbol")
        spans = pd.to_timedelta(coverage["spacing"])  # NaT of a single bar
        coverage["spacing"] = ["" if pd.isna(x) else span_text(x) for x in spans]
    text = f"{len(findings)} findings of the data check." if len(findings) else "No findings."
    return [
        Section("Check of the bars", text, table=findings if len(findings) else None),
        Section("Coverage", COVERAGE_TEXT, table=coverage),
    ]
