"""From shocks and a graph to returns whose conditional mean is known exactly.

``returns[t + 1] = drive(returns up to t) + shock[t + 1]``: the drive is the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crossattn.errors import InvalidInputError
from crossattn.simulate.graph import Edges
from crossattn.simulate.options import SHORTEST_CALIBRATED

_MAX_ROUNDS = 500
_MAX_CALIBRATIONS = 60

Firing = Callable[[Edges, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Dynamics:
    """A graph, and when its edges fire.

    Parameters
    ----------
    edges : Edges
        With E edges.
    firing : callable (edges, returns (N, T)) -> bool array of shape (E, T)
        True where the edge acts on the bar after t, from what is known at the close of bar t.
    """

    edges: Edges
    firing: Firing

    def drive(self, returns: np.ndarray) -> np.ndarray:
        """Return the oracle (N, T): at t, the conditional mean of the return of bar t + 1."""
        firing = self.firing(self.edges, returns)
        oracle = np.zeros_like(returns)
        leader, follower, lag, weight, _ = self.edges.arrays()
        for e in range(len(self.edges)):
            oracle[follower[e]] += weight[e] * firing[e] * delayed(returns[leader[e]], lag[e] - 1)
        return oracle

    def run(self, shocks: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (returns, oracle), both (N, T), for these shocks.

        The drive looks strictly back, so substituting returns into it again and again settles the
        path from its first bar on; small coefficients settle all of it within a few rounds.
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
        raise InvalidInputError(
            "predictability is too large for this market: returns feed on themselves without bound"
        )

    def calibrated(self, shocks: np.ndarray, predictability: float) -> Dynamics:
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
            total = returns[:, 1:].var(axis=1)
            share = total[followers].sum() / total.sum()
            led = share * oracle[followers, :-1].var(axis=1) / total[followers]
            if not led.all():
                raise InvalidInputError(
                    f"n_steps is too small: no edge fires in {n_steps} bars for some asset"
                )
            if returns is not shocks and np.abs(led / predictability - 1).max() < 1e-4:
                return dynamics
            scale = np.ones(n_assets)
            scale[followers] = np.sqrt(predictability / led)
            dynamics = dynamics.scaled(scale)
            returns, oracle = dynamics.run(shocks, returns)
        raise InvalidInputError(
            f"predictability {predictability} cannot be reached here: choose a smaller one"
        )

    def scaled(self, scale: np.ndarray) -> Dynamics:
        """Return the same dynamics, each follower's weights times its ``scale`` (N,)."""
        weight = self.edges.weight * scale[self.edges.follower]
        return replace(self, edges=replace(self.edges, weight=weight))

    def leaders(self, returns: np.ndarray) -> np.ndarray:
        """Return (N, T): the leader with the largest coefficient among firing edges, else -1."""
        firing = self.firing(self.edges, returns)
        leaders = np.full(returns.shape, -1)
        for e in np.argsort(np.abs(self.edges.weight), kind="stable"):
            leaders[self.edges.follower[e], firing[e]] = self.edges.leader[e]
        return leaders

    def _first_guess(self, shocks: np.ndarray, predictability: float) -> Dynamics:
        """Return weights that would do if all assets were equally volatile and uncorrelated."""
        active = self.firing(self.edges, shocks).mean(axis=1)
        squares = np.zeros(len(shocks))
        np.add.at(squares, self.edges.follower, active * self.edges.weight**2)
        return self.scaled(np.sqrt(predictability / np.where(squares > 0, squares, 1.0)))


def delayed(path: np.ndarray, bars: int) -> np.ndarray:
    """Return ``path`` as it was ``bars`` earlier, zero (or False) before its start."""
    if bars == 0:
        return path
    late = np.zeros_like(path)
    late[bars:] = path[:-bars]
    return late


def always(edges: Edges, returns: np.ndarray) -> np.ndarray:
    """Every edge fires at every bar."""
    return np.ones((len(edges), returns.shape[1]), bool)


def in_state(regimes: np.ndarray) -> Firing:
    """An edge fires while its regime holds; ``regimes`` is (T,)."""
    return lambda edges, returns: edges.regime[:, None] == regimes


def when_open(gate: np.ndarray) -> Firing:
    """An edge fires if the leader's gate (N, T) was open at the bar that leads."""

    def firing(edges: Edges, returns: np.ndarray) -> np.ndarray:
        pairs = zip(edges.leader, edges.lag, strict=True)
        return np.stack([delayed(gate[j], k - 1) for j, k in pairs])

    return firing


def when_chosen(leader: np.ndarray) -> Firing:
    """An edge fires while its leader is the one of the moment; ``leader`` is (T,), -1 for none."""
    return lambda edges, returns: edges.leader[:, None] == leader


def when_large(threshold: np.ndarray) -> Firing:
    """An edge fires if the bar that leads moved further than its leader's ``threshold`` (N,)."""

    def firing(edges: Edges, returns: np.ndarray) -> np.ndarray:
        large = np.abs(returns) > threshold[:, None]
        return when_open(large)(edges, returns)

    return firing
