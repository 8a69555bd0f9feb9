"""Routers: the reported map is the one that was used, of low rank, with missing tokens left out."""

import itertools
import math

import pytest
import torch

from crossattn.attention.routed import RoutedCrossAttention

B, NQ, NK, T, D, H, R = 2, 5, 6, 4, 12, 3, 2


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return RoutedCrossAttention(D, H, R).double().eval()


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(B, n, T, D, generator=generator).double() for n in (NQ, NK)]


def test_every_query_by_hand_to_twelve_digits(layer, tokens):
    width = D // H
    x_query, x_key_value = tokens
    expected, shown = torch.zeros_like(x_query), x_query.new_zeros(B, H, T, NQ, NK)
    for b, t, i in itertools.product(range(B), range(T), range(NQ)):
        mixed = torch.zeros(D, dtype=torch.float64)
        for h in range(H):
            part = slice(h * width, (h + 1) * width)
            query = layer.query_projection(x_query[b, i, t])[part]
            key = layer.key_projection(x_key_value[b, :, t])[:, part]
            value = layer.value_projection(x_key_value[b, :, t])[:, part]
            read = (layer.router_query[h] @ key.T / math.sqrt(width)).softmax(-1)  # (R, NK)
            summary = read @ key + layer.router_key[h]
            asked = (summary @ query / math.sqrt(width)).softmax(0)  # (R,)
            mixed[part] = asked @ (read @ value)
            shown[b, h, t, i] = asked @ read
        expected[b, i, t] = layer.output_projection(mixed)
    output, attention = layer(x_query, x_key_value)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention, shown, rtol=0, atol=1e-12)
    assert (torch.linalg.matrix_rank(attention, atol=1e-10) == R).all()


def test_wrong_inputs_are_named(layer, tokens, refuse_input):
    refuse_input(lambda: layer(tokens[0][..., :-1], tokens[1]), "x_query")
    refuse_input(lambda: RoutedCrossAttention(D, H, R, n_assets=9)(*tokens), "n_assets=9")
    refuse_input(lambda: RoutedCrossAttention(D, H, 0), "n_routers")
