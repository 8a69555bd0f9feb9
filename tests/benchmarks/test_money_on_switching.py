"""Net Sharpe ratios on a market whose leaders switch, and on one without leaders.

Five seeds each, traded every bar at 1 basis point: the forecaster, a lasso VAR weighted by
volatility, and equal weight. Run with ``make bench``; about five minutes.
"""

import pandas as pd
import pytest
from benchmarks.measure import split_market
from scipy.stats import t as student

from crossattn import (
    CrossAttentionBacktest,
    CrossAttentionForecaster,
    backtest_weights,
    compute_metrics,
)
from crossattn.baselines.linear import VAR
from crossattn.portfolio.benchmarks import equal_weight

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FEE, SEEDS = 0.0001, range(5)


def net_sharpes(scenario, seed):
    market, train, val, test = split_market(scenario, seed, predictability=0.02)
    models = {
        "attention": CrossAttentionForecaster(seed=seed, progress=False),
        "lasso VAR": VAR(7, penalty="lasso", volatility_weights=True),
    }
    found = {}
    for name, model in models.items():
        backtest = CrossAttentionBacktest(
            model.fit(train, val), transaction_cost=FEE, rebalance_freq=1, allow_short=True
        )
        found[name] = backtest.compute_metrics(backtest.run(test))["sharpe_ratio"]
    prices = market.panel["close"].loc[test.timestamps]
    even = backtest_weights(equal_weight(prices, every=24), prices, transaction_cost=FEE)
    found["equal weight"] = compute_metrics(even.returns)["sharpe_ratio"]
    return found


def interval(table, other):
    """95 % interval of the mean over seeds of what attention is ahead of another."""
    ahead = table["attention"] - table[other]
    low, high = student.interval(0.95, len(ahead) - 1, ahead.mean(), ahead.sem())
    print(f"\nattention minus {other}, net Sharpe: [{low:.1f}, {high:.1f}]\n{table.round(1)}")
    return low, high


@pytest.fixture(scope="module")
def tables():
    return {
        scenario: pd.DataFrame([net_sharpes(scenario, seed) for seed in SEEDS])
        for scenario in ("switching", "null")
    }


@pytest.mark.parametrize("other", ["lasso VAR", "equal weight"])
def test_switching_leaders_pay_net_of_costs(tables, other):
    low, _ = interval(tables["switching"], other)
    assert low > 0


@pytest.mark.parametrize("other", ["lasso VAR", "equal weight"])
def test_nothing_pays_on_a_null_market(tables, other):
    low, _ = interval(tables["null"], other)
    assert low <= 0
    assert tables["null"]["attention"].mean() < 0, "what is traded without an edge costs"
