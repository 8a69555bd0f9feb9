"""Lead-lag graphs, and returns simulated from one with an exactly known conditional mean.

``returns[t + 1] = drive(returns up to t) + shock[t + 1]``: the drive is the oracle.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.signal import lfilter

from crossattn.errors import InvalidInputError

# On shorter paths the R² is right in expectation only, not calibrated on the path itself.
SHORTEST_CALIBRATED = 100
_MAX_ROUNDS = 500
_MAX_CALIBRATIONS = 60


@dataclass(frozen=True)
class Edges:
    """A directed lead-lag graph: one entry of each array (E,) is one edge.

    ``lag`` counts bars from the leader's to the follower's; ``weight`` is relative among a
    follower's edges until calibrated; ``regime`` is the state in which the edge holds.
    """

    leader: np.ndarray
    follower: np.ndarray
    lag: np.ndarray
    weight: np.ndarray
    regime: np.ndarray

    def __len__(self) -> int:
        return len(self.leader)

    def __add__(self, other: "Edges") -> "Edges":
        return Edges(*map(np.concatenate, zip(self.arrays(), other.arrays(), strict=True)))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return leader, follower, lag, weight, regime."""
        return self.leader, self.follower, self.lag, self.weight, self.regime

    def in_regime(self, regime: int) -> Self:
        """Return the same edges, active in another state."""
        return replace(self, regime=np.full(len(self), regime))


Firing = Callable[[Edges, np.ndarray], np.ndarray]
Signal = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Dynamics:
    """A lead-lag graph and the rule by which its edges fire."""

    edges: Edges
    #: of edges and returns (N, T): True (E, T) where the edge acts on the bar after t, or the
    #: factor on its weight there, from what is known at the close of bar t
    firing: Firing
    #: of returns (N, T): what of each leader moves its followers, (N, T), from what is known then
    signal: Signal = np.asarray

    def drive(self, returns: np.ndarray) -> np.ndarray:
        """Return the oracle (N, T): at t, the conditional mean of the return of bar t + 1."""
        firing = self.firing(self.edges, returns)
        signal = self.signal(returns)
        oracle = np.zeros_like(returns)
        leader, follower, lag, weight, _ = self.edges.arrays()
        for e in range(len(self.edges)):
            oracle[follower[e]] += weight[e] * firing[e] * delayed(signal[leader[e]], lag[e] - 1)
        return oracle

    def run(self, shocks: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (returns, oracle), both (N, T), for these shocks.

        A fixed point by substitution: each round makes at least one more bar exact.
        """
        returns = start
        for _ in range(_MAX_ROUNDS):
            oracle = self.drive(returns)
            new = shocks.copy()
            new[:, 1:] += oracle[:, :-1]
            change = np.abs(new - returns).max()
            returns = new
            if not np.isfinite(change) or change > 1e6:
                break
            if change <= 1e-15 * np.abs(shocks).max():
                return returns, oracle
        raise InvalidInputError("predictability is too large for this market: returns explode")

    def calibrated(self, shocks: np.ndarray, predictability: float) -> Self:
        """Return the same dynamics with weights such that the oracle's R² is ``predictability``.

        R² is the variance of the oracle over that of the returns it forecasts, on this very path.
        A market with followers and others gives the followers enough to reach it together.
        """
        dynamics = self._first_guess(shocks, predictability)
        n_assets, n_steps = shocks.shape
        if n_steps < SHORTEST_CALIBRATED:
            return dynamics
        followers = np.unique(self.edges.follower)
        returns, oracle = shocks, dynamics.drive(shocks)
        for _ in range(_MAX_CALIBRATIONS):
            led = led_share(returns, oracle, followers)
            if not led.all():
                raise InvalidInputError(
                    f"n_steps is too small: no edge fires in {n_steps} bars for some asset"
                )
            if returns is not shocks and np.abs(led / predictability - 1).max() < 1e-4:
                return dynamics
            scale = np.ones(n_assets)
            scale[followers] = np.sqrt(predictability / led)
            dynamics = dynamics.scaled(scale)
            returns, oracle = dynamics.run(shocks, returns)  # the last path is a good start
        raise InvalidInputError(f"predictability {predictability} is too large for this market")

    def scaled(self, scale: np.ndarray) -> Self:
        """Return the same dynamics, each follower's weights times its ``scale`` (N,)."""
        weight = self.edges.weight * scale[self.edges.follower]
        return replace(self, edges=replace(self.edges, weight=weight))

    def leaders(self, returns: np.ndarray) -> np.ndarray:
        """Return (N, T): the leader with the largest coefficient among firing edges, else -1."""
        firing = self.firing(self.edges, returns)
        leaders = np.full(returns.shape, -1)
        largest = np.zeros_like(returns)
        for e, follower in enumerate(self.edges.follower):
            coefficient = np.abs(self.edges.weight[e] * firing[e])
            leaders[follower, coefficient > largest[follower]] = self.edges.leader[e]
            largest[follower] = np.maximum(largest[follower], coefficient)
        return leaders

    def _first_guess(self, shocks: np.ndarray, predictability: float) -> Self:
        """Return the weights that are right for equally volatile, uncorrelated assets."""
        active = (self.firing(self.edges, shocks).astype(float) ** 2).mean(axis=1)
        squares = np.zeros(len(shocks))
        np.add.at(squares, self.edges.follower, active * self.edges.weight**2)
        scaled = self.scaled(np.sqrt(predictability / np.where(squares > 0, squares, 1.0)))
        spread = self.signal(shocks).std(axis=1)
        per_return = shocks.std(axis=1) / np.where(spread > 0, spread, np.inf)
        weight = scaled.edges.weight * per_return[self.edges.leader]
        return replace(scaled, edges=replace(scaled.edges, weight=weight))


def led_share(returns: np.ndarray, oracle: np.ndarray, followers: np.ndarray) -> np.ndarray:
    """Return each follower's R² as the market's R² that it would make if all were like it."""
    total = returns[:, 1:].var(axis=1)
    # followers carry the whole market's R²: theirs is larger where some assets follow none
    share = total[followers].sum() / total.sum()
    return share * oracle[followers, :-1].var(axis=1) / total[followers]


def correct_errors(
    edges: Edges, noise: np.ndarray, predictability: float
) -> tuple[np.ndarray, np.ndarray, Edges]:
    """Return (returns, oracle, edges) of followers that close part of their gap to a leader.

    ``returns[i, t + 1] = weight * (price of the leader - price of i at t) + noise[i, t + 1]`` in
    log prices counted from the first open. Leaders follow none, so each gap is an autoregression.
    """
    leader, follower = edges.leader, edges.follower
    change = noise[leader] - noise[follower]
    # for stationary gaps of independent, equally volatile assets R² is 2 weight / (2 - weight)
    weight = np.full(len(edges), 2 * predictability / (2 + predictability))
    for _ in range(_MAX_CALIBRATIONS):
        gaps = [lfilter([1.0], [1.0, w - 1], path) for w, path in zip(weight, change, strict=True)]
        oracle = np.zeros_like(noise)
        oracle[follower] = weight[:, None] * gaps
        returns = noise.copy()
        returns[:, 1:] += oracle[:, :-1]
        edges = replace(edges, weight=weight)
        if noise.shape[1] < SHORTEST_CALIBRATED:
            return returns, oracle, edges
        led = led_share(returns, oracle, follower)
        if np.abs(led / predictability - 1).max() < 1e-4:
            return returns, oracle, edges
        # the R² grows like the weight, or like its square on a path of fewer bars than 1 / weight
        weight = np.minimum(weight * (predictability / led) ** 0.7, 1.9)
    raise InvalidInputError(f"predictability {predictability} is too large for this market")


def edges_of(leader, follower, lag=1, weight=1.0) -> Edges:
    """Return edges of the first state from arrays (E,), or numbers that all edges share."""
    arrays = np.broadcast_arrays(leader, follower, lag, np.asarray(weight, float), 0)
    return Edges(*map(np.copy, arrays))


def no_edges() -> Edges:
    """Return the graph without edges."""
    return edges_of(np.empty(0, int), np.empty(0, int))


def draw_sparse(rng: np.random.Generator, n_assets: int, n_leaders: int, lags: np.ndarray) -> Edges:
    """Return a graph where each asset follows ``n_leaders`` others; lags and signs are drawn."""
    assets = np.arange(n_assets)
    leaders = [rng.choice(np.delete(assets, i), n_leaders, replace=False) for i in assets]
    follower = np.repeat(assets, n_leaders)
    return _with_lags_and_signs(rng, np.concatenate(leaders), follower, lags)


def draw_hub(rng: np.random.Generator, n_assets: int, lags: np.ndarray) -> Edges:
    """Return a graph in which one asset leads all others, each of which follows a second one less.

    The hub itself follows no asset.
    """
    hub = int(rng.integers(n_assets))
    followers = np.delete(np.arange(n_assets), hub)
    first = _with_lags_and_signs(rng, np.full(n_assets - 1, hub), followers, lags)
    if n_assets == 2:
        return first
    second = np.array([rng.choice(followers[followers != i]) for i in followers])
    minor = _with_lags_and_signs(rng, second, followers, lags)
    return first + replace(minor, weight=0.5 * minor.weight)


def all_pairs(n_assets: int) -> Edges:
    """Return the graph in which any asset may lead any other by one bar, all equally."""
    return edges_of(*np.nonzero(~np.eye(n_assets, dtype=bool)))


def draw_anchors(rng: np.random.Generator, n_assets: int) -> Edges:
    """Return a graph in which a quarter of the assets lead and each other one follows one."""
    anchors = rng.choice(n_assets, max(1, n_assets // 4), replace=False)
    follower = np.setdiff1d(np.arange(n_assets), anchors)
    return edges_of(rng.choice(anchors, follower.size), follower)


def draw_partners(rng: np.random.Generator, edges: Edges, n_assets: int) -> np.ndarray:
    """Return for each edge a third asset (E,); of two assets, the follower itself."""
    partners = []
    for pair in zip(edges.leader, edges.follower, strict=True):
        others = np.setdiff1d(np.arange(n_assets), pair)
        partners.append(rng.choice(others) if others.size else pair[1])
    return np.array(partners)


def sector_ring(rng: np.random.Generator, sector: np.ndarray, lags: np.ndarray) -> Edges:
    """Return a graph in which all members of a sector lead each member of the next, alike.

    ``sector`` is (N,); lag and sign are drawn for each sector; the last one leads the first.
    """
    n_sectors = sector.max() + 1
    lag, sign = rng.choice(lags, n_sectors), rng.choice([-1.0, 1.0], n_sectors)
    leader, follower = np.nonzero((sector[:, None] + 1) % n_sectors == sector)
    led = sector[follower]
    return edges_of(leader, follower, lag[led], sign[led])


def _with_lags_and_signs(
    rng: np.random.Generator, leader: np.ndarray, follower: np.ndarray, lags: np.ndarray
) -> Edges:
    size = leader.size
    weight = rng.uniform(0.6, 1.0, size) * rng.choice([-1.0, 1.0], size)
    return edges_of(leader, follower, rng.choice(lags, size), weight)


def delayed(path: np.ndarray, bars: int) -> np.ndarray:
    """Return ``path`` as it was ``bars`` earlier, zero (or False) before its start."""
    if bars == 0:
        return path
    late = np.zeros_like(path)
    late[bars:] = path[:-bars]
    return late


def _leading(paths: np.ndarray, asset: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """Return (E, T): of each ``asset`` (E,), what is ``lag`` (E,) bars old in the bar after t."""
    return np.stack([delayed(paths[j], k - 1) for j, k in zip(asset, lag, strict=True)])


def always(edges: Edges, returns: np.ndarray) -> np.ndarray:
    """Every edge fires at every bar."""
    return np.ones((len(edges), returns.shape[1]), bool)


def in_state(regimes: np.ndarray) -> Firing:
    """An edge fires while its regime holds; ``regimes`` is (T,)."""
    return lambda edges, returns: edges.regime[:, None] == regimes


def times(factor: np.ndarray) -> Firing:
    """An edge acts with the strength of its ``factor`` (E, T) at the bar of the forecast."""
    return lambda edges, returns: factor


def times_partner(partner: np.ndarray, lag: np.ndarray, levels: np.ndarray) -> Firing:
    """An edge acts in proportion to what its ``partner`` (E,) did ``lag`` (E,) bars before.

    A move counts in units of the partner's ordinary volatility, ``levels`` (N,), saturating (tanh).
    """
    return lambda edges, returns: _leading(np.tanh(returns / levels[:, None]), partner, lag)


def when_moved_most(levels: np.ndarray, window: int) -> Firing:
    """An edge fires while its leader's price moved furthest in the last ``window`` bars.

    A move counts in units of the asset's ordinary volatility, ``levels`` (N,).
    """

    def firing(edges: Edges, returns: np.ndarray) -> np.ndarray:
        price = np.cumsum(returns, axis=1)
        before = np.stack([delayed(path, window) for path in price])
        leader = (np.abs(price - before) / levels[:, None]).argmax(axis=0)
        return when_chosen(leader)(edges, returns)

    return firing


def when_open(gate: np.ndarray) -> Firing:
    """An edge fires if the leader's gate (N, T) was open at the bar that leads."""
    return lambda edges, returns: _leading(gate, edges.leader, edges.lag)


def when_chosen(leader: np.ndarray) -> Firing:
    """An edge fires while its leader is the one of the moment; ``leader`` is (T,), -1 for none."""
    return lambda edges, returns: edges.leader[:, None] == leader


def when_large(threshold: np.ndarray) -> Firing:
    """An edge fires if the bar that leads moved further than its leader's ``threshold`` (N,)."""
    return lambda edges, returns: when_open(np.abs(returns) > threshold[:, None])(edges, returns)
