"""Output heads: returns, classes, portfolio weights or quantiles of each asset.

A readout turns the body's tokens into raw numbers, one head gives them their meaning and units.

Built in chapter: The full model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossattn.config import ModelConfig

CLASSES = ("down", "neutral", "up")


def raw_width(config: ModelConfig) -> int:
    """Return how many raw numbers an asset needs for the configured output."""
    if config.output_type == "classification":
        return len(CLASSES)
    return len(config.quantiles) if config.output_type == "distribution" else 1


class SignalReadout(nn.Module):
    """Read out the lag preset: the signal itself, or numbers linear in signal-to-noise and noise.

    Parameters
    ----------
    n_out : int
        Raw numbers an asset.
    plain : bool
        Pass the signal through untouched (a forecast of returns).
    """

    def __init__(self, n_out: int, *, plain: bool):
        super().__init__()
        self.linear = None if plain else nn.Linear(2, n_out)
        if self.linear is not None:
            with torch.no_grad():
                slope = torch.linspace(-1, 1, n_out) if n_out > 1 else torch.ones(1)
                self.linear.weight.copy_(torch.stack([slope, torch.zeros(n_out)], -1))
                self.linear.bias.zero_()

    def forward(self, signal: Tensor, log_scale: Tensor) -> Tensor:
        """Return ``(B, N, n_out)`` of signal and log volatility, both ``(B, N)``."""
        if self.linear is None:
            return signal[..., None]
        return self.linear(torch.stack([signal * (-log_scale).exp(), log_scale], -1))


class ReturnsHead(nn.Module):
    """Give the signal its units, and each asset its drift, as far as that is told from noise."""

    def __init__(self, n_assets: int):
        super().__init__()
        self.register_buffer("intercept", torch.zeros(n_assets))

    def forward(self, raw: Tensor, scale: Tensor) -> Tensor:
        """Return ``(B, N)`` of raw numbers ``(B, N, 1)`` and the targets' scale ``(N,)``."""
        return raw.squeeze(-1) * scale + self.intercept


class ClassHead(nn.Module):
    """Logits for down, neutral and up; the neutral band that labels were cut by is kept here."""

    def __init__(self, n_assets: int):
        super().__init__()
        self.register_buffer("band", torch.zeros(n_assets))

    def forward(self, raw: Tensor, scale: Tensor) -> Tensor:
        """Return logits ``(B, N, 3)``, as they are."""
        return raw


class PortfolioHead(nn.Module):
    """Turn a score an asset into an allocation that holds its limits, the rest being cash.

    Long-only: softmax over the assets and cash, whose logit is learned. Long-short: tanh of each
    score, scaled down to a gross weight of 1. What exceeds ``max_position`` then becomes cash.
    """

    def __init__(self, *, allow_short: bool = False, max_position: float = 1.0):
        super().__init__()
        self.allow_short = allow_short
        self.max_position = max_position
        if not allow_short:
            self.cash = nn.Parameter(torch.zeros(()))

    def forward(self, raw: Tensor, scale: Tensor) -> Tensor:
        """Return weights ``(B, N)`` of scores ``(B, N, 1)``."""
        score = raw.squeeze(-1)
        if self.allow_short:
            weights = torch.tanh(score)
            weights = weights / weights.abs().sum(-1, keepdim=True).clamp_min(1.0)
        else:
            cash = self.cash.expand(score.shape[0], 1)
            weights = torch.cat([score, cash], -1).softmax(-1)[..., :-1]
        return weights.clamp(-self.max_position, self.max_position)


class QuantileHead(nn.Module):
    """Quantiles that cannot cross: the middle one, and steps away from it that are positive."""

    def forward(self, raw: Tensor, scale: Tensor) -> Tensor:
        """Return ``(B, N, Q)`` in the target's units."""
        middle = raw.shape[-1] // 2
        steps = nn.functional.softplus(raw)
        upward = steps[..., middle + 1 :].cumsum(-1)
        downward = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        centre = raw[..., middle : middle + 1]
        return torch.cat([centre - downward, centre, centre + upward], -1) * scale[:, None]


def make_head(config: ModelConfig) -> nn.Module:
    """Build the head that ``config.output_type`` names."""
    if config.output_type == "regression":
        return ReturnsHead(config.n_assets)
    if config.output_type == "classification":
        return ClassHead(config.n_assets)
    if config.output_type == "distribution":
        return QuantileHead()
    return PortfolioHead(allow_short=config.allow_short, max_position=config.max_position)
