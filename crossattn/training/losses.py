"""What training minimises, each loss saying which returns it takes.

Every loss is a function of predictions and :class:`Truth` and gives a scalar; targets that are
unknown are skipped.

Built in chapter: Training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class Truth:
    """What a batch of forecasts is held against.

    Attributes
    ----------
    target : Tensor of shape (B, N)
        Simple return over the horizon, a fraction, known at its end; NaN unknown.
    noise : Tensor of shape (B, N)
        Volatility of that return, known *before* it: what errors are divided by.
    label : Tensor of shape (B, N) or None
        0 down, 1 neutral, 2 up, -1 unknown (classification).
    clip : float
        Targets are cut at this many volatilities.
    """

    target: Tensor
    noise: Tensor
    label: Tensor | None = None
    clip: float = 6.0

    @property
    def known(self) -> Tensor:
        """Where the target is known, ``(B, N)``."""
        return self.target.isfinite()

    @property
    def standardised(self) -> Tensor:
        """Targets in volatilities, clipped, 0 where unknown."""
        return (self.target / self.noise).nan_to_num(0.0).clamp(-self.clip, self.clip)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp_min(1)


def mse_loss(prediction: Tensor, truth: Truth) -> Tensor:
    """Mean squared error of forecasts ``(B, N)``, in volatilities known before the bar."""
    return _mean((prediction / truth.noise - truth.standardised).square(), truth.known)


def huber_loss(prediction: Tensor, truth: Truth) -> Tensor:
    """Huber's loss (quadratic within one volatility, linear beyond) of forecasts ``(B, N)``."""
    error = prediction / truth.noise - truth.standardised
    size = error.abs()
    return _mean(torch.where(size < 1, 0.5 * error.square(), size - 0.5), truth.known)


def cross_entropy_loss(logits: Tensor, truth: Truth) -> Tensor:
    """Cross-entropy of logits ``(B, N, 3)`` with labels down, neutral, up."""
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), truth.label.flatten(), ignore_index=-1, reduction="sum"
    )
    return flat / (truth.label >= 0).sum().clamp_min(1)


def ic_loss(prediction: Tensor, truth: Truth) -> Tensor:
    """Minus the information coefficient: correlation of forecast and target across the batch."""
    known = truth.known
    guess = torch.where(known, prediction / truth.noise, 0.0)
    fact = torch.where(known, truth.standardised, 0.0)
    guess = torch.where(known, guess - _mean(guess, known), 0.0)
    fact = torch.where(known, fact - _mean(fact, known), 0.0)
    return -(guess * fact).sum() / (guess.norm() * fact.norm() + 1e-8)


LOSSES: dict[str, Callable[[Tensor, Truth], Tensor]] = {
    "mse": mse_loss,
    "huber": huber_loss,
    "cross_entropy": cross_entropy_loss,
    "ic": ic_loss,
}
OWN_LOSS = {"regression": "mse", "classification": "cross_entropy"}
SUITS = {
    "regression": ("mse", "huber", "ic"),
    "classification": ("cross_entropy",),
}


def loss_for(output_type: str, name: str = "") -> Callable[[Tensor, Truth], Tensor]:
    """Return the loss called ``name``, or the one of the output's own.

    Raises
    ------
    InvalidInputError
        No such loss, or it does not take this output.
    """
    name = name or OWN_LOSS[output_type]
    if name not in SUITS[output_type]:
        raise InvalidInputError(
            f"loss for output_type={output_type!r} must be one of "
            f"{', '.join(SUITS[output_type])}, got {name!r}"
        )
    return LOSSES[name]
