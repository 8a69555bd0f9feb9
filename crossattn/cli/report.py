"""``crossattn report``: write one HTML page about a run."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from crossattn.cli._argtypes import new_file
from crossattn.cli._console import echo
from crossattn.cli._run_folder import add_folders

if TYPE_CHECKING:
    from crossattn.evidence.explorer import AttentionExplorer

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
HELP = "write one self-contained HTML page of a run: curve, attention, leaders, configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn report``."""
    add_folders(parser, data=False)
    parser.add_argument("--out", type=new_file, required=True, metavar="FILE.html")


def run(args: argparse.Namespace) -> None:
    """Collect what the run folder holds into a page."""
    import pandas as pd

    from crossattn.cli._money import METRICS_FILE, money_section
    from crossattn.cli._run_folder import (
        CLASS_SCORES_FILE,
        FIGURES,
        VOLATILITY_FILE,
        open_run,
        read_bars_record,
    )
    from crossattn.cli.check import check_sections
    from crossattn.errors import DamagedFileError
    from crossattn.report import Section, leaders_section, write_report

    run_dir = args.run_dir
    run, record = open_run(run_dir), read_bars_record(run_dir)
    sections, drawn = [], []
    for name, caption in FIGURES.items():
        path = run_dir / "figures" / f"{name}.png"
        if path.is_file():
            explorer = _read_explorer(run_dir) if name == "attention" else None
            section = Section(
                name.capitalize(), figure=_read_png(path), caption=caption, explorer=explorer
            )
            drawn.append(section)
    scores = run_dir / CLASS_SCORES_FILE
    if scores.is_file():
        try:
            table = pd.read_csv(scores, index_col="forecast")
            sections.append(Section("Class probabilities", CLASSES_TEXT, table=table.T))
        except ValueError:
            raise DamagedFileError(f"{scores} is damaged; train the run again") from None
    metrics = run_dir / METRICS_FILE
    if metrics.is_file():
        try:
            figure = _read_png(run_dir / "figures" / "equity.png")
            sections.append(money_section(json.loads(metrics.read_text("utf-8")), figure))
        except (OSError, TypeError, ValueError, KeyError):
            raise DamagedFileError(f"{metrics} is damaged; train the run again") from None
    scores = run_dir / VOLATILITY_FILE
    if scores.is_file():
        try:
            table = pd.read_csv(scores, index_col="forecast")[list(SCORES)].rename(columns=SCORES)
        except (ValueError, KeyError):
            raise DamagedFileError(f"{scores} is damaged; train the run again") from None
        sections.append(Section("Volatility on unseen bars", SCORED, table))
    leaders = run_dir / "lead_lag.csv"
    if leaders.is_file():
        try:
            edges = pd.read_csv(
                leaders, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""]
            )
            sections.append(leaders_section(edges))
        except (ValueError, KeyError):
            raise DamagedFileError(f"{leaders} is damaged; train the run again") from None
    sections += drawn + check_sections(run_dir)
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
    from PIL import Image

    from crossattn.errors import DamagedFileError

    data = path.read_bytes()
    try:
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()
    except (OSError, SyntaxError, ValueError):
        raise DamagedFileError(f"{path} is damaged; train the run again") from None
    return data


def _read_explorer(run_dir: Path) -> AttentionExplorer | None:
    """Return the run's attention maps to look through, if it kept any."""
    from crossattn.cli._run_folder import ATTENTION_FILE
    from crossattn.errors import DamagedFileError, InvalidInputError
    from crossattn.evidence.explorer import AttentionExplorer

    path = run_dir / ATTENTION_FILE
    if not path.is_file():
        return None
    try:
        return AttentionExplorer(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, InvalidInputError):
        raise DamagedFileError(f"{path} is damaged; train the run again") from None


def _shown(value: object) -> object:
    """Return a setting as a reader writes it."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
