"""``crossattn demo``: end to end, from bars to an HTML report."""

import argparse
import time

import pandas as pd

import crossattn as ca
from crossattn import baselines, evidence, portfolio
from crossattn.cli import _run_folder as runs
from crossattn.cli._argtypes import folder, nonnegative_int
from crossattn.cli._console import echo
from crossattn.figures import attention_heatmap, use_style
from crossattn.report import Section, leaders_section, write_report

LOOKBACK = 48
N_STEPS = 12_000
TRANSACTION_COST = 0.0001
REBALANCE = 1
METRICS = (
    *("total_return", "sharpe_ratio", "sharpe_ratio_low", "sharpe_ratio_high", "max_drawdown"),
    *("gross_exposure", "average_turnover", "n_trades", "total_costs", "break_even_cost"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn demo``."""
    add = parser.add_argument
    add("--out", type=folder, default="demo", metavar="DIR", help="default: demo")
    add("--seed", type=nonnegative_int, default=0, metavar="N", help="default: 0")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--scenario", default="static", metavar="NAME", help="a simulated market (default: static)")
    add("--sample", metavar="NAME", help="real bars that need no network")


def run(args: argparse.Namespace) -> None:
    """Simulate or load bars, fit, test, backtest, and write ``report.html``."""
    started = time.monotonic()
    market, frames, source = _bars(args)
    echo(f"bars: {source}")
    data = ca.prepare_cross_attention_data(frames, lookback=LOOKBACK, horizon=1)
    train, val, test = data.split(train=0.6, val=0.1)
    args.out.mkdir(parents=True, exist_ok=True)
    echo(f"features: {len(data.symbols)} assets, {len(data)} windows of {LOOKBACK} bars")
    forecaster = ca.CrossAttentionForecaster(seed=args.seed).fit(train, val)
    mix = " + ".join(f"{w:.2f} {name}" for name, w in forecaster.weights_.items() if w >= 0.005)
    echo(f"trained: on the first 60 % of the bars; mixed on the next 10 % as {mix or 'nothing'}")
    forecast = forecaster.predict(test)

    sections = [
        _forecast_section(forecast, train, val, test, market),
        *_evidence_sections(forecaster, test, market),
        _backtest_section(forecaster, test),
    ]
    facts = {
        "bars": source,
        "assets": ", ".join(data.symbols),
        "first and last bar": f"{data.timestamps[0]} to {data.timestamps[-1]}",
        "split": f"{len(train)} train, {len(val)} validation, {len(test)} test windows",
        "features": ", ".join(data.features),
        "seed": args.seed,
        "cost": f"{TRANSACTION_COST:.2%} of traded notional",
    }
    lead = f"A cross-attention forecaster on {source}, evaluated out of sample."
    write_report(args.out / "report.html", "crossattn demo", sections, lead=lead, facts=facts)
    echo(f"report: {args.out / 'report.html'} ({time.monotonic() - started:.0f} s)")


def _bars(args: argparse.Namespace):
    """Return the market (None for real bars), its frames and a description of them."""
    if args.sample:
        return None, ca.load_sample(args.sample), f"the packaged sample {args.sample!r}"

    market = ca.simulate_market(args.scenario, n_steps=N_STEPS, seed=args.seed)
    return market, market.frames, f"a simulated market, scenario {args.scenario!r}"


def _forecast_section(forecast, train, val, test, market):
    """Compare with a lasso VAR, with zero and, on a simulated market, with the oracle."""
    linear = baselines.VAR(penalty="lasso", volatility_weights=True).fit(train, val).predict(test)
    forecasts = {
        "cross-attention": forecast,
        "lasso VAR, volatility-weighted": linear,
        "zero": 0.0 * forecast,
    }
    truth = None if market is None else market.oracle[test.ends]
    if truth is not None:
        forecasts["oracle"] = truth
    table = evidence.score_forecasts(forecasts, test.y, oracle=truth)
    text = (
        "Forecasts of the next bar, on bars that nothing was fitted on. The "
        "information coefficient is a correlation; r_squared is against forecasting zero."
    )
    if truth is not None:
        text += " Fidelity is the correlation with the true conditional mean."
    return Section("Forecasts beside baselines", text, table=table)


def _evidence_sections(forecaster, test, market):
    """Show raw attention, which sums to one in any market, beside the lead-lag test."""
    use_style()
    attention = forecaster.attention(test).mean(axis=0).sum(axis=-1)  # (N, N)
    report = forecaster.lead_lag(test)
    return [
        Section(
            "Where attention looks",
            "Attention weights show what a forecast reads: each row sums to one even in a market "
            "without leaders. They are a hint, not a finding; the test below is.",
            figure=attention_heatmap(attention, test.symbols),
            caption="Mean attention over time, summed over lags.",
        ),
        leaders_section(report.edges, truth=None if market is None else market.edges),
        Section("Tested effects", figure=report.plot(), caption=runs.FIGURES["leaders"]),
    ]


def _backtest_section(forecaster, test):
    """Trade the forecasts beside equal weights, at the same costs and at none."""
    results = {}
    for label, cost in (("gross", 0.0), ("net", TRANSACTION_COST)):
        backtest = ca.CrossAttentionBacktest(
            forecaster, transaction_cost=cost, rebalance_freq=REBALANCE, allow_short=True
        )
        backtest.run(test)
        results[f"cross-attention, {label}"] = backtest.result_
        results[f"equal weight, {label}"] = backtest.benchmark_
    rows = {name: result.metrics() for name, result in results.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")[list(METRICS)].rename_axis("strategy")
    text = (
        f"Decided at each close, earned over the next bar; net means {TRANSACTION_COST:.2%} of "
        "everything traded. On a simulated market the predictability is planted: read the gap "
        "between gross and net, not the level."
    )
    caption = "Equity and drawdown of both strategies, before and after costs."
    figure = portfolio.plot_equity(results)
    return Section("After costs", text, table=table, figure=figure, caption=caption)
