"""When a market changes: causal detectors of volatility, correlations and the lead-lag graph.

Every score of this room is dated by the moment at which it is known and uses nothing later. What
needs the whole history (a change point, a smoothed probability) says so in its name, because a
backtest that uses it has read the future.
"""

from crossattn.evidence.regimes.changes import (
    attention_shift,
    hindsight_change_points,
    refit_times,
)
from crossattn.evidence.regimes.graphs import TwoGraphDetector
from crossattn.evidence.regimes.states import (
    correlation_breakdown,
    correlation_level,
    markov_volatility,
    volatility_level,
)

__all__ = [
    "TwoGraphDetector",
    "attention_shift",
    "correlation_breakdown",
    "correlation_level",
    "hindsight_change_points",
    "markov_volatility",
    "refit_times",
    "volatility_level",
]
