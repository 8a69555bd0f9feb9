"""``crossattn backtest``: a run's forecasts traded, net of costs."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from crossattn.cli.values import count, fraction, moment, positive

NAME = "backtest"
HELP = "trade the forecasts of a run, net of costs, on bars that it never saw"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn backtest``."""
    parser.add_argument("--run", required=True, metavar="DIR", dest="run_dir", help="run folder")
    parser.add_argument("--data", required=True, metavar="DIR", help="one CSV a symbol")
    parser.add_argument("--out", required=True, metavar="DIR", help="equity, trades, metrics")
    parser.add_argument("--start", type=moment, metavar="ISO", help="default: the first unseen bar")
    parser.add_argument("--end", type=moment, metavar="ISO", help="default: the last bar")
    parser.add_argument("--transaction-cost", type=fraction, default=0.001, metavar="FRACTION")
    parser.add_argument("--rebalance-freq", type=count, default=24, metavar="BARS")
    parser.add_argument("--initial-capital", type=positive, default=100_000.0, metavar="MONEY")
    parser.add_argument("--allow-short", action="store_true")
    parser.add_argument("--max-position", type=positive, default=1.0, metavar="FRACTION")


def run(args: argparse.Namespace) -> None:
    """Write ``equity.csv``, ``trades.csv`` and ``metrics.json``; print the metrics."""
    from crossattn.bars.files import read_bars
    from crossattn.cli.runs import load_windows, open_run, read_record, unseen
    from crossattn.portfolio.strategy import CrossAttentionBacktest
    from crossattn.runtime import atomic_write

    model = open_run(args.run_dir)
    record = read_record(Path(args.run_dir))
    windows = load_windows(model, read_bars(args.data), include_latest=True)
    data = _between(windows, args.start, args.end) if args.start else unseen(windows, record)
    if args.end and not args.start:
        data = _between(data, None, args.end)
    strategy = CrossAttentionBacktest(
        model,
        args.initial_capital,
        args.transaction_cost,
        args.rebalance_freq,
        allow_short=args.allow_short,
        max_position=args.max_position,
    )
    results = strategy.run(data)
    metrics = strategy.compute_metrics(results)
    seen = int((data.timestamps <= record["seen_until"]).sum())
    metrics["bars_seen_in_training"] = seen

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    equity = results[["timestamp", "capital", "return", "cost", "turnover"]]
    with atomic_write(out / "equity.csv") as temporary:
        equity.to_csv(temporary, index=False)
    with atomic_write(out / "trades.csv") as temporary:
        strategy.result_.trades.to_csv(temporary, index=False)
    written = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    with atomic_write(out / "metrics.json") as temporary:  # JSON knows no infinity
        temporary.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    for name, value in metrics.items():
        print(f"{name}: {value:.6g}")
    if seen:
        print(f"warning: {seen} of {len(data)} bars were seen in training; this is no test")


def _between(data, start, end):
    from crossattn.errors import InvalidInputError

    first = data.timestamps.searchsorted(start) if start else 0
    stop = data.timestamps.searchsorted(end, side="right") if end else len(data)
    if first >= stop:
        raise InvalidInputError(
            f"no window of the data ({data.timestamps[0]} to {data.timestamps[-1]}) lies between "
            f"--start and --end"
        )
    return data[first:stop]
