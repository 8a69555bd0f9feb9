"""Metrics, table and figure of a backtest, as commands write and reports show them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from crossattn import portfolio
from crossattn._io import write_file
from crossattn.data.durations import span_text
from crossattn.figures import Axes
from crossattn.portfolio.strategy import CrossAttentionBacktest
from crossattn.report import Section

METRICS_FILE = "metrics.json"
BENCHMARK = "equal weight"
CAPTION = (
    "Equity and drawdown on unseen bars, net of costs, beside equal weights that are rebalanced as "
    "often and pay the same, and with the money paid for trades added back."
)
SHOWN = (
    *("total_return", "annual_return", "volatility", "sharpe_ratio", "sharpe_ratio_low"),
    *("sharpe_ratio_high", "max_drawdown", "gross_exposure", "average_turnover", "n_trades"),
    *("total_costs", "break_even_cost"),
)


def metrics_of(strategy: CrossAttentionBacktest) -> dict[str, float | str]:
    """Return the metrics of a run, those of equal weights (``benchmark_``...), and the span."""
    own, equal = strategy.result_, strategy.benchmark_
    times = own.equity.index
    beside = {f"benchmark_{n}": value for n, value in equal.metrics().items() if n in SHOWN}
    span = {"start": times[0].isoformat(), "end": times[-1].isoformat(), "bars": len(times) - 1}
    often = strategy.rebalance_freq
    often = often if isinstance(often, int) else span_text(often)
    settings = {"transaction_cost": strategy.transaction_cost, "rebalance_freq": often}
    return own.metrics() | beside | span | settings


def write_metrics(path: Path, metrics: dict[str, float | str]) -> None:
    """Write metrics as JSON, which knows neither infinity nor NaN: null."""

    written = {
        name: value if isinstance(value, str) or math.isfinite(value) else None
        for name, value in metrics.items()
    }
    write_file(path, json.dumps(written, indent=1) + "\n")


def lines_of(metrics: dict[str, float | str]) -> list[str]:
    """Return a line a metric, that of equal weights beside it."""
    lines = []
    for name, value in metrics.items():
        if not name.startswith("benchmark_"):
            beside = metrics.get(f"benchmark_{name}")
            note = "" if beside is None else f" ({BENCHMARK} {beside:.6g})"
            lines.append(f"{name}: {value if isinstance(value, str) else f'{value:.6g}'}{note}")
    return lines


def draw_equity(strategy: CrossAttentionBacktest) -> Axes:
    """Draw the equity of a run, with and without what it paid, beside that of equal weights."""
    own = strategy.result_
    gross = replace(own, equity=own.equity + own.costs.cumsum())
    return portfolio.plot_equity(
        {"strategy": own, BENCHMARK: strategy.benchmark_, "strategy, costs added back": gross}
    )


def money_section(metrics: dict, figure: Axes | bytes | None) -> Section:
    """Return the report section on a backtest from its metrics, null where one is no number."""
    columns = {
        name: [math.nan if (x := metrics.get(prefix + row)) is None else float(x) for row in SHOWN]
        for name, prefix in (("strategy", ""), (BENCHMARK, "benchmark_"))
    }
    often = metrics["rebalance_freq"]
    often = often if isinstance(often, str) else f"{often} bars"
    seen = metrics.get("bars_seen_in_training")
    bars = f"bars, of which {seen} were seen in training," if seen else "unseen bars,"
    text = (
        f"{metrics['bars']} {bars} {metrics['start']} to {metrics['end']}: a decision every "
        f"{often}, at {metrics['transaction_cost']:.2%} of everything "
        "traded. The Sharpe ratio's interval holds 95 %; the break-even cost is the cost per "
        "traded notional at which the gain before costs is used up."
    )
    table = pd.DataFrame(columns, index=pd.Index(SHOWN, name="metric"))
    return Section("After costs", text, table=table, figure=figure, caption=CAPTION)
