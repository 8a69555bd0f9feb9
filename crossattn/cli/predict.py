"""``crossattn predict``: a forecast for every window of a folder of bars."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "predict"
HELP = "write the forecasts of a run for every bar of a folder, the newest included"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn predict``."""
    parser.add_argument("--run", required=True, metavar="DIR", dest="run_dir", help="run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="one CSV a symbol")
    parser.add_argument("--out", required=True, metavar="FILE.csv")


def run(args: argparse.Namespace) -> None:
    """Write ``close_time`` and a column a symbol: what the head says when the bar has closed."""
    import pandas as pd

    from crossattn.bars.files import read_bars
    from crossattn.cli.runs import load_windows, open_run
    from crossattn.runtime import atomic_write
    from crossattn.training.prediction import predict

    model = open_run(args.run_dir)
    data = load_windows(model, read_bars(args.data), include_latest=True)
    forecast = predict(model, data)
    if forecast.ndim == 3:  # class scores: the sign that is most likely
        forecast = forecast.argmax(axis=-1) - 1
    times = data.timestamps.strftime("%Y-%m-%dT%H:%M:%SZ").rename("close_time")
    table = pd.DataFrame(forecast, index=times, columns=list(data.symbols))
    with atomic_write(Path(args.out)) as temporary:
        table.to_csv(temporary)
    print(f"wrote: {len(table)} forecasts of {len(data.symbols)} symbols to {args.out}")
