"""One batch: what a model reads at some moments, and what its predictions are compared with."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Model inputs, and targets where they are known, for B windows.

    A whole data set is one too, whose inputs are views; :meth:`take` draws some of its windows.
    A preset fills in what it reads, training the rest; what is not used is None.

    Attributes
    ----------
    values, content : Tensor of shape (B, N, L)
        Preset ``lag``: standardised returns and relative volume of the newest L steps, oldest
        first; 0 where unknown.
    present : bool Tensor of shape (B, N, L), (B, N, T) or None
        Where the return is known; in the other presets where a bar exists, None if all do.
    state : Tensor of shape (B, S)
        Standardised state of the market.
    log_scale : Tensor of shape (B, N)
        Log of each asset's recent volatility over its usual one.
    head_scores : Tensor of shape (B, H)
        Recent skill of each identity head, see
        :meth:`~crossattn.model.lag_body.LagBody.update_head_scores`.
    history : Tensor of shape (2, S, N, T)
        Values and content of the whole series, from which head scores are computed.
    windows : Tensor of shape (B, N, T, F)
        The other presets: standardised windows, 0 where unknown.
    target : Tensor of shape (B, N)
        Simple return over the horizon, a fraction, known at its end; NaN unknown.
    noise : Tensor of shape (B, N)
        Volatility of that return, known before it.
    next_return : Tensor of shape (B, N)
        Simple return of the next bar: what a position earns. NaN unknown.
    label : int Tensor of shape (B, N)
        0 down, 1 neutral, 2 up, -1 unknown.
    quantiles : tuple of float
        Probabilities of a distribution head.
    clip : float
        Targets are cut at this many volatilities.
    transaction_cost : float
        Fraction of traded notional.
    risk_aversion, concentration : float
        Weights of variance and of the sum of squared positions in
        :func:`crossattn.training.losses.mean_variance_loss`.
    """

    values: Tensor | None = None
    content: Tensor | None = None
    present: Tensor | None = None
    state: Tensor | None = None
    log_scale: Tensor | None = None
    head_scores: Tensor | None = None
    history: Tensor | None = None
    windows: Tensor | None = None
    target: Tensor | None = None
    noise: Tensor | None = None
    next_return: Tensor | None = None
    label: Tensor | None = None
    quantiles: tuple[float, ...] = ()
    clip: float = 6.0
    transaction_cost: float = 0.001
    risk_aversion: float = 10.0
    concentration: float = 0.0

    def __len__(self) -> int:
        inputs = self.windows if self.values is None else self.values
        return len(self.target if inputs is None else inputs)

    def take(self, rows: Tensor) -> Batch:
        """Return the windows at ``rows`` (B',), copied."""
        drawn = {
            field.name: value.index_select(0, rows)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor) and field.name != "history"
        }
        return replace(self, history=None, **drawn)

    @property
    def known(self) -> Tensor:
        """Where the target is known, ``(B, N)``."""
        return self.target.isfinite()

    @property
    def standardised(self) -> Tensor:
        """Targets in volatilities, clipped, 0 where unknown."""
        ratio = torch.where(self.known, self.target, 0.0) / self.noise
        return ratio.clamp(-self.clip, self.clip)


def by_window(x: Tensor) -> Tensor:
    """Put the windows of all series in one row: (S, N, n, ...) to (S n, N, ...)."""
    return x.transpose(1, 2).flatten(0, 1)
