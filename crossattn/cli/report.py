"""``crossattn report``: write one HTML page about a run."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pandas as pd
from PIL import Image

from crossattn import evidence
from crossattn.cli import _run_folder as runs
from crossattn.cli._argtypes import new_file
from crossattn.cli._console import echo
from crossattn.cli._money import METRICS_FILE, money_section
from crossattn.cli.check import check_sections
from crossattn.report import Section, leaders_section, write_report

NAMES = ("leader", "follower")  # symbols are texts, also one that is called NA or 0700
CLASSES_TEXT = (
    "Odds of down, neutral and up on unseen bars. The calibration error (ece) is the mean distance "
    "of odds and frequencies; ece_by_chance is what right odds would show in as many bars. t is of "
    "the difference in log loss from the network's, below 0 where the network is better."
)
SCORES = {"qlike": "QLIKE", "r_squared": "R²", "slope": "slope", "gain": "gain", "t": "t"}
SCORED = (
    "QLIKE is the mean loss, 0 for an exact forecast; R² is that of variances; slope that of "
    "realised on forecast variance, 1 where high and low forecasts are right; gain the "
    "forecaster's QLIKE less the row's, below 0 where the forecaster is better, with its "
    "Diebold-Mariano t. The rivals read each asset alone and were fitted on the same bars, "
    "validation included."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn report``."""
    runs.add_folders(parser, data=False)
    parser.add_argument("--out", type=new_file, required=True, metavar="FILE.html")


def run(args: argparse.Namespace) -> None:
    """Collect what the run folder holds into a page."""
    run_dir = args.run_dir
    runs.check_output(args.out, run_dir, run_dir / "figures")
    run, record = runs.open_run(run_dir), runs.read_bars_record(run_dir)
    sections = []
    if (path := run_dir / runs.CLASS_SCORES_FILE).is_file():
        with runs.intact(path):
            table = pd.read_csv(path, index_col="forecast")
            sections.append(Section("Class probabilities", CLASSES_TEXT, table=table.T))
    if (path := run_dir / METRICS_FILE).is_file():
        with runs.intact(path):
            figure = _read_png(run_dir / "figures" / "equity.png")
            sections.append(money_section(json.loads(path.read_text("utf-8")), figure))
    if (path := run_dir / runs.VOLATILITY_FILE).is_file():
        with runs.intact(path):
            table = pd.read_csv(path, index_col="forecast")[list(SCORES)].rename(columns=SCORES)
            sections.append(Section("Volatility on unseen bars", SCORED, table))
    if (path := run_dir / "lead_lag.csv").is_file():
        texts = dict.fromkeys(NAMES, str)
        with runs.intact(path):
            edges = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
            sections.append(leaders_section(edges))
    for name, caption in runs.FIGURES.items():
        if (path := run_dir / "figures" / f"{name}.png").is_file():
            explorer = _read_explorer(run_dir) if name == "attention" else None
            title, figure = name.capitalize(), _read_png(path)
            sections.append(Section(title, figure=figure, caption=caption, explorer=explorer))
    sections += check_sections(run_dir)
    facts = {
        "symbols": ", ".join(run.symbols),
        "lookback": f"{run.lookback} bars",
        "horizon": "; ".join(record.get("spans", [])) or f"{run.horizon} bars",
        "trained on": " to ".join(record["train"]),
        "validated on": " to ".join(record["validation"]),
        "bars (SHA-256)": record["bars_sha256"],
        **{name: _shown(value) for name, value in run.settings.items() if value is not None},
    }
    lead = "Attention and leaders were measured on bars that training never saw."
    write_report(args.out, f"Run {run_dir.resolve().name}", sections, lead=lead, facts=facts)
    echo(f"report: {args.out}")


def _read_png(path: Path) -> bytes:
    """Return a figure of the run whose every checksum fits."""
    data = path.read_bytes()
    with runs.intact(path):
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()
    return data


def _read_explorer(run_dir: Path) -> evidence.AttentionExplorer | None:
    """Return the run's attention maps to look through, if it kept any."""
    path = run_dir / runs.ATTENTION_FILE
    if not path.is_file():
        return None
    with runs.intact(path):
        return evidence.AttentionExplorer(json.loads(path.read_text("utf-8")))


def _shown(value: object) -> object:
    """Return a setting as a reader writes it."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
