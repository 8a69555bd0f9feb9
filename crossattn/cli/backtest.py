"""``crossattn backtest``: a run's forecasts traded, net of costs."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

import crossattn as ca
from crossattn._io import write_file
from crossattn.cli import _run_folder as runs
from crossattn.cli._argtypes import bars_or_duration, folder, positive_float, utc_datetime, utc_end
from crossattn.cli._console import echo
from crossattn.cli._money import METRICS_FILE, draw_equity, lines_of, metrics_of, write_metrics
from crossattn.errors import InvalidInputError
from crossattn.figures import png_of, use_style


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn backtest``."""
    add = parser.add_argument
    runs.add_folders(parser)
    add("--out", type=folder, required=True, metavar="DIR", help="for its results")
    add("--start", type=utc_datetime, metavar="ISO", help="default: the first unseen bar")
    add("--end", type=utc_end, metavar="ISO", help="default: the last bar; a date: all of it")
    add("--rebalance-freq", type=bars_or_duration, default=24, metavar="SPAN", help="default: 24")
    add("--initial-capital", type=positive_float, default=1e5, metavar="MONEY", help="default: 1e5")
    runs.add_decision_options(parser)
    explained = "trade the forecasts of the folds of crossattn train --walk-forward"
    add("--walk-forward", action="store_true", help=explained)


def run(args: argparse.Namespace) -> None:
    """Write equity, trades, metrics and a figure; print the metrics beside equal weights."""
    runs.check_output(args.out / METRICS_FILE, *runs.inputs_of(args))
    run, record = runs.open_run(args.run_dir), runs.read_bars_record(args.run_dir)
    frames = runs.read_run_bars(run, args.data, args.time_zone)
    data = runs.load_windows(run, frames, args, include_latest=True)
    model, seen_until = run.model, record["seen_until"]
    if args.walk_forward:
        model, data = _folds(run, args.run_dir, data)
        seen_until = data.timestamps[0] - pd.Timedelta(1, "ns")
    elif not args.start:
        data = runs.out_of_sample(data, record)
    data = _between(data, args.start, args.end)
    strategy = ca.CrossAttentionBacktest(
        model,
        args.initial_capital,
        rebalance_freq=args.rebalance_freq,
        **runs.decision_settings(args),
    )
    results = strategy.run(data)
    metrics = metrics_of(strategy)
    seen = int((data.timestamps <= seen_until).sum())
    metrics["bars_seen_in_training"] = seen

    args.out.mkdir(parents=True, exist_ok=True)
    trades = _at_closes(strategy.result_.trades, data)
    write_file(args.out / "equity.csv", results.to_csv(index=False))
    write_file(args.out / "trades.csv", trades.to_csv(index=False))
    write_metrics(args.out / METRICS_FILE, metrics)
    use_style()
    write_file(args.out / "equity.png", png_of(draw_equity(strategy)))
    for line in lines_of(metrics):
        echo(line)
    if seen:
        echo(f"warning: {seen} of {len(data)} bars were seen in training; this is no test")


def _folds(run: runs.Run, run_dir: Path, windows: ca.CrossAttentionData):
    """Return the forecasts of the folds as a model, and the windows that they are of."""
    path, kind = run_dir / runs.WALK_FORWARD_FILE, run.settings.get("output_type")
    if kind == "classification" or not path.is_file():
        raise InvalidInputError(
            f"--walk-forward: {run_dir} holds no forecasts of folds that can be traded; train it "
            "by crossattn train --walk-forward, with an output type that is no class"
        )
    with runs.intact(path):
        table = pd.read_csv(path, index_col="close_time")[list(windows.symbols)].astype(float)
        rows = windows.timestamps.get_indexer(pd.to_datetime(table.index, utc=True))
    if not len(rows) or (rows < 0).any():
        raise InvalidInputError(
            f"--walk-forward: {(rows < 0).sum()} of the {len(rows)} bars that the folds forecast "
            "are not in --data"
        )
    table.index = windows.timestamps[rows]
    model = SimpleNamespace(
        predict=lambda data: table.reindex(data.timestamps).to_numpy(), output_type=kind
    )
    return model, windows[rows[0] : rows[-1] + 1]


def _at_closes(trades: pd.DataFrame, data: ca.CrossAttentionData) -> pd.DataFrame:
    """Restate trades, which the strategy counts in prices that start at 1, at the bars' closes."""
    assets = [data.symbols.index(symbol) for symbol in trades["symbol"]]
    price = data.closes[data.clock.get_indexer(trades["time"]), assets]
    return trades.assign(shares=trades["value"] / price, price=price)


def _between(data, start, end):
    rows = data.timestamps.slice_indexer(start, end)
    if rows.start >= rows.stop:
        raise InvalidInputError(
            f"no window of the data ({data.timestamps[0]} to {data.timestamps[-1]}) lies between "
            "--start and --end"
        )
    return data[rows]
