"""Simulated markets whose leaders, lags and best possible forecast are known.

Inside this package arrays are (N, T), one asset a row, because an edge of the lead-lag graph reads
one asset's whole path; a :class:`crossattn.SimulatedMarket` publishes them as (T, N).
"""

from crossattn.simulate.market import SimulatedMarket, simulate_market
from crossattn.simulate.scenarios import describe_scenarios

__all__ = ["SimulatedMarket", "describe_scenarios", "simulate_market"]
