"""``crossattn report``: one HTML page of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "report"
HELP = "write one self-contained HTML page of a run: curve, attention, leaders, configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn report``."""
    parser.add_argument("--run", required=True, metavar="DIR", dest="run_dir", help="run folder")
    parser.add_argument("--out", required=True, metavar="FILE.html")


def run(args: argparse.Namespace) -> None:
    """Collect what the run folder holds into a page."""
    import pandas as pd

    from crossattn.cli.runs import FIGURES, open_run, read_record
    from crossattn.errors import DamagedFileError
    from crossattn.report import Section, leaders_section, write_report

    run_dir = Path(args.run_dir)
    model, record = open_run(run_dir), read_record(run_dir)
    sections = []
    for name, caption in FIGURES.items():
        path = run_dir / "figures" / f"{name}.png"
        if path.is_file():
            sections.append(Section(name.capitalize(), figure=path.read_bytes(), caption=caption))
    leaders = run_dir / "lead_lag.csv"
    if leaders.is_file():
        try:
            sections.append(leaders_section(pd.read_csv(leaders)))
        except (ValueError, KeyError):
            raise DamagedFileError(f"{leaders} is damaged; train the run again") from None
    facts = {
        "symbols": ", ".join(model.symbols),
        "lookback and horizon": f"{model.lookback} and {model.horizon} bars",
        "trained on": " to ".join(record["train"]),
        "validated on": " to ".join(record["validation"]),
        "bars (SHA-256)": record["digest"],
        **model.config.to_dict(),
    }
    lead = "Attention and leaders were measured on bars that training never saw."
    write_report(args.out, f"Run {run_dir.name}", sections, lead=lead, facts=facts)
    print(f"report: {args.out}")
