"""``crossattn leadlag``: test who leads whom, out of sample."""

import argparse

from crossattn.cli._argtypes import new_file, probability
from crossattn.cli._console import echo
from crossattn.cli._run_folder import add_folders

HELP = "test who leads whom on bars that the run never saw; q-values, or 'nobody leads'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn leadlag``."""
    add = parser.add_argument
    add_folders(parser)
    add("--alpha", type=probability, default=0.05, metavar="X", help="default: 0.05")
    add("--out", type=new_file, metavar="FILE.csv", help="every pair, as CSV")


def run(args: argparse.Namespace) -> None:
    """Print the significant pairs, strongest evidence first; write all pairs where asked."""
    from crossattn._io import atomic_write
    from crossattn.cli._run_folder import (
        check_output_dir,
        load_windows,
        open_run,
        out_of_sample,
        read_bars_record,
        read_run_bars,
    )
    from crossattn.evidence.leadlag import analyze_lead_lag_relationships

    if args.out:
        check_output_dir(args.data, args.out.parent)
    run, record = open_run(args.run_dir), read_bars_record(args.run_dir)
    frames = read_run_bars(run, args.data, args.time_zone)
    data = out_of_sample(load_windows(run, frames, args.exogenous), record)
    report = analyze_lead_lag_relationships(run.model, data, alpha=args.alpha)
    if args.out:
        with atomic_write(args.out) as temporary:
            report.edges.to_csv(temporary, index=False)
    for edge in report.edges[report.edges["significant"]].sort_values("q_value").itertuples():
        claim = (
            f"{edge.leader} leads {edge.follower} lag {edge.lag} effect {edge.effect:+.4f} "
            f"q {edge.q_value:.2g} channel {edge.channel}"
        )
        if hasattr(edge, "gross_gain"):  # a volatility that spreads is no trade
            claim += (
                f" gain {edge.gross_gain:.2f} bp a move, "
                f"break-even cost {edge.break_even_cost / 1e-4:.2f} bp, {edge.note or 'tradable'}"
            )
        echo(claim)
    verdict = report.verdict.replace("≤", "<=")
    if report.nobody_leads or not report.edges["tested"].all():
        echo(verdict[0].lower() + verdict[1:])
