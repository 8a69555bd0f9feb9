"""Raw channels to the standardised tokens that the lag preset attends to.

A panel is one long series (S, N, T, F) with many windows; windows given one by one are series of
one window each. No number reads a step outside its window, so both give the same.
"""

import math

import torch
from torch import Tensor, nn

from crossattn.errors import InvalidInputError
from crossattn.model.batch import Batch, by_window

SPAN_IN_HALF_LIVES = 8
FLOOR = 1e-12
STATE_HALF_LIVES = (3.0, 24.0)
SCALE_HALF_LIFE = 12.0
LIMIT = 8.0


def exponential_mean(x: Tensor, half_life: float, lookback: int) -> Tensor:
    """Average with exponential weights, skipping NaN, at the end of every window.

    Parameters
    ----------
    x : Tensor of shape (..., T)
    half_life : float
        Steps in which a weight halves.
    lookback : int
        Steps of a window; of long ones the newest eight half-lives are read.

    Returns
    -------
    Tensor of shape (..., T - lookback + 1)
        NaN where all that is read is NaN.

    Examples
    --------
    >>> exponential_mean(torch.tensor([1.0, 4.0, 0.0, 7.0]), half_life=1, lookback=3)
    tensor([1.2857, 4.5714])
    """
    span = min(lookback, math.ceil(SPAN_IN_HALF_LIVES * half_life))
    x = x[..., lookback - span :]
    known = ~x.isnan()
    filled = torch.where(known, x, 0.0)
    age = torch.arange(span - 1, -1, -1, device=x.device, dtype=x.dtype)
    weights = 0.5 ** (age / half_life)
    pairs = torch.stack([filled, known.to(x.dtype)])  # (2, ..., T)
    if x.shape[-1] == span:  # one window: a product is faster than a convolution
        total, mass = (pairs @ weights)[..., None]
    else:
        sums = nn.functional.conv1d(pairs.flatten(0, -2)[:, None], weights.view(1, 1, -1))
        total, mass = sums.view(*pairs.shape[:-1], -1)
    return total / torch.where(mass > 0, mass, float("nan"))


def log_recent_volatility(standard: Tensor, lookback: int) -> Tensor:
    """Log of recent over usual volatility, ``(S, N, T - lookback + 1)``; 0 where unknown.

    ``standard`` (S, N, T) are returns over their usual volatility, NaN where missing.
    """
    standard = torch.where(standard.isfinite(), standard, float("nan"))
    power = exponential_mean(standard.square(), SCALE_HALF_LIFE, lookback)
    return 0.5 * power.nan_to_num(1.0).clamp_min(0.01).log()


class LagPreprocessor(nn.Module):
    """Standardise raw channels with statistics that training stores in buffers."""

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
        """Set the names of the channels; ``log_return`` must be among them."""
        if "log_return" not in names:
            raise InvalidInputError(f"features must contain log_return, got {', '.join(names)}")
        self.features = names

    def fit(self, series: Tensor, lookback: int) -> None:
        """Take scales from the series (S, N, T, F) of the training part."""
        # padded in front, every step ends a window: states are measured at each, on what there is
        series = nn.functional.pad(series, (0, 0, lookback - 1, 0), value=float("nan"))
        value = self._channel(series, "log_return")
        content = self._channel(series, "relative_volume")
        self.value_scale.copy_(root_mean_square(_by_asset(value)))
        if content is not None:
            content = _by_asset(content)  # (N, S T)
            mean = content.nanmean(-1).nan_to_num(0.0)
            self.content_mean.copy_(mean)
            self.content_scale.copy_(root_mean_square(content - mean[:, None]))
        state = self._raw_state(series, value, lookback)  # (S n, 2)
        mean = state.nanmean(0).nan_to_num(0.0)
        self.state_mean.copy_(mean)
        self.state_scale.copy_(root_mean_square((state - mean).mT))

    def read(self, series: Tensor, lookback: int) -> Batch:
        """Return the inputs of every window of ``lookback`` steps in series (S, N, T, F)."""
        value = self._channel(series, "log_return")
        content = self._channel(series, "relative_volume")
        standard = value / self.value_scale[:, None]  # (S, N, T)
        values = standard.nan_to_num(0.0)
        if content is None:
            content = torch.zeros_like(values)
        else:
            content = (content - self.content_mean[:, None]) / self.content_scale[:, None]
            content = content.nan_to_num(0.0).clamp(-LIMIT, LIMIT)
        state = self._raw_state(series, value, lookback)  # (S n, 2)
        state = ((state - self.state_mean) / self.state_scale).nan_to_num(0.0)
        return Batch(
            values=self._tokens(values, lookback),
            content=self._tokens(content, lookback),
            present=self._tokens(~value.isnan(), lookback),
            state=state.clamp(-LIMIT, LIMIT),
            log_scale=by_window(log_recent_volatility(standard, lookback)),
            history=torch.stack([values, content]),
        )

    def _channel(self, series: Tensor, name: str) -> Tensor | None:
        if name not in self.features:
            return None
        channel = series[..., self.features.index(name)]
        return torch.where(channel.isfinite(), channel, float("nan")).contiguous()

    def _tokens(self, steps: Tensor, lookback: int) -> Tensor:
        """View the newest ``n_lags`` steps of every window: (S, N, T) to (S n, N, L)."""
        return by_window(steps[..., lookback - self.n_lags :].unfold(-1, self.n_lags, 1))

    def _raw_state(self, series: Tensor, value: Tensor, lookback: int) -> Tensor:
        """Return log range (half-life 3) and log volatility (half-life 24), (S n, 2).

        Both are means over the assets; without ``range`` the first is a log volatility too.
        """
        short, long = STATE_HALF_LIVES
        power = (value / self.value_scale[:, None]).square().nanmean(-2)  # (S, T)
        spread = self._channel(series, "range")
        if spread is None:
            log_range = 0.5 * (exponential_mean(power, short, lookback) + FLOOR).log()
        else:
            spread = spread.clamp_min(1e-7).log().nanmean(-2)
            log_range = exponential_mean(spread, short, lookback)
        log_volatility = 0.5 * (exponential_mean(power, long, lookback) + FLOOR).log()
        return torch.stack([log_range, log_volatility], -1).flatten(0, 1)


def root_mean_square(x: Tensor, nothing: float = 1.0) -> Tensor:
    """Over the last axis, skipping NaN; ``nothing`` where there is nothing to scale by."""
    scale = x.square().nanmean(-1).sqrt()
    return torch.where(scale > FLOOR, scale, nothing)


def _by_asset(x: Tensor) -> Tensor:
    """(S, N, T) to (N, S T)."""
    return x.transpose(0, 1).flatten(1)
