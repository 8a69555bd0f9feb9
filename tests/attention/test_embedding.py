"""What a token is made of: shapes, causality, and equality with the same sum written out."""

from __future__ import annotations

import pytest
import torch

from crossattn.attention.embedding import (
    CausalConvEmbedding,
    InvertedEmbedding,
    LinearEmbedding,
    PatchEmbedding,
)

B, N, T, F, D = 2, 3, 11, 4, 7


@pytest.fixture
def x():
    return torch.randn(B, N, T, F, generator=torch.Generator().manual_seed(0))


def test_convolution_equals_its_sum(x):
    layer = CausalConvEmbedding(F, D, kernel_size=3)
    tokens = layer(x)
    weight, bias = layer.convolution.weight, layer.convolution.bias  # (D, F, 3)
    for t in range(T):
        expected = bias.clone()
        for back in range(3):
            if t - back >= 0:
                expected = expected + weight[:, :, 2 - back] @ x[1, 2, t - back]
        torch.testing.assert_close(tokens[1, 2, t], expected)


def test_patches_end_with_the_newest_bar_and_drop_the_oldest(x):
    layer = PatchEmbedding(F, D, patch_length=4, stride=3)
    tokens = layer(x)
    assert tokens.shape == (B, N, 3, D)
    for patch, first in enumerate([1, 4, 7]):  # bar 0 is left over, bar 10 is the newest
        bars = x[:, :, first : first + 4].transpose(2, 3).flatten(2)
        torch.testing.assert_close(tokens[:, :, patch], layer.projection(bars))


def test_inverted_is_one_token_of_the_whole_window(x):
    tokens = InvertedEmbedding(T, F, D)(x)
    assert tokens.shape == (B, N, 1, D)
    for bar in (0, T - 1):
        changed = x.clone()
        changed[:, :, bar] += 1
        assert (InvertedEmbedding(T, F, D)(changed) - tokens).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("layer", "newest_bar"),
    [
        (LinearEmbedding(F, D), lambda token: token),
        (CausalConvEmbedding(F, D, 4), lambda token: token),
        (PatchEmbedding(F, D, 5, 2), lambda token: 4 + 2 * token),
    ],
    ids=["linear", "convolution", "patches"],
)
def test_changing_a_bar_changes_no_token_that_closed_before_it(x, layer, newest_bar):
    before = layer(x)
    for bar in range(T):
        changed = x.clone()
        changed[:, :, bar] += 1
        moved = (layer(changed) - before).abs().amax(dim=(0, 1, 3)) > 0
        assert moved.any() and newest_bar(moved.nonzero().min()) >= bar


@pytest.mark.parametrize(
    "layer",
    [
        LinearEmbedding(F, D),
        CausalConvEmbedding(F, D),
        PatchEmbedding(F, D, 4),
        LinearEmbedding(F, D, n_assets=N),
        CausalConvEmbedding(F, D, n_assets=N),
        InvertedEmbedding(T, F, D, n_assets=N),
    ],
    ids=["linear", "convolution", "patches", "own linear", "own convolution", "own inverted"],
)
def test_no_token_depends_on_another_asset(x, layer):
    changed = x.clone()
    changed[:, 1] += 1
    moved = (layer(changed) - layer(x)).abs().amax(dim=(0, 2, 3)) > 0
    assert moved.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("layer", "shared"),
    [
        (LinearEmbedding(F, D, n_assets=N), LinearEmbedding(F, D)),
        (CausalConvEmbedding(F, D, n_assets=N), CausalConvEmbedding(F, D)),
        (InvertedEmbedding(T, F, D, n_assets=N), InvertedEmbedding(T, F, D)),
    ],
    ids=["linear", "convolution", "inverted"],
)
@torch.no_grad()
def test_an_embedding_of_each_asset_is_a_shared_one_an_asset(x, layer, shared, refuse_input):
    tokens = layer(x)
    for asset in range(N):
        if isinstance(layer, CausalConvEmbedding):
            own = slice(asset * D, (asset + 1) * D)
            weight, bias = layer.convolution.weight[own], layer.convolution.bias[own]
            target = shared.convolution
        else:
            weight, bias = layer.projection.weight[asset].T, layer.projection.bias[asset]
            target = shared.projection
        target.weight.copy_(weight)
        target.bias.copy_(bias)
        torch.testing.assert_close(tokens[:, [asset]], shared(x[:, [asset]]))
    refuse_input(lambda: layer(x[:, :2]), f"the {N} assets")


def test_wrong_inputs_are_named(x, refuse_input):
    refuse_input(lambda: LinearEmbedding(F + 1, D)(x), "x must have shape")
    refuse_input(lambda: PatchEmbedding(F, D, 12)(x), "patch_length=12")
    refuse_input(lambda: InvertedEmbedding(10, F, D)(x), "lookback=10")
    refuse_input(lambda: CausalConvEmbedding(F, D, 0), "kernel_size")
