"""One batch: what a model reads at some moments, and what its predictions are compared with."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Model inputs, and targets where they are known, for B windows.

    A whole data set is one too, whose inputs are views; :meth:`take` draws some of its windows.
    A preset fills in what it reads, training the rest; what is not used is None.
    """

    # preset ``lag``: standardised returns and relative volume of the newest L steps, oldest first
    values: Tensor | None = None  #: (B, N, L), 0 where unknown
    content: Tensor | None = None  #: (B, N, L), 0 where unknown
    state: Tensor | None = None  #: (B, S) standardised state of the market
    log_scale: Tensor | None = None  #: (B, N) log of recent over usual volatility
    head_scores: Tensor | None = None  #: (B, H) recent skill of each identity head
    history: Tensor | None = None  #: (2, S, N, T) values and content, for the head scores
    # the other presets
    windows: Tensor | None = None  #: (B, N, T, F) standardised, 0 where unknown
    #: bool (B, N, L) where the return is known, or (B, N, T) where a bar exists, None if all do
    present: Tensor | None = None
    # training
    target: Tensor | None = None  #: (B, N) simple return over the horizon, NaN unknown
    noise: Tensor | None = None  #: (B, N) volatility of that return, known before it
    next_return: Tensor | None = None  #: (B, N) simple return of the next bar, NaN unknown
    label: Tensor | None = None  #: int (B, N): 0 down, 1 neutral, 2 up, -1 unknown
    quantiles: tuple[float, ...] = ()  #: probabilities of a distribution head
    clip: float = 6.0  #: targets are cut at this many volatilities
    transaction_cost: float = 0.001  #: fraction of traded notional
    risk_aversion: float = 10.0  #: weight of the variance in ``mean_variance_loss``
    concentration: float = 0.0  #: weight of the sum of squared positions there

    def __len__(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        """Number of windows, which stays a symbol where a model is exported, unlike ``len``."""
        inputs = self.windows if self.values is None else self.values
        return (self.target if inputs is None else inputs).shape[0]

    def take(self, rows: Tensor) -> Self:
        """Return the windows at ``rows`` (B',), copied."""
        drawn = {
            name: value.index_select(0, rows)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "history"
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
