"""Options of a simulated market, and the builder that draws what all scenarios share."""

from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from crossattn._validation import check_array, check_choice, check_float, check_int
from crossattn.data.frame import Frames
from crossattn.errors import InvalidInputError
from crossattn.features.indicators import relative_volume
from crossattn.simulate._quotes import bars_from_returns, draw_news, draw_volume
from crossattn.simulate._shocks import (
    Groups,
    draw_log_volatility,
    draw_regimes,
    draw_shocks,
    factor_loadings,
    garch_log_volatility,
    spillover_log_volatility,
)
from crossattn.simulate.dynamics import Dynamics, Edges, Firing, Signal, draw_sparse, no_edges

MAX_PREDICTABILITY = 0.4
MAX_BARS = 50_000_000
MAX_LAG = 10_000

# Spawned from one seed in this order: a new stream goes to the end, or every market changes.
_STREAMS = "graph levels volatility shocks late news volume bridges states activity"
_SCENARIO_DEFAULTS = {
    "factor": {"correlation": 0.6},
    "asynchronous": {"correlation": 0.6},
    "crisis": {"regime_durations": (1500, 300), "regime_volatility": 2.5},
    "delays": {"min_lag": 9, "max_lag": 24},
}


@dataclass(frozen=True)
class MarketOptions:
    """Validated options of a market; see :func:`crossattn.simulate_market` for each field."""

    scenario: str
    n_assets: int
    n_steps: int
    predictability: float
    seed: int
    correlation: float = 0.25
    min_lag: int = 1
    max_lag: int = 6
    leaders_per_follower: int = 2
    tail: float = 5.0
    volatility: str = "stochastic"
    bar_volatility: float = 0.006
    n_sectors: int = 0
    bar: str = "1h"
    start: str = "2022-01-01"
    change: str = "graph"
    regime_durations: tuple[int, int] = (400, 400)
    regime_volatility: float = 1.8
    crisis_correlation: float = 0.7
    threshold: float = 1.5
    gate_share: float = 0.2
    mover_window: int = 12
    active_hours: int = 8
    drift_half_life: float = 1000
    spillover: float = 0.15

    def __post_init__(self) -> None:
        least = {"n_assets": 2, "n_steps": 2, "seed": 0, "n_sectors": 0}
        others = "min_lag", "max_lag", "leaders_per_follower", "mover_window", "active_hours"
        for name in (*least, *others):
            value = check_int(name, getattr(self, name), at_least=least.get(name, 1))
            object.__setattr__(self, name, value)
        check_float("predictability", self.predictability, above=0, at_most=MAX_PREDICTABILITY)
        check_float("correlation", self.correlation, at_least=0, at_most=0.9)
        check_float("crisis_correlation", self.crisis_correlation, at_least=0, at_most=0.9)
        check_float("tail", self.tail, above=2)
        check_float("bar_volatility", self.bar_volatility, above=0, at_most=0.1)
        check_float("regime_volatility", self.regime_volatility, above=0, at_most=10)
        check_float("threshold", self.threshold, at_least=0, at_most=10)
        check_float("gate_share", self.gate_share, above=0, at_most=1)
        check_float("drift_half_life", self.drift_half_life, above=0)
        check_float("max_lag", self.max_lag, at_most=MAX_LAG)
        check_float("active_hours", self.active_hours, at_most=24)
        check_float("n_sectors", self.n_sectors, at_most=self.n_assets)
        check_float("spillover", self.spillover, at_least=0, at_most=0.2)
        check_choice("volatility", self.volatility, ("stochastic", "garch", "constant"))
        check_choice("change", self.change, ("graph", "sign"))
        check_array("regime_durations", self.regime_durations, (2,))
        for mean in self.regime_durations:
            check_float("regime_durations", mean, at_least=1)
        n_assets, n_leaders = self.n_assets, self.leaders_per_follower
        broken = {
            f"n_assets times n_steps must be at most {MAX_BARS:,} bars, got "
            f"{n_assets:,} x {self.n_steps:,}": n_assets * self.n_steps > MAX_BARS,
            f"min_lag must be at most max_lag, got {self.min_lag} > {self.max_lag}": (
                self.min_lag > self.max_lag
            ),
            "n_sectors must be at least 2 in 'sectors', got 1": (
                self.scenario == "sectors" and self.n_sectors == 1
            ),
            f"leaders_per_follower must be below n_assets, got {n_leaders} for {n_assets} assets": (
                n_leaders >= n_assets
            ),
        }
        for rule in (rule for rule, is_broken in broken.items() if is_broken):
            raise InvalidInputError(rule)
        self.opens()

    @classmethod
    def of(cls, scenario: str, n_assets: int, /, *others, **options) -> Self:
        """Fill in the scenario's own defaults and reject unknown options."""
        known = [f.name for f in fields(cls) if f.default is not MISSING]
        if unknown := sorted(set(options) - set(known)):
            raise InvalidInputError(
                f"unknown option {unknown[0]!r}; a simulated market takes {', '.join(known)}"
            )
        defaults = dict(_SCENARIO_DEFAULTS.get(scenario, {}))
        if isinstance(n_assets, int | np.integer) and n_assets == 2:
            defaults["leaders_per_follower"] = 1
        return cls(scenario, n_assets, *others, **{**defaults, **options})

    @cached_property
    def groups(self) -> Groups:
        """Sector and market of each asset; a third as many sectors as assets by default.

        Neighbouring assets share a sector; sectors alternate between two markets.
        """
        least = 2 if self.scenario == "sectors" else 1
        n_sectors = self.n_sectors or max(least, self.n_assets // 3)
        sector = np.arange(self.n_assets) * n_sectors // self.n_assets
        return Groups(sector, sector % min(2, n_sectors))

    @property
    def symbols(self) -> list[str]:
        """A00, A01, ..."""
        width = max(2, len(str(self.n_assets - 1)))
        return [f"A{i:0{width}d}" for i in range(self.n_assets)]

    def opens(self) -> pd.DatetimeIndex:
        """Return the open times of the bars (T,), in UTC."""
        try:
            step = pd.Timedelta(self.bar)
            start = pd.Timestamp(self.start)
            if not step > pd.Timedelta(0) or start is pd.NaT:
                raise ValueError("bars need a length above zero and a start")
            start = start.tz_localize("UTC") if start.tz is None else start.tz_convert("UTC")
            return pd.date_range(start, periods=self.n_steps, freq=step)
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInputError(
                f"bar and start must be a duration and a date, got {self.bar!r} and "
                f"{self.start!r} for {self.n_steps} bars ({error})"
            ) from None


@dataclass(frozen=True)
class MarketPaths:
    """Bars of a scenario and the truth behind them; arrays are (N, T)."""

    frames: Frames
    returns: np.ndarray
    oracle: np.ndarray
    leaders: np.ndarray
    edges: Edges
    edge_details: dict[str, np.ndarray] = field(default_factory=dict)
    coefficients: np.ndarray | None = None


class MarketBuilder:
    """Draw shocks, volatility, volume and graph, each from a random stream of its own.

    Two scenarios of one seed then differ only in who leads, not in their noise. Everything is drawn
    on first use; a scenario sets ``shared_volatility`` or ``variance_edges``, or calls
    :meth:`draw_states`, before that.
    """

    def __init__(self, options: MarketOptions) -> None:
        self.options = options
        streams = _STREAMS.split()
        seeds = np.random.SeedSequence(options.seed).spawn(len(streams))
        self._seeds = dict(zip(streams, seeds, strict=True))
        self.regimes = np.zeros(options.n_steps, int)
        self.shared_volatility = 1.0
        self.variance_edges: Edges | None = None

    def rng(self, stream: str) -> np.random.Generator:
        """Return a fresh generator of one stream."""
        return np.random.default_rng(self._seeds[stream])

    @property
    def shape(self) -> tuple[int, int]:
        return self.options.n_assets, self.options.n_steps

    @property
    def lags(self) -> np.ndarray:
        return np.arange(self.options.min_lag, self.options.max_lag + 1)

    def draw_states(self) -> None:
        """Draw the path of the two states, before anything that depends on it."""
        durations = self.options.regime_durations
        self.regimes = draw_regimes(self.rng("states"), self.shape[1], durations)

    def draw_graph(self) -> Edges:
        """Draw a sparse graph with the number of leaders and the lags asked for."""
        n_leaders = self.options.leaders_per_follower
        return draw_sparse(self.rng("graph"), self.shape[0], n_leaders, self.lags)

    @cached_property
    def loadings(self) -> np.ndarray:
        """Factor loadings (N, K)."""
        return self._loadings(self.options.correlation)

    @cached_property
    def news(self) -> np.ndarray:
        """Sizes of news (N, T), 0 in most bars."""
        return draw_news(self.rng("news"), self.shape)

    @cached_property
    def shocks(self) -> np.ndarray:
        """Shocks of unit variance (N, T), more correlated in state 1 of a crisis."""
        loadings = self.loadings
        if self.options.scenario == "crisis":
            crisis = self._loadings(self.options.crisis_correlation)
            loadings = np.where(self.regimes, crisis[:, :, None], loadings[:, :, None])
        return draw_shocks(self.rng("shocks"), loadings, self.options.tail, self.shape[1])

    @cached_property
    def levels(self) -> np.ndarray:
        """Ordinary volatility of each asset (N, 1)."""
        spread = self.rng("levels").uniform(np.log(0.85), np.log(1.18), (self.shape[0], 1))
        return self.options.bar_volatility * np.exp(spread)

    @cached_property
    def log_volatility(self) -> np.ndarray:
        """Log of the volatility (N, T) relative to its level."""
        kind, edges = self.options.volatility, self.variance_edges
        if edges is not None:
            graph = edges.leader, edges.follower, edges.lag
            return spillover_log_volatility(self.shocks, *graph, self.options.spillover)
        if kind == "constant":
            logs = np.zeros(self.shape)
        elif kind == "garch":
            logs = garch_log_volatility(self.shocks)
        else:
            rng = self.rng("volatility")
            logs = draw_log_volatility(rng, *self.shape, shared=self.shared_volatility)
            logs = logs + 0.25 * np.minimum(self.news, 3.0)  # news moves volatility too
        return logs + np.log(self.options.regime_volatility) * self.regimes

    @cached_property
    def volatility(self) -> np.ndarray:
        """Standard deviation of each bar's noise (N, T)."""
        return self.levels * np.exp(self.log_volatility)

    @cached_property
    def volume(self) -> np.ndarray:
        """Traded volume (N, T)."""
        return draw_volume(self.rng("volume"), self.log_volatility, self.shocks, self.news)

    @cached_property
    def relative_volume(self) -> np.ndarray:
        """Relative volume (N, T), NaN in the first bar."""
        return relative_volume(pd.DataFrame(self.volume.T)).to_numpy().T

    @cached_property
    def noise(self) -> np.ndarray:
        """Returns (N, T) where no asset leads."""
        return self.volatility * self.shocks

    def build(self, edges: Edges, firing: Firing, signal: Signal = np.asarray) -> MarketPaths:
        """Return the market in which ``edges`` act where ``firing``, calibrated to the R²."""
        dynamics = Dynamics(edges, firing, signal)
        dynamics = dynamics.calibrated(self.noise, self.options.predictability)
        returns, oracle = dynamics.run(self.noise, self.noise)
        return self.assemble(returns, oracle, dynamics.leaders(returns), dynamics.edges)

    def build_null(self) -> MarketPaths:
        """Return the market in which returns are noise and no asset leads."""
        return self.assemble(self.noise, np.zeros(self.shape))

    def assemble(self, returns, oracle, leaders=None, edges=None) -> MarketPaths:
        """Return the market with bars drawn around its returns; no leaders by default."""
        frames = bars_from_returns(
            self.rng("bridges"),
            returns,
            self.volatility,
            self.volume,
            self.options.opens(),
            self.options.symbols,
        )
        leaders = np.full(self.shape, -1) if leaders is None else leaders
        edges = no_edges() if edges is None else edges
        return MarketPaths(frames, returns, oracle, leaders, edges)

    def _loadings(self, correlation: float) -> np.ndarray:
        """Return loadings that give *returns* this correlation.

        Where the volatilities of two assets differ from bar to bar, their returns correlate less
        than their shocks do, so the shocks must correlate more.
        """
        if self.options.volatility == "stochastic" and self.variance_edges is None:
            sizes = np.exp(self.log_volatility)
            alike = sizes @ sizes.T
            alike /= np.sqrt(np.outer(alike.diagonal(), alike.diagonal()))
            correlation /= alike[~np.eye(len(alike), dtype=bool)].mean()
        return factor_loadings(self.options.groups, correlation)
