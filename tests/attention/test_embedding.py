"""What a token is made of: shapes, causality, and equality with the same sum written out."""

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
    layer = InvertedEmbedding(T, F, D)
    expected = torch.einsum("bntf,dtf->bnd", x, layer.projection.weight.view(D, T, F))
    torch.testing.assert_close(layer(x), (expected + layer.projection.bias)[:, :, None])


@pytest.mark.parametrize(
    ("layer", "newest_bar"),
    [
        (LinearEmbedding(F, D), lambda token: token),
        (CausalConvEmbedding(F, D, 4), lambda token: token),
        (PatchEmbedding(F, D, 5, 2), lambda token: 4 + 2 * token),
    ],
    ids=["linear", "convolution", "patches"],
)
def test_a_bar_changes_no_token_of_another_asset_or_that_closed_before_it(x, layer, newest_bar):
    before = layer(x)
    for bar in range(T):
        changed = x.clone()
        changed[:, 1, bar] += 1
        moved = (layer(changed) - before).abs().amax(dim=(0, 3)) > 0  # (N, T')
        assert moved.any(dim=1).tolist() == [False, True, False]
        assert newest_bar(moved[1].nonzero().min()) >= bar


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(LinearEmbedding, (F, D)), (CausalConvEmbedding, (F, D)), (InvertedEmbedding, (T, F, D))],
)
@torch.no_grad()
def test_an_embedding_of_each_asset_is_a_shared_one_an_asset(x, kind, sizes, refuse_input):
    layer, shared = kind(*sizes, n_assets=N), kind(*sizes)
    name = "convolution" if kind is CausalConvEmbedding else "projection"
    own, target = getattr(layer, name), getattr(shared, name)
    tokens = layer(x)
    for asset in range(N):
        weight = own.weight.chunk(N)[asset]  # (D, F, K), or (1, in, out) of a linear map
        target.weight.copy_(weight if kind is CausalConvEmbedding else weight[0].T)
        target.bias.copy_(own.bias.flatten().chunk(N)[asset])
        torch.testing.assert_close(tokens[:, [asset]], shared(x[:, [asset]]))
    refuse_input(lambda: layer(x[:, :2]), f"the {N} assets")


def test_wrong_inputs_are_named(x, refuse_input):
    refuse_input(lambda: LinearEmbedding(F + 1, D)(x), "x must have shape")
    refuse_input(lambda: PatchEmbedding(F, D, 12)(x), "patch_length=12")
    refuse_input(lambda: InvertedEmbedding(10, F, D)(x), "lookback=10")
    refuse_input(lambda: CausalConvEmbedding(F, D, 0), "kernel_size")
