"""``crossattn leadlag``: test who leads whom, out of sample."""

import argparse

import crossattn as ca
from crossattn._io import write_file
from crossattn.cli import _run_folder as runs
from crossattn.cli._argtypes import new_file, probability
from crossattn.cli._console import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn leadlag``."""
    add = parser.add_argument
    runs.add_folders(parser)
    add("--alpha", type=probability, default=0.05, metavar="X", help="default: 0.05")
    add("--out", type=new_file, metavar="FILE.csv", help="every pair, as CSV")


def run(args: argparse.Namespace) -> None:
    """Print the significant pairs, strongest evidence first; write all pairs where asked."""
    if args.out:
        runs.check_output(args.out, *runs.inputs_of(args))
    run, record = runs.open_run(args.run_dir), runs.read_bars_record(args.run_dir)
    frames = runs.read_run_bars(run, args.data, args.time_zone)
    data = runs.out_of_sample(runs.load_windows(run, frames, args), record)
    report = ca.analyze_lead_lag_relationships(run.model, data, alpha=args.alpha)
    if args.out:
        write_file(args.out, report.edges.to_csv(index=False))
    for edge in report.edges[report.edges["significant"]].sort_values("q_value").itertuples():
        line = (
            f"{edge.leader} leads {edge.follower} lag {edge.lag} effect {edge.effect:+.4f} "
            f"q {edge.q_value:.2g} channel {edge.channel}"
        )
        if hasattr(edge, "gross_gain"):  # a volatility that spreads is no trade
            line += (
                f" gain {edge.gross_gain:.2f} bp a move, "
                f"break-even cost {edge.break_even_cost / 1e-4:.2f} bp, {edge.note or 'tradable'}"
            )
        echo(line)
    verdict = report.verdict.replace("≤", "<=")
    if report.nobody_leads or not report.edges["tested"].all():
        echo(verdict[0].lower() + verdict[1:])
