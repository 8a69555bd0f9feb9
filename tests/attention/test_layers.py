"""What holds for every attention layer: symmetry, causality, masks, dropout, both paths, a GPU."""

import copy
import math

import pytest
import torch

from crossattn.attention import (
    CrossAssetAttention,
    HierarchicalCrossAttention,
    MultiHeadCrossAttention,
    RoutedCrossAttention,
    TemporalCrossAttention,
    TemporalSelfAttention,
)

B, N, T, D, H = 2, 5, 7, 12, 3
MAPS = {
    "sector_mapping": ["oil", "oil", "banks", "banks", "coins"],
    "market_mapping": ["stocks", "stocks", "stocks", "crypto", "crypto"],
}
LAYERS = {
    "one query": (CrossAssetAttention, {}),
    "cross": (MultiHeadCrossAttention, {"exclude_self": True}),
    "lagged": (TemporalCrossAttention, {"max_lag": 2, "exclude_self": True}),
    "routed": (RoutedCrossAttention, {"n_routers": 2}),
    "hierarchical": (HierarchicalCrossAttention, MAPS),
    "temporal": (TemporalSelfAttention, {}),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
KNOWS_NO_ASSETS = ("one query", "temporal")  # these take no n_assets


def make(name, **options):
    torch.manual_seed(0)
    kind, own = LAYERS[name]
    return kind(D, options.pop("n_heads", H), **{"dropout": 0.0} | own | options)


def attend(layer, x, known=None, **options):
    """Call a layer with the arguments that it takes; queries without a mask are finite."""
    if isinstance(layer, CrossAssetAttention):
        return layer(x[:, 1].nan_to_num(), x, key_mask=known, **options)
    if isinstance(layer, HierarchicalCrossAttention):
        return layer(x, token_mask=known, **options)
    if isinstance(layer, TemporalCrossAttention | TemporalSelfAttention):
        keys = x.nan_to_num() if isinstance(layer, TemporalSelfAttention) else x
        return layer(x.nan_to_num(), keys, key_mask=known, **options)
    return layer(x, x, query_mask=known, key_mask=known, **options)


def maps(attention):
    """Return the attention's tensors, keys in the last axis: one, or one a level."""
    if isinstance(attention, dict):
        return list(attention.values())
    return [attention.flatten(-2) if attention.dim() == 6 else attention]


@pytest.fixture
def x():
    return torch.randn(B, N, T, D, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def known():
    known = torch.rand(B, N, T, generator=torch.Generator().manual_seed(2)) > 0.3
    known[0, :, 2] = False
    return known


@pytest.mark.parametrize("name", ["cross", "lagged", "routed", "temporal"])
def test_permuting_assets_permutes_outputs_and_attention(name, x):
    layer, order = make(name), torch.tensor([3, 0, 4, 1, 2])
    output, attention = attend(layer, x)
    permuted, permuted_attention = attend(layer, x[:, order])
    torch.testing.assert_close(permuted, output[:, order], rtol=0, atol=1e-6)
    if name == "temporal":
        expected = attention[:, order]
    else:
        expected = attention[:, :, :, order][:, :, :, :, order]
    torch.testing.assert_close(permuted_attention, expected, rtol=0, atol=1e-6)


@every_layer
def test_a_changed_bar_changes_only_the_outputs_that_may_depend_on_it(name, x):
    layer, changed = make(name), x.clone()
    changed[:, :, 3] += 1.0
    before, after = attend(layer, x)[0], attend(layer, changed)[0]
    moved = (after - before).abs().amax(-1).flatten(0, -2).amax(0) > 0  # (T,)
    last = {"lagged": 5, "temporal": T - 1}.get(name, 3)
    assert moved.tolist() == [3 <= t <= last for t in range(T)]


@pytest.mark.parametrize("n_heads", [1, 2, 12])
@every_layer
def test_rows_of_every_head_sum_to_one_and_dropout_comes_after_the_attention(name, n_heads, x):
    layer = make(name, dropout=0.5, n_heads=n_heads)
    _, calm = attend(layer.eval(), x)
    output, attention = attend(layer.train(), x)
    assert output.shape == (x[:, 1] if name == "one query" else x).shape
    assert (output == 0).any(), "dropout is on"
    for ours, expected in zip(maps(attention), maps(calm), strict=True):
        assert ours.shape[2 if name == "temporal" else 1] == n_heads
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        torch.testing.assert_close(ours.sum(-1), torch.ones(ours.shape[:-1]))
        assert name != "lagged" or ours.shape == (B, n_heads, T, N, N * 3)


@pytest.mark.parametrize("masked", [False, True])
@every_layer
def test_both_paths_agree_in_training_too(name, masked, x, known):
    layer = make(name, dropout=0.5)
    for training in (False, True):
        layer.train(training)
        torch.manual_seed(5)
        shown, _ = attend(layer, x, known if masked else None)
        torch.manual_seed(5)
        fused, nothing = attend(layer, x, known if masked else None, return_attention=False)
        assert nothing is None
        torch.testing.assert_close(fused, shown, rtol=0, atol=1e-6)


@every_layer
def test_missing_tokens_may_hold_nan_and_get_no_attention(name, x, known):
    layer = make(name, **({} if name in KNOWS_NO_ASSETS else {"n_assets": N}))
    clean, attention = attend(layer, x.masked_fill(~known[..., None], 0.0), known)
    for return_attention in (True, False):
        holes = x.masked_fill(~known[..., None], math.nan).requires_grad_()
        layer.zero_grad()
        output, _ = attend(layer, holes, known, return_attention=return_attention)
        torch.testing.assert_close(output, clean, rtol=0, atol=1e-6)
        output.square().sum().backward()
        assert all(leaf.grad.isfinite().all() for leaf in [holes, *layer.parameters()])
    if name not in ("temporal", "lagged"):
        by_key = maps(attention)[0]
        hidden = ~known.transpose(1, 2)[:, None, :, None, :].expand_as(by_key)
        assert (by_key[hidden] == 0).all()
        assert (by_key[0, :, 2] == 0).all() and (clean[0, ..., 2, :] == 0).all()


@every_layer
def test_memory_layout_does_not_matter(name, x):
    layer = make(name)
    scattered = x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    assert not scattered.is_contiguous()
    torch.testing.assert_close(attend(layer, scattered)[0], attend(layer, x)[0], rtol=0, atol=1e-6)


@every_layer
def test_wrong_construction_is_refused(name, refuse_input):
    refuse_input(lambda: make(name, n_heads=5), "multiple of n_heads")
    refuse_input(lambda: make(name, n_heads=0), "n_heads")
    refuse_input(lambda: make(name, n_heads=True), "n_heads")
    refuse_input(lambda: make(name, dropout=1.0), "dropout")
    refuse_input(lambda: make(name, dropout=math.nan), "dropout")
    if name not in KNOWS_NO_ASSETS:
        refuse_input(lambda: make(name, n_assets=0), "n_assets")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("return_attention", [True, False], ids=["shown", "fused"])
@every_layer
def test_a_gpu_gives_what_the_cpu_gives(name, return_attention, x, known):
    layer = make(name, **({} if name in KNOWS_NO_ASSETS else {"n_assets": N}))
    twin = copy.deepcopy(layer).to("cuda")
    output, attention = attend(layer, x, known, return_attention=return_attention)
    theirs, their_attention = attend(
        twin, x.to("cuda"), known.to("cuda"), return_attention=return_attention
    )
    close(theirs, output)
    if return_attention:
        for ours, other in zip(maps(attention), maps(their_attention), strict=True):
            close(other, ours)
    output.square().sum().backward()
    theirs.square().sum().backward()
    for (label, ours), other in zip(layer.named_parameters(), twin.parameters(), strict=True):
        if ours.grad is not None:
            close(other.grad, ours.grad, label)


def close(found, expected, label="") -> None:
    size = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(
        found.cpu(), expected, rtol=0, atol=1e-4 * size, msg=lambda text: f"{label}: {text}"
    )
