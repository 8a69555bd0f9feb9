"""Portfolios and backtests: weights, costs, the account, metrics, significance, walk-forward."""

from crossattn.portfolio.allocation import (
    Limits,
    cap_weights,
    class_scores,
    forecast_scores,
    quantile_scores,
    staggered,
    trailing_risk,
    weights_from_scores,
)
from crossattn.portfolio.benchmarks import (
    buy_and_hold,
    compare,
    equal_weight,
    inverse_volatility,
    momentum,
)
from crossattn.portfolio.capacity import break_even_cost, capacity_curve
from crossattn.portfolio.costs import Costs
from crossattn.portfolio.engine import BacktestResult, backtest_weights
from crossattn.portfolio.metrics import compute_metrics, infer_periods_per_year
from crossattn.portfolio.optimise import mean_variance_weights
from crossattn.portfolio.risk import (
    diversification_ratio,
    effective_number_of_bets,
    expected_shortfall,
    risk_by_asset,
    value_at_risk,
)
from crossattn.portfolio.significance import (
    SharpeInterval,
    deflated_sharpe,
    expected_best_sharpe,
    probabilistic_sharpe,
    sharpe_interval,
)
from crossattn.portfolio.strategy import CrossAttentionBacktest
from crossattn.portfolio.walkforward import WalkForwardResult, walk_forward

__all__ = [
    "BacktestResult",
    "Costs",
    "CrossAttentionBacktest",
    "Limits",
    "SharpeInterval",
    "WalkForwardResult",
    "backtest_weights",
    "break_even_cost",
    "buy_and_hold",
    "cap_weights",
    "capacity_curve",
    "class_scores",
    "compare",
    "compute_metrics",
    "deflated_sharpe",
    "diversification_ratio",
    "effective_number_of_bets",
    "equal_weight",
    "expected_best_sharpe",
    "expected_shortfall",
    "forecast_scores",
    "infer_periods_per_year",
    "inverse_volatility",
    "mean_variance_weights",
    "momentum",
    "probabilistic_sharpe",
    "quantile_scores",
    "risk_by_asset",
    "sharpe_interval",
    "staggered",
    "trailing_risk",
    "value_at_risk",
    "walk_forward",
    "weights_from_scores",
]
