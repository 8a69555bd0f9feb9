"""``crossattn predict``: a forecast for every window of a folder of bars."""

from __future__ import annotations

import argparse

from crossattn.cli._argtypes import new_file
from crossattn.cli._console import echo
from crossattn.cli._run_folder import add_folders

HELP = "write the forecasts of a run for every bar of a folder, the newest included"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn predict``."""
    add_folders(parser)
    parser.add_argument("--out", type=new_file, required=True, metavar="FILE.csv")


def run(args: argparse.Namespace) -> None:
    """Write ``close_time`` and a column per symbol: the forecast made when that bar closed.

    The cell of a symbol that has no bar there is empty.
    """
    from crossattn._io import atomic_write
    from crossattn.cli._run_folder import check_output_dir, forecast_table, load_windows, open_run
    from crossattn.data.files import read_bars

    check_output_dir(args.data, args.out.parent)
    run = open_run(args.run_dir)
    data = load_windows(
        run, read_bars(args.data, time_zone=args.time_zone), args.exogenous, include_latest=True
    )
    table = forecast_table(run.forecast(data), data.timestamps, data.symbols)
    with atomic_write(args.out) as temporary:
        table.to_csv(temporary)
    echo(f"wrote: {len(table)} forecasts of {len(data.symbols)} symbols to {args.out}")
