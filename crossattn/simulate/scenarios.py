"""Scenarios of the simulator: one function each, from options to a market.

To add a scenario, write a function ``MarketOptions -> MarketPaths`` here, enter it in
:data:`SCENARIOS`, describe it in :func:`crossattn.simulate_market`, and give options of its own a
default in ``MarketOptions``. A new random stream goes to the end of ``_builder._STREAMS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from crossattn.simulate import dynamics
from crossattn.simulate._builder import MarketBuilder, MarketOptions, MarketPaths
from crossattn.simulate._quotes import calibrated_quotes
from crossattn.simulate._shocks import draw_shocks


def _static(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    return market.build(market.draw_graph(), dynamics.always)


def _null(options: MarketOptions) -> MarketPaths:
    return MarketBuilder(options).build_null()


def _factor(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    market.shared_volatility = 1.5
    return market.build_null()


def _asynchronous(options: MarketOptions) -> MarketPaths:
    """Every second asset is quoted late: part of its move is printed in the next bar."""
    market = MarketBuilder(options)
    late = draw_shocks(market.rng("late"), market.loadings, options.tail, options.n_steps)
    is_stale = np.arange(options.n_assets) % 2 == 1
    moves = market.volatility * market.shocks, market.volatility * late
    quotes = calibrated_quotes(*moves, is_stale, options.predictability)
    return market.assemble(quotes.returns, quotes.unseen)


def _switching(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    volume = market.relative_volume
    known = ~np.isnan(volume).any(axis=0)
    leader = np.where(known, np.nan_to_num(volume).argmax(axis=0), -1)
    return market.build(dynamics.all_pairs(options.n_assets), dynamics.when_chosen(leader))


def _gated(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    volume = market.relative_volume
    threshold = np.nanquantile(volume, 1 - options.gate_share, axis=1, keepdims=True)
    return market.build(market.draw_graph(), dynamics.when_open(volume >= threshold))


def _regimes(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    market.draw_states()
    rng = market.rng("graph")
    first, second = (
        dynamics.draw_sparse(rng, options.n_assets, options.leaders_per_follower, market.lags)
        for _ in range(2)
    )
    if options.change == "sign":
        second = replace(first, weight=-first.weight)
    return market.build(first + second.in_regime(1), dynamics.in_state(market.regimes))


def _threshold(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    limit = options.threshold * market.levels[:, 0]
    return market.build(market.draw_graph(), dynamics.when_large(limit))


def _hub(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    edges = dynamics.draw_hub(market.rng("graph"), options.n_assets, market.lags)
    return market.build(edges, dynamics.always)


def _crisis(options: MarketOptions) -> MarketPaths:
    market = MarketBuilder(options)
    market.draw_states()
    edges = market.draw_graph()
    return market.build(edges + edges.in_regime(1), dynamics.in_state(market.regimes))


#: Every scenario by name: builds the paths of a market from its options.
SCENARIOS: dict[str, Callable[[MarketOptions], MarketPaths]] = {
    "static": _static,
    "null": _null,
    "factor": _factor,
    "asynchronous": _asynchronous,
    "switching": _switching,
    "gated": _gated,
    "regimes": _regimes,
    "threshold": _threshold,
    "hub": _hub,
    "crisis": _crisis,
}
