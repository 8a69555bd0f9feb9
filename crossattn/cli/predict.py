"""``crossattn predict``: a forecast for every window of a folder of bars, or for the newest."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from crossattn.cli._argtypes import new_file, positive_int
from crossattn.cli._console import echo
from crossattn.cli._run_folder import add_folders

if TYPE_CHECKING:
    import pandas as pd

    from crossattn.cli._run_folder import Run

HELP = "write the forecasts of a run for every bar of a folder, the newest included"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn predict``."""
    add_folders(parser)
    add = parser.add_argument
    add("--out", type=new_file, required=True, metavar="FILE.csv")
    add("--last", type=positive_int, metavar="N", help="only the newest N closes, in a moment")


def run(args: argparse.Namespace) -> None:
    """Write ``close_time`` and a column per symbol: the forecast made when that bar closed.

    The cell of a symbol that has no bar there is empty.
    """
    from crossattn._io import atomic_write
    from crossattn.cli._run_folder import check_output_dir, open_run

    check_output_dir(args.data, args.out.parent)
    run = open_run(args.run_dir)
    table = _newest(run, args) if args.last else None
    if table is None:
        table = _every(run, args)
    with atomic_write(args.out) as temporary:
        table.to_csv(temporary)
    echo(f"wrote: {len(table)} forecasts of {len(run.symbols)} symbols to {args.out}")


def _every(run: Run, args: argparse.Namespace) -> pd.DataFrame:
    """Forecast every window, or the last ones, from all bars of the folder."""
    from crossattn.cli._run_folder import forecast_table, load_windows, read_run_bars

    frames = read_run_bars(run, args.data, args.time_zone)
    data = load_windows(run, frames, args.exogenous, include_latest=True)
    data = data[-args.last :] if args.last else data
    return forecast_table(run.forecast(data), data.timestamps, data.symbols)


def _newest(run: Run, args: argparse.Namespace) -> pd.DataFrame | None:
    """Forecast the last closes from the state that training left and the bars since.

    None where that is not possible: other bars than those of training, another format of files, or
    more closes than the state reaches back.
    """
    import pandas as pd

    from crossattn.cli._run_folder import bars_of_run, forecast_table, series_of_run
    from crossattn.data.files import read_newest_bars
    from crossattn.errors import InvalidInputError

    state = getattr(run.model, "state_", None)
    frames = state and read_newest_bars(args.data, state.clock[state.start])
    if not frames:
        return None
    frames = bars_of_run(run, frames)
    exogenous = series_of_run(run, args.exogenous)
    try:
        times, forecasts = run.model.newest(frames, exogenous, args.last)
    except InvalidInputError:
        return None  # bars that differ from those of training: forecast from these bars alone
    ends = [
        frame["close_time"].iloc[-1]
        if "close_time" in frame
        else frame.index[-1] + pd.Timedelta(seconds=run.spacing.get(symbol, 0.0))
        for symbol, frame in frames.items()
    ]
    if len(times) < args.last or max(ends) != times[-1]:  # or the state is ahead of the folder
        return None
    return forecast_table(forecasts, times, run.symbols)
