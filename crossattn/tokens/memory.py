"""Recursions over rows whose state can be kept, so that a forecast can go on from it.

Started with the state that an earlier row left, each gives what it would have given from the first
row on. Most of them are exponentially forgotten sums.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

BLOCK = 64  # rows summed by one product with a triangular matrix


@dataclass
class Memory:
    """The state of every recursion, by name."""

    #: each state before the first row; none: there were no earlier rows
    before: dict[str, np.ndarray] = field(default_factory=dict)
    keep: int | None = None  #: row after which each state is recorded
    #: rows that lagged values reach back: by as many rows later the states of what reads them are
    #: recorded and go on, as the first rows of a tail lack their lags
    lags: int = 0
    after: dict[str, np.ndarray] = field(default_factory=dict)  #: what was recorded

    def decayed_sum(self, name: str, values: np.ndarray, half_life: float) -> np.ndarray:
        """Return sums along the rows in which a value counts half after ``half_life`` rows."""
        total = decayed_sum(values, 0.5 ** (1.0 / half_life), self.before.get(name))
        if self.keep is not None:
            self.after[name] = total[self.keep].copy()
        return total

    def run(self, name: str, step: Callable, start: np.ndarray, *rows: np.ndarray) -> np.ndarray:
        """Return what ``step(state, *rows) -> (results, state)`` gives for rows of lagged values.

        Of a tail, the rows that lack their lags are left out, and give zero.
        """
        skipped = self.lags if self.before else 0
        rows = [x[skipped:] for x in rows]
        cut = len(rows[0]) if self.keep is None else self.keep + 1 + self.lags - skipped
        out, state = step(self.before.get(name, start), *(x[:cut] for x in rows))
        if self.keep is not None:
            self.after[name] = np.asarray(state)
        if cut < len(rows[0]):
            out = np.concatenate([out, step(state, *(x[cut:] for x in rows))[0]])
        return np.concatenate([np.zeros((skipped, *out.shape[1:])), out])

    def mean(
        self, name: str, values: np.ndarray, known: np.ndarray, half_life: float
    ) -> np.ndarray:
        """Return exponentially weighted means along the rows, over known values; 0 before any."""
        known = np.broadcast_to(known, values.shape)
        total = self.decayed_sum(f"{name}: sum", np.where(known, values, 0.0), half_life)
        mass = self.decayed_sum(f"{name}: mass", known.astype(float), half_life)
        return np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), 0.0)


def decayed_sum(values: np.ndarray, decay: float, before: np.ndarray | None = None) -> np.ndarray:
    """Return ``s[t] = decay * s[t - 1] + values[t]`` along the rows, from ``s[-1] = before``."""
    n_rows, cells = len(values), values.shape[1:]
    n_blocks = -(-n_rows // BLOCK)
    padded = np.zeros((n_blocks * BLOCK, int(np.prod(cells))))
    padded[:n_rows] = values.reshape(n_rows, -1)
    by_block = padded.reshape(n_blocks, BLOCK, -1).swapaxes(0, 1)  # (BLOCK, n_blocks, cells)
    age = np.arange(BLOCK)[:, None] - np.arange(BLOCK)
    within = np.where(age >= 0, decay ** np.maximum(age, 0), 0.0)
    columns = by_block.reshape(BLOCK, -1)
    # to full tiles of the product, so that later rows change no bit of earlier ones
    tiles = np.pad(columns, ((0, 0), (0, -columns.shape[1] % BLOCK)))
    out = (within @ tiles)[:, : columns.shape[1]].reshape(by_block.shape)
    states = np.empty(by_block.shape[1:])  # before each block
    state = np.zeros(states.shape[1]) if before is None else np.asarray(before, float).ravel()
    for block in range(n_blocks):
        states[block] = state
        state = decay**BLOCK * state + out[-1, block]
    out += decay ** np.arange(1.0, BLOCK + 1)[:, None, None] * states
    return out.swapaxes(0, 1).reshape(-1, *cells)[:n_rows]
