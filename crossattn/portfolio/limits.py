"""Limits on what a portfolio may hold, applied to targets before they are traded.

Built in chapter: Portfolio heads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class Limits:
    """Position, gross and net limits that hold together.

    Parameters
    ----------
    max_position : float, optional
        Largest absolute weight of an asset.
    max_gross : float, optional
        Largest sum of absolute weights: 1 is unlevered.
    max_net : float, optional
        Largest absolute sum of weights: 0 is a market-neutral book.

    Raises
    ------
    InvalidInputError
        A limit is negative, infinite or NaN.

    Notes
    -----
    Weights are only ever made smaller: cut at ``max_position``, scaled down to ``max_gross``, then
    the heavier side scaled down to ``max_net``. No step undoes an earlier one. Limits hold for the
    targets; between trades prices move, and weights with them.

    Built in chapter: Portfolio heads.

    Examples
    --------
    >>> Limits(max_position=0.5, max_net=0.1).apply(np.array([0.9, 0.1, -0.4]))
    array([ 0.41666667,  0.08333333, -0.4       ])
    """

    max_position: float | None = None
    max_gross: float | None = None
    max_net: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value < float("inf")):
                raise InvalidInputError(
                    f"{field.name} must be a finite number, zero or more, got {value!r}"
                )

    def apply(self, weights: np.ndarray) -> np.ndarray:
        """Return weights of shape (..., N) within the limits; NaN stays NaN and counts as 0."""
        weights = np.array(weights, dtype=float)
        if self.max_position is not None:
            weights = np.clip(weights, -self.max_position, self.max_position)
        if self.max_gross is not None:
            gross = np.nansum(np.abs(weights), axis=-1, keepdims=True)
            weights = weights * _shrink(gross, self.max_gross)
        if self.max_net is not None:
            long = np.nansum(np.maximum(weights, 0), axis=-1, keepdims=True)
            short = np.nansum(np.maximum(-weights, 0), axis=-1, keepdims=True)
            weights = np.where(
                weights > 0,
                weights * _shrink(long, short + self.max_net),
                weights * _shrink(short, long + self.max_net),
            )
        return weights


def _shrink(size: np.ndarray, limit: float | np.ndarray) -> np.ndarray:
    """Factor, at most 1, that brings ``size`` down to ``limit``."""
    over = size > limit
    return np.where(over, limit / np.where(over, size, 1.0), 1.0)
