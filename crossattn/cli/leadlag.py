"""``crossattn leadlag``: tested leaders, on bars that the run was not trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossattn.cli.values import level

NAME = "leadlag"
HELP = "test who leads whom on bars that the run never saw; q-values, or 'nobody leads'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn leadlag``."""
    parser.add_argument("--run", required=True, metavar="DIR", dest="run_dir", help="run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="one CSV a symbol")
    parser.add_argument("--alpha", type=level, default=0.05, metavar="X", help="default: 0.05")
    parser.add_argument("--out", metavar="FILE.csv", help="every ordered pair, as CSV")


def run(args: argparse.Namespace) -> None:
    """Print the significant pairs, strongest evidence first; write all pairs where asked."""
    from crossattn.bars.files import read_bars
    from crossattn.cli.runs import load_windows, open_run, read_record, unseen
    from crossattn.evidence.leadlag import analyze_lead_lag_relationships
    from crossattn.runtime import atomic_write

    model = open_run(args.run_dir)
    data = unseen(load_windows(model, read_bars(args.data)), read_record(Path(args.run_dir)))
    report = analyze_lead_lag_relationships(model, data, alpha=args.alpha)
    if args.out:
        with atomic_write(Path(args.out)) as temporary:
            report.edges.to_csv(temporary, index=False)
    found = report.edges[report.edges["significant"]].sort_values("q_value")
    for edge in found.itertuples():
        print(
            f"{edge.leader} leads {edge.follower} lag {edge.lag} "
            f"effect {edge.effect:+.4f} q {edge.q_value:.2g}"
        )
    if report.nobody_leads:
        print(f"nobody leads: no pair of {len(report.edges)} at q <= {args.alpha:g}")
