"""Who leads whom: the planted graph, by scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Edges:
    """A directed graph, an edge an entry of each array of shape (E,).

    ``lag`` counts bars from the leader's bar to the follower's; ``weight`` is relative among the
    edges of a follower until the dynamics are calibrated; ``regime`` is the state in which the
    edge holds.
    """

    leader: np.ndarray
    follower: np.ndarray
    lag: np.ndarray
    weight: np.ndarray
    regime: np.ndarray

    def __len__(self) -> int:
        return len(self.leader)

    def __add__(self, other: Edges) -> Edges:
        return Edges(
            *(np.concatenate([a, b]) for a, b in zip(self.arrays(), other.arrays(), strict=True))
        )

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return leader, follower, lag, weight, regime."""
        return self.leader, self.follower, self.lag, self.weight, self.regime

    def in_regime(self, regime: int) -> Edges:
        """Return the same edges, held in another state."""
        return replace(self, regime=np.full(len(self), regime))


def no_edges() -> Edges:
    """Return the graph in which nobody leads."""
    none = np.empty(0, int)
    return Edges(none, none, none, np.empty(0), none)


def draw_sparse(rng: np.random.Generator, n_assets: int, n_leaders: int, lags: np.ndarray) -> Edges:
    """Return a graph where each asset follows ``n_leaders`` others; lags and signs are drawn."""
    leader = np.concatenate(
        [
            rng.choice(np.delete(np.arange(n_assets), i), n_leaders, replace=False)
            for i in range(n_assets)
        ]
    )
    return _with_lags_and_signs(rng, leader, np.repeat(np.arange(n_assets), n_leaders), lags)


def draw_hub(rng: np.random.Generator, n_assets: int, lags: np.ndarray) -> Edges:
    """Return a graph in which one asset leads all others, each of which follows a second one less.

    The hub itself follows nobody.
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
    leader, follower = np.nonzero(~np.eye(n_assets, dtype=bool))
    ones = np.ones(leader.size)
    return Edges(leader, follower, ones.astype(int), ones, np.zeros(leader.size, int))


def _with_lags_and_signs(
    rng: np.random.Generator, leader: np.ndarray, follower: np.ndarray, lags: np.ndarray
) -> Edges:
    size = leader.size
    weight = rng.uniform(0.6, 1.0, size) * rng.choice([-1.0, 1.0], size)
    return Edges(leader, follower, rng.choice(lags, size), weight, np.zeros(size, int))
