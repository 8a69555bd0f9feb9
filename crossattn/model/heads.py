"""Output heads: returns, classes, portfolio weights or quantiles of each asset.

A readout turns the body's tokens into raw numbers, one head gives them their meaning and units.
"""

from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor, nn

from crossattn.config import ModelConfig

MOST_LOG = 4.0  # of the learned factor of volatility, either way


def raw_slopes(config: ModelConfig) -> list[float]:
    """Return what the signal-to-noise ratio adds to each raw number of an asset before training."""
    if config.output_type == "classification":
        return [-1.0, 0.0, 1.0]
    if config.output_type == "distribution":  # to the middle quantile alone; last is the log width
        middle = len(config.quantiles) // 2
        return [float(k == middle) for k in range(len(config.quantiles) + 1)]
    return [1.0]


class SignalReadout(nn.Module):
    """Read out the lag preset: the signal itself, or numbers linear in signal-to-noise and noise.

    Classes and quantiles depend on how far the market will move, so they read its state as well,
    of size ``n_states``.
    """

    def __init__(self, config: ModelConfig, n_states: int):
        super().__init__()
        self.reads_state = config.output_type in ("classification", "distribution")
        self.linear = None
        if config.output_type != "regression":
            slopes = raw_slopes(config)
            n_in = 2 + n_states * self.reads_state
            self.linear = nn.Linear(n_in, len(slopes))
            with torch.no_grad():
                self.linear.weight.zero_()[:, 0] = torch.tensor(slopes)
                self.linear.bias.zero_()

    def forward(self, signal: Tensor, log_scale: Tensor, state: Tensor) -> Tensor:
        """Return ``(B, N, n_out)`` of signal and log volatility ``(B, N)`` and state ``(B, S)``."""
        if self.linear is None:
            return signal[..., None]
        inputs = [signal * (-log_scale).exp(), log_scale]
        if self.reads_state:
            inputs += state[:, None].expand(-1, signal.shape[1], -1).unbind(-1)
        return self.linear(torch.stack(inputs, -1))


class ReturnsHead(nn.Module):
    """Scale the signal to returns, and add each asset's shrunk drift."""

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
    """Portfolio weights from one score an asset, within position limits; the rest is cash.

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
    """Quantiles that cannot cross: the middle one, and steps away from it that are positive.

    All are in units of a volatility, recent volatility times a factor that is learned: what was
    learned in quiet bars holds in volatile ones. Raw numbers of 0 give the quantiles of a normal
    law; ``levels`` are their probabilities, rising.
    """

    def __init__(self, levels: Sequence[float]):
        super().__init__()
        normal = torch.tensor([NormalDist().inv_cdf(level) for level in levels])
        self.register_buffer("centre", normal[len(levels) // 2], persistent=False)
        # added to raw numbers, as softplus(log(exp(x) - 1)) is x
        self.register_buffer("steps", normal.diff().expm1().log(), persistent=False)

    def forward(self, raw: Tensor, scale: Tensor) -> Tensor:
        """Return ``(B, N, Q)`` of raw numbers ``(B, N, Q + 1)`` and volatilities ``(B, N)``."""
        middle = (raw.shape[-1] - 1) // 2
        away = torch.cat([raw[..., :middle], raw[..., middle + 1 : -1]], -1)  # (B, N, Q - 1)
        steps = nn.functional.softplus(away + self.steps)
        upward = steps[..., middle:].cumsum(-1)
        downward = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        centre = raw[..., middle : middle + 1] + self.centre
        width = scale * raw[..., -1].clamp(-MOST_LOG, MOST_LOG).exp()
        return torch.cat([centre - downward, centre, centre + upward], -1) * width[..., None]


def make_head(config: ModelConfig) -> nn.Module:
    """Build the head that ``config.output_type`` names."""
    if config.output_type == "regression":
        return ReturnsHead(config.n_assets)
    if config.output_type == "classification":
        return ClassHead(config.n_assets)
    if config.output_type == "distribution":
        return QuantileHead(config.quantiles)
    return PortfolioHead(allow_short=config.allow_short, max_position=config.max_position)
