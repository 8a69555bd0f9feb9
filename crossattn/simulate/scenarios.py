"""The markets that can be asked for, each a way to plant (or only to fake) a leader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from crossattn.data.frame import Frames
from crossattn.features.volume import relative_volume
from crossattn.simulate import dynamics as firing
from crossattn.simulate.dynamics import Dynamics
from crossattn.simulate.graph import Edges, all_pairs, draw_hub, draw_sparse, no_edges
from crossattn.simulate.options import MarketOptions
from crossattn.simulate.quotes import (
    bars_from_returns,
    calibrated_quotes,
    draw_news,
    draw_volume,
)
from crossattn.simulate.shocks import (
    draw_log_volatility,
    draw_regimes,
    draw_shocks,
    factor_loadings,
    garch_log_volatility,
)

_STREAMS = (
    "graph",
    "levels",
    "volatility",
    "shocks",
    "late",
    "news",
    "volume",
    "bridges",
    "states",
)


@dataclass(frozen=True)
class Planted:
    """What a scenario made; arrays are (N, T)."""

    frames: Frames
    returns: np.ndarray
    oracle: np.ndarray
    leaders: np.ndarray
    volatility: np.ndarray
    regimes: np.ndarray
    edges: Edges


class Workshop:
    """The ingredients that scenarios share, each drawn from a random stream of its own.

    So two scenarios of one seed differ by what is planted, not by luck.
    """

    def __init__(self, settings: MarketOptions) -> None:
        self.settings = settings
        seeds = np.random.SeedSequence(settings.seed).spawn(len(_STREAMS))
        self._seeds = dict(zip(_STREAMS, seeds, strict=True))
        self.regimes = np.zeros(settings.n_steps, int)
        self.shared_volatility = 1.0

    def rng(self, stream: str) -> np.random.Generator:
        """Return a fresh generator of one stream."""
        return np.random.default_rng(self._seeds[stream])

    @property
    def shape(self) -> tuple[int, int]:
        return self.settings.n_assets, self.settings.n_steps

    @property
    def lags(self) -> np.ndarray:
        return np.arange(1, self.settings.max_lag + 1)

    @cached_property
    def loadings(self) -> np.ndarray:
        """Factor loadings (N, K)."""
        return self._loadings(self.settings.correlation)

    @cached_property
    def news(self):
        return draw_news(self.rng("news"), *self.shape)

    @cached_property
    def shocks(self) -> np.ndarray:
        """Shocks of unit variance (N, T), more correlated in state 1 of a crisis."""
        loadings = self.loadings
        if self.settings.scenario == "crisis":
            crisis = self._loadings(self.settings.crisis_correlation)
            loadings = np.where(self.regimes, crisis[:, :, None], loadings[:, :, None])
        return draw_shocks(self.rng("shocks"), loadings, self.settings.tail, self.shape[1])

    @cached_property
    def levels(self) -> np.ndarray:
        """Ordinary volatility of each asset (N, 1)."""
        spread = self.rng("levels").uniform(np.log(0.85), np.log(1.18), (self.shape[0], 1))
        return self.settings.bar_volatility * np.exp(spread)

    @cached_property
    def log_volatility(self) -> np.ndarray:
        """Log of the volatility (N, T) relative to its level."""
        kind = self.settings.volatility
        if kind == "constant":
            logs = np.zeros(self.shape)
        elif kind == "garch":
            logs = garch_log_volatility(self.shocks)
        else:
            rng = self.rng("volatility")
            logs = draw_log_volatility(rng, *self.shape, shared=self.shared_volatility)
            logs = logs + self.news.log_volatility
        return logs + np.log(self.settings.regime_volatility) * self.regimes

    @cached_property
    def volatility(self) -> np.ndarray:
        return self.levels * np.exp(self.log_volatility)

    @cached_property
    def volume(self) -> np.ndarray:
        return draw_volume(self.rng("volume"), self.log_volatility, self.shocks, self.news)

    @cached_property
    def relative_volume(self) -> np.ndarray:
        """Relative volume (N, T), NaN in the first bar."""
        return relative_volume(pd.DataFrame(self.volume.T)).to_numpy().T

    def finish(self, returns, oracle, leaders, edges) -> Planted:
        """Return the market with bars drawn around its returns."""
        frames = bars_from_returns(
            self.rng("bridges"),
            returns,
            self.volatility,
            self.volume,
            self.settings.opens(),
            self.settings.symbols,
        )
        return Planted(frames, returns, oracle, leaders, self.volatility, self.regimes, edges)

    def plant(self, edges: Edges, when: firing.Firing) -> Planted:
        """Return the market in which ``edges`` fire as ``when`` says, calibrated."""
        noise = self.volatility * self.shocks
        dynamics = Dynamics(edges, when).calibrated(noise, self.settings.predictability)
        returns, oracle = dynamics.run(noise, noise)
        return self.finish(returns, oracle, dynamics.leaders(returns), dynamics.edges)

    def plant_nothing(self) -> Planted:
        """Return the market in which returns are noise."""
        returns = self.volatility * self.shocks
        return self.finish(returns, np.zeros(self.shape), np.full(self.shape, -1), no_edges())

    def draw_graph(self) -> Edges:
        """Return a sparse graph with the number of leaders and the lags asked for."""
        n_leaders = self.settings.leaders_per_follower
        return draw_sparse(self.rng("graph"), self.shape[0], n_leaders, self.lags)

    def _loadings(self, correlation: float) -> np.ndarray:
        """Return loadings that give returns this correlation, volatilities of their own aside.

        Where two volatilities differ from bar to bar, returns correlate less than shocks do.
        """
        if self.settings.volatility == "stochastic":
            sizes = np.exp(self.log_volatility)
            alike = sizes @ sizes.T
            alike /= np.sqrt(np.outer(alike.diagonal(), alike.diagonal()))
            correlation /= alike[~np.eye(len(alike), dtype=bool)].mean()
        return factor_loadings(self.settings.groups, correlation)

    def draw_states(self) -> None:
        """Draw the path of the two states, before anything that depends on it."""
        durations = self.settings.regime_durations
        self.regimes = draw_regimes(self.rng("states"), self.shape[1], durations)


def _static(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    return shop.plant(shop.draw_graph(), firing.always)


def _null(settings: MarketOptions) -> Planted:
    return Workshop(settings).plant_nothing()


def _factor(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    shop.shared_volatility = 1.5
    return shop.plant_nothing()


def _asynchronous(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    late = draw_shocks(shop.rng("late"), shop.loadings, settings.tail, settings.n_steps)
    is_stale = np.arange(settings.n_assets) % 2 == 1
    moves = shop.volatility * shop.shocks, shop.volatility * late
    quotes = calibrated_quotes(*moves, is_stale, settings.predictability)
    return shop.finish(quotes.returns, quotes.unseen, np.full(shop.shape, -1), no_edges())


def _switching(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    known = ~np.isnan(shop.relative_volume).any(axis=0)
    leader = np.where(known, np.nan_to_num(shop.relative_volume).argmax(axis=0), -1)
    return shop.plant(all_pairs(settings.n_assets), firing.when_chosen(leader))


def _gated(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    volume = shop.relative_volume
    threshold = np.nanquantile(volume, 1 - settings.gate_share, axis=1, keepdims=True)
    return shop.plant(shop.draw_graph(), firing.when_open(volume >= threshold))


def _regimes(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    shop.draw_states()
    rng = shop.rng("graph")
    first = draw_sparse(rng, settings.n_assets, settings.leaders_per_follower, shop.lags)
    second = draw_sparse(rng, settings.n_assets, settings.leaders_per_follower, shop.lags)
    if settings.change == "sign":
        second = replace(first, weight=-first.weight)
    return shop.plant(first + second.in_regime(1), firing.in_state(shop.regimes))


def _threshold(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    return shop.plant(shop.draw_graph(), firing.when_large(settings.threshold * shop.levels[:, 0]))


def _hub(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    return shop.plant(draw_hub(shop.rng("graph"), settings.n_assets, shop.lags), firing.always)


def _crisis(settings: MarketOptions) -> Planted:
    shop = Workshop(settings)
    shop.draw_states()
    edges = shop.draw_graph()
    return shop.plant(edges + edges.in_regime(1), firing.in_state(shop.regimes))


SCENARIOS: dict[str, Callable[[MarketOptions], Planted]] = {
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
