"""Ask a folder of bars who leads whom: classical tests, contributions, a costed walk-forward.

Usage: ``python tools/lead_study.py BARS [--leader BTCUSDT] [--cost 0.0001]``; BARS is what
``crossattn fetch`` wrote. Prints the figures that chapter 17 quotes of ten coins.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from crossattn import (
    CrossAttentionBacktest,
    CrossAttentionForecaster,
    analyze_lead_lag_relationships,
    prepare_cross_attention_data,
    walk_forward,
)
from crossattn.baselines.linear import VAR
from crossattn.data import read_bars
from crossattn.evidence import granger, lagged_correlation, robust_regression


def forecaster() -> CrossAttentionForecaster:
    """Return the recommended model."""
    return CrossAttentionForecaster(n_models=1, progress=False)


def pulls(data, leader: str) -> pd.DataFrame:
    """Regress each asset's next return on the leader's last one, alone and beside its own."""
    last = data.X[:, :, -1, data.features.index("log_return")]
    k = data.symbols.index(leader)
    rows = {}
    for i, symbol in enumerate(data.symbols):
        if i != k:
            y, x = data.y[:, i], last[:, [k, i]]
            known = np.isfinite(y) & np.isfinite(x).all(axis=1)
            y, x = y[known], x[known]
            alone, beside = (robust_regression(y, z, lags=24) for z in (x[:, :1], x))
            r = np.corrcoef(y, x[:, 0])[0, 1]
            rows[symbol] = {"r": r, "t alone": alone.t[0], "t beside its own": beside.t[0]}
    return pd.DataFrame(rows).T


def claims(train, val, test) -> pd.DataFrame:
    """Count the pairs that each method names on the test part, and its smallest q-value."""
    linear = {
        "sparse VAR": VAR(penalty="lasso", volatility_weights=True),
        "ridge VAR": VAR(penalty="ridge", volatility_weights=True),
        "forecaster": forecaster(),
    }
    reports = {
        "lagged correlation, textbook": lagged_correlation(test, robust=False),
        "lagged correlation, robust": lagged_correlation(test),
        "Granger, textbook": granger(test, robust=False),
        "Granger, robust": granger(test),
    }
    for name, model in linear.items():
        report = analyze_lead_lag_relationships(model.fit(train, val), test)
        reports[f"contributions, {name}"] = report
    rows = {
        name: {"pairs": report.edges["significant"].sum(), "least q": report.edges["q_value"].min()}
        for name, report in reports.items()
    }
    return pd.DataFrame(rows).T


def traded(data, cost: float) -> pd.DataFrame:
    """Walk forward: a year to learn, half a year to trade, with costs and without."""
    year = int(pd.Timedelta("365D") / pd.Series(data.timestamps).diff().median())
    sizes = {"train_size": year, "val_size": year // 5, "test_size": year // 2}
    walk = walk_forward(data, forecaster, **sizes)
    rows = {}
    for rate in (0.0, cost):
        trader = CrossAttentionBacktest(
            walk, transaction_cost=rate, rebalance_freq=1, allow_short=True
        )
        trader.run(walk.data)
        rows[f"cost {rate:g}"] = trader.result_.metrics()
    shown = ["sharpe_ratio", "sharpe_ratio_low", "sharpe_ratio_high", "average_turnover"]
    return pd.DataFrame(rows).loc[shown].T


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bars")
    parser.add_argument("--leader", help="symbol asked about first (default: the first)")
    parser.add_argument("--cost", type=float, default=0.0001, help="of traded notional")
    args = parser.parse_args()
    data = prepare_cross_attention_data(
        read_bars(args.bars), 24, 1, ["log_return", "relative_volume", "range"]
    )
    leader = args.leader or data.symbols[0]
    print(f"{len(data)} windows, {data.timestamps[0]} to {data.timestamps[-1]}")
    print(f"\nnext return on {leader}'s last\n{pulls(data, leader).round(3)}")
    print(f"\npairs named on the last 40 %\n{claims(*data.split(0.5, 0.1)).round(3)}")
    print(f"\nforecaster, walked forward\n{traded(data, args.cost).round(3)}")


if __name__ == "__main__":
    main()
