"""Sparse linear forecast of every follower from (source, lag, channel) tokens."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from crossattn.tokens.channels import TokenIndex


@dataclass(frozen=True)
class LinearMap:
    """A sparse linear forecast of every follower from tokens."""

    coefficient: csr_array  #: (n_assets, n_tokens)
    #: (n_assets,): minus what the forecast would be at the training means of its tokens
    offset: np.ndarray

    def forecast(self, index: TokenIndex, rows: np.ndarray) -> np.ndarray:
        """Return forecasts ``(n, n_assets)`` made at some rows."""
        out = np.tile(self.offset, (len(rows), 1))
        for i in range(len(self.offset)):
            tokens, beta = self.row(i)
            out[:, i] += by_row(index.values(rows, tokens), beta)
        return out

    def ahead(self, index: TokenIndex, horizon: int, centre: np.ndarray) -> "LinearMap":
        """Return the forecast of the next ``horizon`` bars together, from a forecast of the next.

        What leads by l bars still has its newest l values to be answered, so a token then counts
        as every lag from its own on; a distance from the mean fades by its decay each bar.
        """
        if horizon == 1:
            return self
        out = self.coefficient.toarray()
        for channels in index.ladders():
            blocks = [index.block(k) for k in channels]
            parts = [
                out[:, block].reshape(len(out), -1, len(index.channels[k].lags))
                for k, block in zip(channels, blocks, strict=True)
            ]
            ladder = running_sum(np.concatenate(parts, 2)[..., ::-1], horizon)[..., ::-1]
            if decay := index.channels[channels[0]].decay:
                ladder = ladder * (1.0 - decay**horizon) / (1.0 - decay)
            cuts = np.cumsum([part.shape[2] for part in parts])[:-1]
            for block, part in zip(blocks, np.split(ladder, cuts, 2), strict=True):
                out[:, block] = part.reshape(len(out), -1)
        return LinearMap(csr_array(out), -(out @ centre))

    def row(self, follower: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens that a follower's forecast uses, and their coefficients."""
        matrix = self.coefficient
        part = slice(matrix.indptr[follower], matrix.indptr[follower + 1])
        return matrix.indices[part], matrix.data[part]


def by_row(x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return ``x @ beta``, each row to the last bit whatever other rows there are."""
    return np.einsum("nk,k->n", np.ascontiguousarray(x, float), beta)


def running_sum(values: np.ndarray, length: int) -> np.ndarray:
    """Add to each element of the last axis the ``length - 1`` before it.

    Examples
    --------
    >>> running_sum(np.array([1.0, 2.0, 3.0, 4.0]), 3)
    array([1., 3., 6., 9.])
    """
    if length == 1:
        return values
    total = np.cumsum(values, -1)
    total[..., length:] -= total[..., :-length].copy()
    return total
