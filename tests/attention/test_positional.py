"""Positions: the formula, odd and even widths, ages, distances and calendars."""

import itertools
import math

import pytest
import torch

from crossattn.attention.positional import (
    CalendarEncoding,
    LearnedPositions,
    RelativePositionBias,
    SinusoidalPositions,
    sinusoidal_encoding,
)

B, N, T, H = 2, 3, 11, 4


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_sinusoids_follow_the_formula_in_odd_and_even_widths(width):
    encoding = sinusoidal_encoding(T, width)
    assert encoding.shape == (T, width)
    for t, column in itertools.product(range(T), range(width)):
        angle = t / 10_000 ** (2 * (column // 2) / width)
        expected = math.cos(angle) if column % 2 else math.sin(angle)
        assert encoding[t, column].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("width", [5, 8])
def test_positions_are_added_and_keep_the_shape(width):
    x = torch.randn(B, N, T, width)
    sinusoidal = SinusoidalPositions(width)
    torch.testing.assert_close(sinusoidal(x) - x, sinusoidal_encoding(T, width).expand_as(x))
    torch.testing.assert_close(sinusoidal(x[:, :, :4]), sinusoidal(x)[:, :, :4])
    learned = LearnedPositions(T + 2, width)
    added = learned(x) - x
    torch.testing.assert_close(added[0, 0, -1], learned.by_age[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(added[1, 2, 0], learned.by_age[T - 1], rtol=0, atol=1e-6)
    torch.testing.assert_close(learned(x[:, :, 3:]), learned(x)[:, :, 3:])
    assert sinusoidal(x.double()).dtype == torch.float64
    assert not sinusoidal.state_dict(), "nothing to save"


@torch.no_grad()
def test_relative_bias_depends_on_distances_only():
    layer = RelativePositionBias(H, max_distance=3)
    layer.by_distance.copy_(torch.randn(H, 7))
    bias = layer(T)
    for query, key in itertools.product(range(T), range(T)):
        bars_back = max(-3, min(3, query - key))
        torch.testing.assert_close(bias[:, query, key], layer.by_distance[:, bars_back + 3])
    torch.testing.assert_close(layer(2, T), bias[:, -2:], rtol=0, atol=0)


@pytest.mark.parametrize("width", [5, 8])
def test_calendar_repeats_with_its_periods_and_only_then(width):
    layer = CalendarEncoding(width, periods=(24.0, 7.0), n_harmonics=2)
    x = torch.zeros(B, N, T, width)
    hour = (torch.arange(T) + 5.0) % 24
    weekday = torch.full((T,), 2.0)
    calendar = torch.stack([hour, weekday], dim=-1).expand(B, T, 2)
    encoded = layer(x, calendar)
    assert encoded.shape == x.shape
    later = layer(x, calendar + torch.tensor([24.0, 14.0]))
    torch.testing.assert_close(later, encoded, rtol=0, atol=1e-5)
    assert (layer(x, calendar + torch.tensor([12.0, 0.0])) - encoded).abs().max() > 1e-2
    torch.testing.assert_close(encoded[:, 0], encoded[:, 2])
    torch.testing.assert_close(layer(x[:, 0], calendar), encoded[:, 0])


def test_wrong_inputs_are_named(refuse_input):
    refuse_input(lambda: LearnedPositions(4, 6)(torch.zeros(1, 5, 6)), "max_steps=4")
    refuse_input(lambda: SinusoidalPositions(6)(torch.zeros(1, 5, 7)), "x must have shape")
    x, three = torch.zeros(1, 2, 5, 6), torch.zeros(1, 5, 3)
    refuse_input(lambda: CalendarEncoding(6)(x, three), "calendar must have shape")
    refuse_input(lambda: CalendarEncoding(6, periods=(24.0, 0.0)), "periods")
    refuse_input(lambda: sinusoidal_encoding(3, 0), "d_model")
