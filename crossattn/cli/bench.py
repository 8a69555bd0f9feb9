"""``crossattn bench``: score lead-lag models on markets with known truth and on real bars."""

import argparse

from crossattn._io import write_file
from crossattn.cli._argtypes import folder, names, positive_int
from crossattn.cli._console import echo
from crossattn.report import Section, write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn bench``."""
    add = parser.add_argument
    add("--models", type=names, metavar="A,B", help="default: all, classical to neural")
    add("--scenarios", type=names, metavar="X,Y", help="or packaged samples; default: simulated")
    add("--seeds", type=positive_int, default=3, metavar="N", help="frozen seeds (default: 3)")
    add("--assets", type=positive_int, default=10, metavar="N", help="default: 10")
    add("--steps", type=positive_int, default=20_000, metavar="N", help="default: 20000")
    add("--jobs", type=positive_int, default=1, metavar="N", help="side by side (default: 1)")
    add("--out", type=folder, required=True, metavar="DIR", help="results, table and report")


def run(args: argparse.Namespace) -> None:
    """Write results/<model>.json, scores.csv, leaderboard.csv and report.html.

    Run again into the same folder, it goes on where it stopped.
    """
    from crossattn.leaderboard import MODELS, VERSION, Protocol, lead_lag_bench, leaderboard

    protocol = Protocol(n_assets=args.assets, n_steps=args.steps)
    table = lead_lag_bench(
        args.models or tuple(MODELS),
        args.scenarios,
        args.seeds,
        out=args.out,
        protocol=protocol,
        n_jobs=args.jobs,
        echo=echo,
    )
    board = leaderboard(table)
    write_file(args.out / "scores.csv", table.to_csv(index=False))
    write_file(args.out / "leaderboard.csv", board.to_csv())
    sections = [
        Section(name, text, table=leaderboard(table, name)) for name, text in _SECTIONS.items()
    ]
    facts = {"benchmark": f"LeadLagBench {VERSION}"} | vars(protocol) | {"seeds": args.seeds}
    write_report(args.out / "report.html", "crossattn bench", sections, facts=facts)
    for place, (model, mean) in enumerate(board["mean"].items(), 1):
        echo(f"{place}. {model}: mean fidelity {mean:.3f}" if mean == mean else f"-. {model}")
    echo(f"wrote: {len(table)} scores of {table['model'].nunique()} models to {args.out}")


_SECTIONS = {
    "fidelity": "Correlation of the forecast with the true conditional mean, on unseen bars.",
    "r_squared": "Against forecasting zero, on realised returns.",
    "edge_auroc": "Ranking of the pairs by p-value: planted leaders above the others.",
    "power": "Share of the planted leaders that are named at 5 %.",
    "false_discovery": "Share of the named leaders that were not planted.",
    "net_sharpe": "Annual, decided at each close, after 1 basis point of everything traded.",
    "cpu_seconds": "To fit, forecast and test.",
    "peak_memory_mb": "Beyond what was in use before.",
}
