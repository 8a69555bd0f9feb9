"""Cross-asset attention per bar: the formula, nn.MultiheadAttention, symmetry, causality, masks."""

import functools

import pytest
import torch
from torch import nn

from crossattn.attention.cross import CrossAssetAttention, MultiHeadCrossAttention

B, NQ, NK, T, D, H = 2, 4, 5, 7, 12, 3
MASK_SHAPES = {  # as documented: with all axes (B, H, T, Nq, Nk)
    None: (1, 1, 1, 1, 1),
    (NQ, NK): (1, 1, 1, NQ, NK),
    (B, NQ, NK): (B, 1, 1, NQ, NK),
    (B, T, NQ, NK): (B, 1, T, NQ, NK),
    (B, 1, NQ, NK): (B, 1, 1, NQ, NK),
    (B, H, T, NQ, NK): (B, H, T, NQ, NK),
}


def layer_of(**options):
    torch.manual_seed(0)
    layer = MultiHeadCrossAttention(D, H, 0.0, **options)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return layer


def tokens(n_queries=NQ, n_keys=NK):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(B, n, T, D, generator=generator) for n in (n_queries, n_keys)]


def random_mask(shape):
    """Return a mask whose second query is masked throughout, and no other one."""
    if shape is None:
        return None
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) > 0.4
    mask[..., 2], mask[..., 1, :] = True, False
    return mask


@pytest.mark.parametrize("return_attention", [True, False])
@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_equals_torchs_multihead_attention_in_values_and_gradients(return_attention, shape):
    layer = layer_of().double()
    theirs = nn.MultiheadAttention(D, H, batch_first=True).double()
    projections = [layer.query_projection, layer.key_projection, layer.value_projection]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        bias = [p.bias if p.bias is not None else torch.zeros(D) for p in projections]
        theirs.in_proj_bias.copy_(torch.cat(bias))
        theirs.out_proj.weight.copy_(layer.output_projection.weight)
        theirs.out_proj.bias.zero_()
    mask = random_mask(shape)
    full = torch.ones(1, dtype=torch.bool) if mask is None else mask
    full = full.reshape(MASK_SHAPES[shape]).expand(B, H, T, NQ, NK).transpose(1, 2)
    rows = full.any(-1, keepdim=True)  # (B, T, H, Nq, 1): torch gives NaN where all is masked
    ours = [x.double().requires_grad_() for x in tokens()]
    copies = [x.detach().clone().requires_grad_() for x in ours]
    output, attention = layer(*ours, mask, return_attention=return_attention)
    query, key = (x.transpose(1, 2).flatten(0, 1) for x in copies)
    hidden = ~(full | ~rows).flatten(0, 2)  # (B T H, Nq, Nk)
    expected, shown = theirs(query, key, key, attn_mask=hidden, average_attn_weights=False)
    expected = (expected.unflatten(0, (B, T)) * rows[:, :, 0]).transpose(1, 2)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    if return_attention:
        shown = (shown.unflatten(0, (B, T)) * rows).transpose(1, 2)
        torch.testing.assert_close(attention, shown, rtol=0, atol=1e-12)
    else:
        assert attention is None
    inputs = [*ours, layer.output_projection.weight, *(p.weight for p in projections)]
    gradients = torch.autograd.grad(output.square().mean(), inputs)
    inputs = [*copies, theirs.out_proj.weight, theirs.in_proj_weight]
    *others, joined = torch.autograd.grad(expected.square().mean(), inputs)
    for one, other in zip(gradients, [*others, *joined.chunk(3)], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_with_asset_embeddings_permuting_assets_needs_the_permuted_assets():
    layer, (x, _) = layer_of(n_assets=NK), tokens(NK, NK)
    order = torch.tensor([3, 0, 4, 1, 2])
    output, _ = layer(x, x)
    given, _ = layer(x[:, order], x[:, order], query_assets=order, key_assets=order)
    not_given, _ = layer(x[:, order], x[:, order])
    torch.testing.assert_close(given, output[:, order], rtol=0, atol=1e-6)
    assert (not_given - output[:, order]).abs().max() > 1e-2
    by_sample = torch.stack([order, order.flip(0)])
    mixed = torch.stack([x[0, order], x[1, order.flip(0)]])
    given, _ = layer(mixed, mixed, query_assets=by_sample, key_assets=by_sample)
    torch.testing.assert_close(given[1], output[1, order.flip(0)], rtol=0, atol=1e-6)


def test_asset_embeddings_enter_scores_and_not_values():
    layer = layer_of(n_assets=NK)
    same = torch.randn(B, 1, T, D).expand(B, NK, T, D)
    output, attention = layer(same, same)
    assert attention.std(-1).max() > 1e-2, "equal tokens, different attention"
    plain = layer.output_projection(layer.value_projection(same))
    torch.testing.assert_close(output, plain, rtol=0, atol=1e-5)


def test_exclude_self_empties_the_diagonal_by_asset_and_not_by_position():
    layer, (x, _) = layer_of(exclude_self=True), tokens(NK, NK)
    _, attention = layer(x, x)
    assert (attention.diagonal(dim1=-2, dim2=-1) == 0).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones(B, H, T, NK))
    assets = torch.tensor([2, 4])
    _, attention = layer(x[:, assets], x, query_assets=assets)
    assert (attention[..., 0, 2] == 0).all() and (attention[..., 1, 4] == 0).all()
    assert (attention == 0).sum() == 2 * B * H * T
    output, attention = layer(x[:, :1], x[:, :1])
    assert (attention == 0).all() and (output == 0).all(), "no other asset: no attention"


def test_masks_combine():
    layer, x = layer_of(), tokens()
    mask = random_mask((NQ, NK))
    key_mask = torch.rand(B, NK, T, generator=torch.Generator().manual_seed(8)) > 0.3
    together, _ = layer(*x, mask, key_mask=key_mask)
    by_bar = mask & key_mask.transpose(1, 2).unsqueeze(2)  # (B, T, Nq, Nk)
    torch.testing.assert_close(together, layer(*x, by_bar)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "with_all_axes"),
    [
        (None, None),
        ((NK,), (1, 1, 1, 1, NK)),
        ((B, NK), (B, 1, 1, 1, NK)),
        ((B, T, NK), (B, 1, T, 1, NK)),
        ((B, H, T, 1, NK), (B, H, T, 1, NK)),
    ],
)
def test_one_query_asset_is_a_row_of_many(shape, with_all_axes):
    torch.manual_seed(0)
    single = CrossAssetAttention(D, H).eval()
    x_query, x_key_value = tokens()
    mask = full = None
    if shape is not None:
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(4)) > 0.4
        full = mask.reshape(with_all_axes).expand(B, H, T, NQ, NK)
    output, attention = single(x_query[:, 2], x_key_value, mask)
    assert output.shape == (B, T, D) and attention.shape == (B, H, T, 1, NK)
    rows, rows_attention = single.attention(x_query, x_key_value, full)
    torch.testing.assert_close(output, rows[:, 2], rtol=0, atol=1e-6)
    torch.testing.assert_close(attention, rows_attention[:, :, :, 2:3], rtol=0, atol=1e-6)
    fused, nothing = single(x_query[:, 2], x_key_value, mask, return_attention=False)
    assert nothing is None
    torch.testing.assert_close(fused, output, rtol=0, atol=1e-6)


def test_wrong_inputs_are_named(refuse_input):
    x_query, x_key_value = tokens()
    layer = layer_of(n_assets=NK)
    attend = functools.partial(layer, x_query=x_query, x_key_value=x_key_value)
    refuse_input(lambda: attend(x_query=x_query[:, :, 0]), "x_query")
    refuse_input(lambda: attend(x_query=x_query.long()), "floating-point")
    refuse_input(lambda: attend(x_query=torch.zeros(B, NQ, T, D + 1)), "x_query")
    refuse_input(lambda: attend(x_key_value=torch.zeros(B, NK, T + 1, D)), "x_key_value")
    words = "x_key_value must be a floating-point tensor, got list"
    refuse_input(lambda: attend(x_key_value=[[1.0]]), words)
    words = "tokens must be torch.float32 as the layer is, got torch.float64"
    refuse_input(lambda: attend(x_key_value=x_key_value.double()), words)
    with torch.autocast("cpu", torch.bfloat16):
        attend(x_query=x_query.bfloat16())
    refuse_input(lambda: attend(mask=torch.ones(NQ, NK)), "boolean")
    refuse_input(lambda: attend(mask=torch.ones(NQ, NK + 1).bool()), "mask must have shape")
    refuse_input(lambda: attend(mask=torch.ones(NK).bool()), "mask must have shape")
    refuse_input(lambda: attend(key_mask=torch.ones(B, NQ, T).bool()), "key_mask")
    refuse_input(lambda: attend(query_mask=torch.ones(B, NQ, T)), "query_mask")
    refuse_input(lambda: attend(query_assets=torch.arange(NK)), "query_assets")
    refuse_input(lambda: attend(key_assets=torch.arange(NK) + 1), "key_assets")
    refuse_input(lambda: attend(key_assets=torch.zeros(NK)), "key_assets")
    single, one = CrossAssetAttention(D, 2), x_query[:, 0]
    for query, keys, words in (
        (one.numpy(), x_key_value, "query_asset must be a floating-point tensor, got ndarray"),
        (one[..., 1:], x_key_value, rf"query_asset must have shape \(batch, time, {D}\)"),
        (one, x_key_value.long(), "key_value_assets must be a floating-point tensor"),
        (one, x_key_value[..., 1:], "key_value_assets must have shape"),
        (one, x_key_value[1:], rf"key_value_assets must have shape \({B}, assets, {T}, {D}\)"),
    ):
        refuse_input(functools.partial(single, query, keys), words)
