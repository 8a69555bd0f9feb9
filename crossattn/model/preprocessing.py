"""From raw channels to the standardised tokens that the lag preset attends to.

Two paths give the same numbers: one reads a window and answers for its last step, the other reads
a whole panel and answers for every step, each from the ``span`` steps up to it.

Built in chapter: The full model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crossattn.errors import InvalidInputError

SPAN_IN_HALF_LIVES = 8
FLOOR = 1e-12
STATE_HALF_LIVES = (3.0, 24.0)
SCALE_HALF_LIFE = 12.0
LIMIT = 8.0


@dataclass(frozen=True)
class LagInputs:
    """What the lag layers read, for a batch of moments.

    Attributes
    ----------
    values, content : Tensor of shape (B, N, L)
        Standardised returns and relative volume; 0 where unknown.
    known : Tensor of shape (B, N, L)
        True where the return is known.
    state : Tensor of shape (B, S)
        Standardised state of all assets together.
    log_scale : Tensor of shape (B, N)
        Log of each asset's recent volatility over its usual one.
    record : Tensor of shape (B, H)
        How well each identity head has done of late; see :meth:`LagBody.track_record`.
    """

    values: Tensor
    content: Tensor
    known: Tensor
    state: Tensor
    log_scale: Tensor
    record: Tensor


@dataclass
class LagRows:
    """The same, for every row of a panel, from which batches are gathered by row number."""

    values: Tensor  # (R, N)
    content: Tensor  # (R, N)
    known: Tensor  # (R, N)
    state: Tensor  # (R, S)
    log_scale: Tensor  # (R, N)
    n_lags: int
    span: int
    record: Tensor | None = None  # (R, H)

    def gather(self, rows: Tensor) -> LagInputs:
        """Return the inputs at ``rows`` (B,), each with its ``n_lags`` newest tokens."""
        back = rows[:, None] - torch.arange(self.n_lags, device=rows.device)  # (B, L)
        return LagInputs(
            self.values[back].mT,
            self.content[back].mT,
            self.known[back].mT,
            self.state[rows],
            self.log_scale[rows],
            self.record[rows],
        )


@dataclass
class LagWindows:
    """The same, for windows given one by one: ``(n, N, T)`` where rows have ``(R, N)``."""

    values: Tensor
    content: Tensor
    known: Tensor
    state: Tensor
    log_scale: Tensor
    n_lags: int
    record: Tensor | None = None

    def gather(self, rows: Tensor | slice) -> LagInputs:
        """Return the inputs of some of the windows, each with its ``n_lags`` newest tokens."""
        return LagInputs(
            self.values[rows][..., -self.n_lags :].flip(-1),
            self.content[rows][..., -self.n_lags :].flip(-1),
            self.known[rows][..., -self.n_lags :].flip(-1),
            self.state[rows],
            self.log_scale[rows],
            self.record[rows],
        )


def exponential_mean(x: Tensor, half_life: float, span: int, *, every_step: bool) -> Tensor:
    """Average the newest ``span`` steps with exponential weights, skipping NaN.

    Parameters
    ----------
    x : Tensor of shape (..., T)
    half_life : float
        Steps in which a weight halves.
    span : int
        Steps read; older ones are cut off, so that a window and a panel agree.
    every_step : bool
        Answer for each step, ``(..., T)`` (the first ones from what there is), or for the last
        alone, ``(...)``.

    Returns
    -------
    Tensor
        NaN where all of the span is NaN.
    """
    known = ~x.isnan()
    filled = torch.where(known, x, 0.0)
    span = min(span, x.shape[-1], math.ceil(SPAN_IN_HALF_LIVES * half_life))
    age = torch.arange(span - 1, -1, -1, device=x.device, dtype=x.dtype)
    weights = 0.5 ** (age / half_life)
    if not every_step:
        return (filled[..., -span:] @ weights) / (known[..., -span:].to(x.dtype) @ weights)
    pairs = torch.stack([filled, known.to(x.dtype)]).flatten(0, -2)[:, None]  # (2·, 1, T)
    padded = nn.functional.pad(pairs, (span - 1, 0))
    sums = nn.functional.conv1d(padded, weights.view(1, 1, -1))
    total, mass = sums.view(2, *x.shape)
    return total / torch.where(mass > 0, mass, float("nan"))


class Reader(nn.Module):
    """Standardise raw channels with statistics that training stores in buffers.

    Parameters
    ----------
    n_assets : int
    n_lags : int
    features : tuple of str
        Channel names; ``log_return`` is needed, ``relative_volume`` and ``range`` are used
        where they are there.
    """

    def __init__(self, n_assets: int, n_lags: int, features: tuple[str, ...]):
        super().__init__()
        self.n_lags = n_lags
        self.name_channels(features)
        self.register_buffer("value_scale", torch.ones(n_assets))
        self.register_buffer("content_mean", torch.zeros(n_assets))
        self.register_buffer("content_scale", torch.ones(n_assets))
        self.register_buffer("state_mean", torch.zeros(len(STATE_HALF_LIVES)))
        self.register_buffer("state_scale", torch.ones(len(STATE_HALF_LIVES)))

    def name_channels(self, names: tuple[str, ...]) -> None:
        """Say which channel is which; ``log_return`` must be among them."""
        if "log_return" not in names:
            raise InvalidInputError(f"features must contain log_return, got {', '.join(names)}")
        self.features = names

    def _channel(self, x: Tensor, name: str) -> Tensor | None:
        if name not in self.features:
            return None
        channel = x[..., self.features.index(name)]
        return torch.where(channel.isfinite(), channel, float("nan"))

    def _raw_state(self, x: Tensor, value: Tensor, span: int, every_step: bool) -> Tensor:
        """Return (..., S) from channels (..., N, T): log range lately, log volatility of late."""
        short, long = STATE_HALF_LIVES
        power = (value / self.value_scale[:, None]).square().nanmean(-2)  # (..., T)
        spread = self._channel(x, "range")
        if spread is None:
            lately = exponential_mean(power, short, span, every_step=every_step)
            lately = 0.5 * (lately + FLOOR).log()
        else:
            log_spread = spread.clamp_min(1e-7).log().nanmean(-2)
            lately = exponential_mean(log_spread, short, span, every_step=every_step)
        of_late = exponential_mean(power, long, span, every_step=every_step)
        return torch.stack([lately, 0.5 * (of_late + FLOOR).log()], -1)

    def fit(self, x: Tensor, span: int, *, every_step: bool) -> None:
        """Take scales from the training part, which must be all this ever sees.

        Parameters
        ----------
        x : Tensor of shape (N, R, F) or (n, N, T, F)
            A panel (``every_step``), or windows, of which the last step counts.
        span : int
            Steps that a state looks back.
        every_step : bool
        """
        value, content = self._channel(x, "log_return"), self._channel(x, "relative_volume")
        if not every_step:
            value, content = value[..., -1].mT, None if content is None else content[..., -1].mT
        self.value_scale.copy_(root_mean_square(value))
        if content is not None:
            mean = content.nanmean(-1).nan_to_num(0.0)
            self.content_mean.copy_(mean)
            self.content_scale.copy_(root_mean_square(content - mean[:, None]))
        state = self._raw_state(x, self._channel(x, "log_return"), span, every_step)  # (R, S)
        mean = state.nanmean(0).nan_to_num(0.0)
        self.state_mean.copy_(mean)
        self.state_scale.copy_(root_mean_square((state - mean).mT))

    def _standardised(self, x: Tensor, span: int, every_step: bool) -> tuple[Tensor, ...]:
        """Read channels (..., N, T, F)."""
        value, content = self._channel(x, "log_return"), self._channel(x, "relative_volume")
        known = ~value.isnan()
        values = (value / self.value_scale[:, None]).nan_to_num(0.0)
        if content is None:
            content = torch.zeros_like(values)
        else:
            content = (content - self.content_mean[:, None]) / self.content_scale[:, None]
            content = content.nan_to_num(0.0).clamp(-LIMIT, LIMIT)
        state = self._raw_state(x, value, span, every_step)
        state = ((state - self.state_mean) / self.state_scale).nan_to_num(0.0)
        standard = value / self.value_scale[:, None]
        power = exponential_mean(standard.square(), SCALE_HALF_LIFE, span, every_step=every_step)
        log_scale = 0.5 * power.nan_to_num(1.0).clamp_min(0.01).log()
        return values, content, known, state.clamp(-LIMIT, LIMIT), log_scale

    def last_step(self, x: Tensor) -> LagWindows:
        """Read windows ``(B, N, T, F)`` at their last step."""
        return LagWindows(*self._standardised(x, x.shape[-2], False), self.n_lags)

    def every_step(self, panel: Tensor, span: int) -> LagRows:
        """Read every row of a panel ``(R, N, F)``, each from the ``span`` rows up to it."""
        x = panel.transpose(0, 1)
        values, content, known, state, log_scale = self._standardised(x, span, True)
        return LagRows(values.mT, content.mT, known.mT, state, log_scale.mT, self.n_lags, span)


def root_mean_square(x: Tensor) -> Tensor:
    """Over the last axis, skipping NaN; 1 where there is nothing to scale by."""
    scale = x.square().nanmean(-1).sqrt()
    return torch.where(scale > FLOOR, scale, 1.0)
