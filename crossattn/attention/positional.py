"""Positional encodings: sinusoidal, learned, relative bias, calendar.

Built in chapter: Positions
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crossattn.attention._checks import check_sizes
from crossattn.errors import InvalidInputError

LONGEST_WAVE = 10_000.0


def sinusoidal_encoding(n_steps: int, d_model: int) -> Tensor:
    r"""Return the sinusoidal encoding ``(T, D)`` of positions 0, 1, ...: sines and cosines.

    Parameters
    ----------
    n_steps : int
        Number of positions T.
    d_model : int
        Width D, odd or even.

    Notes
    -----
    .. math:: P_{t, 2k} = \sin(t \omega_k), \quad P_{t, 2k+1} = \cos(t \omega_k), \quad
        \omega_k = 10000^{-2k/D}

    A shift by a fixed number of bars turns each pair by a fixed angle: a linear map.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", section 3.5.

    Examples
    --------
    >>> sinusoidal_encoding(2, 3)
    tensor([[0.0000, 1.0000, 0.0000],
            [0.8415, 0.5403, 0.0022]])
    """
    check_sizes(n_steps=n_steps, d_model=d_model)
    position = torch.arange(n_steps, dtype=torch.float64)[:, None]
    pair = torch.arange(0, d_model, 2, dtype=torch.float64)
    angle = position * torch.exp(-math.log(LONGEST_WAVE) * pair / d_model)  # (T, ceil(D / 2))
    encoding = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)  # (T, D or D + 1)
    return encoding[:, :d_model].to(torch.get_default_dtype())


class SinusoidalPositions(nn.Module):
    """Add the sinusoidal encoding of :func:`sinusoidal_encoding` to tokens, at any length.

    Parameters
    ----------
    d_model : int
        Width D of the tokens, odd or even.

    Examples
    --------
    >>> SinusoidalPositions(5)(torch.zeros(2, 3, 7, 5)).shape
    torch.Size([2, 3, 7, 5])
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        check_sizes(d_model=d_model)
        self.d_model = d_model
        self.register_buffer("encoding", torch.empty(0, d_model), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (..., T, D) with the encoding of steps 0..T-1 added."""
        _check_width(x, self.d_model)
        if len(self.encoding) < x.shape[-2]:
            # in single precision whatever x is: kept or made anew, it is the same to the last bit
            encoding = sinusoidal_encoding(x.shape[-2], self.d_model)
            self.encoding = encoding.float().to(x)
        return x + self.encoding[: x.shape[-2]].to(x)


class LearnedPositions(nn.Module):
    """Learned positions: add one vector for each age; the newest bar has age 0 in any window.

    Parameters
    ----------
    max_steps : int
        The longest window.
    d_model : int
        Width D of the tokens.

    Examples
    --------
    >>> LearnedPositions(max_steps=10, d_model=5)(torch.zeros(2, 3, 7, 5)).shape
    torch.Size([2, 3, 7, 5])
    """

    def __init__(self, max_steps: int, d_model: int) -> None:
        super().__init__()
        check_sizes(max_steps=max_steps, d_model=d_model)
        self.by_age = nn.Parameter(torch.empty(max_steps, d_model))
        nn.init.normal_(self.by_age, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (..., T, D) with the vector of each step's age added."""
        _check_width(x, self.by_age.shape[1])
        n_steps, max_steps = x.shape[-2], len(self.by_age)
        if n_steps > max_steps:
            raise InvalidInputError(f"x must have at most {max_steps=} steps, got {n_steps}")
        return x + self.by_age[:n_steps].flip(0)


class RelativePositionBias(nn.Module):
    """Relative position bias: a learned number for each head and distance, added to the scores.

    Parameters
    ----------
    n_heads : int
        Number of heads H.
    max_distance : int
        Distances beyond this share the number of this one.

    References
    ----------
    Shaw et al. (2018), "Self-Attention with Relative Position Representations"; in scalar form
    Raffel et al. (2020), "Exploring the Limits of Transfer Learning".

    Examples
    --------
    >>> RelativePositionBias(n_heads=2, max_distance=4)(7).shape
    torch.Size([2, 7, 7])
    """

    def __init__(self, n_heads: int, max_distance: int) -> None:
        super().__init__()
        check_sizes(n_heads=n_heads, max_distance=max_distance)
        self.max_distance = max_distance
        self.by_distance = nn.Parameter(torch.zeros(n_heads, 2 * max_distance + 1))

    def forward(self, n_queries: int, n_keys: int | None = None) -> Tensor:
        """Return the bias (H, Tq, Tk); queries and keys end with the same, newest bar."""
        n_keys = n_queries if n_keys is None else n_keys
        device = self.by_distance.device
        query_age = torch.arange(n_queries - 1, -1, -1, device=device)[:, None]
        key_age = torch.arange(n_keys - 1, -1, -1, device=device)
        bars_back = (key_age - query_age).clamp(-self.max_distance, self.max_distance)
        return self.by_distance[:, bars_back + self.max_distance]


class CalendarEncoding(nn.Module):
    """Calendar encoding: hour of day, day of week, or any number with a period, added to tokens.

    Parameters
    ----------
    d_model : int
        Width D of the tokens, odd or even.
    periods : sequence of float
        After how much each calendar number repeats: 24 for the hour, 7 for the weekday.
    n_harmonics : int
        Waves per period; 1 is one smooth wave, more allow sharper edges such as an opening bell.

    Examples
    --------
    >>> layer = CalendarEncoding(d_model=5, periods=(24.0, 7.0))
    >>> layer(torch.zeros(2, 3, 7, 5), calendar=torch.zeros(2, 7, 2)).shape
    torch.Size([2, 3, 7, 5])
    """

    def __init__(
        self, d_model: int, periods: Sequence[float] = (24.0, 7.0), n_harmonics: int = 1
    ) -> None:
        super().__init__()
        check_sizes(d_model=d_model, n_harmonics=n_harmonics)
        if not periods or not all(0 < period < math.inf for period in periods):
            raise InvalidInputError(f"periods must be positive numbers, got {periods!r}")
        waves = [[2 * math.pi * (k + 1) / period for k in range(n_harmonics)] for period in periods]
        self.d_model = d_model
        self.register_buffer("waves", torch.tensor(waves), persistent=False)  # (C, harmonics)
        self.projection = nn.Linear(2 * len(periods) * n_harmonics, d_model)

    def forward(self, x: Tensor, calendar: Tensor) -> Tensor:
        """Return tokens (B, N, T, D) with the encoding of calendar numbers (B, T, C) added.

        Column c of ``calendar`` is read modulo ``periods[c]`` and known in advance, as clocks are.
        """
        _check_width(x, self.d_model)
        if calendar.shape[-1] != len(self.waves) or calendar.shape[-2] != x.shape[-2]:
            raise InvalidInputError(
                f"calendar must have shape (..., {x.shape[-2]}, {len(self.waves)}), "
                f"got {tuple(calendar.shape)}"
            )
        angle = (calendar.to(x)[..., None] * self.waves.to(x)).flatten(-2)  # (B, T, C harmonics)
        encoding = self.projection(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return x + (encoding.unsqueeze(-3) if x.dim() == encoding.dim() + 1 else encoding)


def _check_width(x: Tensor, d_model: int) -> None:
    if x.dim() < 2 or x.shape[-1] != d_model:
        raise InvalidInputError(f"x must have shape (..., time, {d_model}), got {tuple(x.shape)}")
