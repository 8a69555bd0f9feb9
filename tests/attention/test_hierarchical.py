"""Levels: sector means, which queries may attend to them, and the cost of a wrong sector map."""

import functools
import math

import pytest
import torch

from crossattn.attention.hierarchical import HierarchicalCrossAttention

B, N, T, D, H = 2, 5, 4, 12, 3
SECTORS = {0: "oil", 1: "banks", 2: "oil", 3: "coins", 4: "banks"}
MARKETS = ["stocks", "stocks", "stocks", "crypto", "stocks"]
MASK_SHAPES = [None, (N, N), (B, N, N), (B, T, N, N), (B, H, T, N, N)]


def layer_of(sectors=SECTORS, markets=MARKETS, **options):
    torch.manual_seed(0)
    return HierarchicalCrossAttention(D, H, sectors, markets, **options).eval()


@pytest.fixture
def x():
    return torch.randn(B, N, T, D, generator=torch.Generator().manual_seed(1))


def random_mask(shape):
    generator = torch.Generator().manual_seed(2)
    return None if shape is None else torch.rand(shape, generator=generator) > 0.2


def test_levels_are_cross_attention_over_means(x):
    layer = layer_of()
    output, attention = layer(x)
    assert layer.sectors == ["banks", "coins", "oil"] and layer.markets == ["crypto", "stocks"]
    means = torch.stack([x[:, [1, 4]].mean(1), x[:, 3], x[:, [0, 2]].mean(1)], dim=1)
    of = torch.tensor([2, 0, 2, 1, 0])
    mixed, shown = layer.sector_attention(x, means, query_assets=of)
    torch.testing.assert_close(attention["sector"], shown)
    assets, _ = layer.asset_attention(x, x)
    means = torch.stack([x[:, 3], x[:, [0, 1, 2, 4]].mean(1)], dim=1)
    of = torch.tensor([1, 1, 1, 0, 1])
    markets, shown = layer.market_attention(x, means, query_assets=of)
    torch.testing.assert_close(attention["market"], shown)
    expected = layer.combination(torch.cat([assets, mixed, markets], dim=-1))
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_rows_sum_to_one_or_zero_and_both_paths_agree(x, shape):
    layer = layer_of(n_assets=N, exclude_self=True)
    output, attention = layer(x, random_mask(shape))
    widths = {"asset": N, "sector": 3, "market": 2}
    shapes = {name: (B, H, T, N, n) for name, n in widths.items()}
    assert {name: level.shape for name, level in attention.items()} == shapes
    for level in attention.values():
        sums = level.sum(-1)
        assert torch.minimum(sums, (sums - 1).abs()).max() < 1e-6
    fused, nothing = layer(x, random_mask(shape), return_attention=False)
    assert nothing is None
    torch.testing.assert_close(fused, output, rtol=0, atol=1e-6)


def test_permuting_assets_with_their_labels_permutes_outputs(x):
    order = [3, 0, 4, 1, 2]
    output, _ = layer_of()(x)
    moved = layer_of([SECTORS[i] for i in order], [MARKETS[i] for i in order])
    torch.testing.assert_close(moved(x[:, order])[0], output[:, order], rtol=0, atol=1e-6)


def test_a_missing_asset_vanishes_from_its_sector_too(x):
    layer = layer_of(n_assets=N)
    tokens = torch.ones(B, N, T, dtype=torch.bool)
    tokens[0, 3], tokens[1, 4, 1:] = False, False
    holes = x.masked_fill(~tokens.unsqueeze(-1), math.nan)
    output, attention = layer(holes, token_mask=tokens)
    assert (attention["sector"][0, ..., 1] == 0).all(), "coins has no member left"
    assert (attention["market"][0, ..., 0] == 0).all()
    assert (output[~tokens] == 0).all()
    alone = x.clone()
    alone[1, 4, 1:] = x[1, 1, 1:]  # the mean of a sector with one member left is that member
    _, shown = layer(alone)
    found, expected = (maps["sector"][1, :, 1:, :4] for maps in (attention, shown))
    torch.testing.assert_close(found, expected)


def test_a_forbidden_pair_forbids_the_whole_sector_mean(x):
    mask = torch.ones(N, N, dtype=torch.bool)
    mask[0, 4] = False
    layer, changed = layer_of(), x.clone()
    changed[:, 4] += 1
    before, attention = layer(x, mask)
    after, _ = layer(changed, mask)
    torch.testing.assert_close(after[:, 0], before[:, 0], rtol=0, atol=0)
    assert (after[:, 1] - before[:, 1]).abs().max() > 1e-3
    banks = attention["sector"][..., 0]
    assert (banks[..., 0] == 0).all() and (banks[..., 1] > 0).all()


def test_forbidding_self_by_mask_leaves_the_own_sector_open(x):
    mask = ~torch.eye(N, dtype=torch.bool)
    _, attention = layer_of()(x, mask)
    _, excluded = layer_of(exclude_self=True)(x)
    for level in attention:
        torch.testing.assert_close(attention[level], excluded[level])
    assert (attention["sector"][..., 0, 2] > 0).all()


def test_fully_masked_queries_are_zero_at_every_level(x):
    mask = torch.ones(N, N, dtype=torch.bool)
    mask[[2, 3]] = False  # 3 is alone in its sector and in its market
    output, attention = layer_of()(x, mask)
    assert (output[:, [2, 3]] == 0).all() and (output[:, 1] != 0).any()
    assert all((level[..., [2, 3], :] == 0).all() for level in attention.values())


def test_wrong_maps_are_named(refuse_input):
    layer = functools.partial(HierarchicalCrossAttention, 8, 2)
    refuse_input(lambda: layer({0: "a", 2: "b"}, ["m", "m"]), "sector_mapping")
    refuse_input(lambda: layer("ab", ["m", "m"]), "sector_mapping")
    refuse_input(lambda: layer(["a", "b"], []), "market_mapping")
    refuse_input(lambda: layer(["a", "b"], ["m", "m", "m"]), "the same assets")
    refuse_input(lambda: layer(["a", "b"], ["m", "m"], n_assets=3), "n_assets")
    refuse_input(lambda: layer_of()(torch.zeros(B, N + 1, T, D)), "mapped assets")
