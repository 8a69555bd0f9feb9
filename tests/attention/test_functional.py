"""The formula against loops, against torch's kernel, and at its edges."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from crossattn.attention.functional import (
    fused_attention,
    masked_softmax,
    scaled_dot_product_attention,
)

B, H, NQ, NK, D, DV = 2, 3, 4, 5, 6, 7
MASK_SHAPES = [None, (NK,), (NQ, NK), (1, NK), (NQ, 1), (H, NQ, NK), (B, 1, NQ, NK), (B, H, NQ, NK)]


def tensors(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, H, NQ, D), (B, H, NK, D), (B, H, NK, DV)]
    return [torch.randn(s, generator=generator, dtype=dtype, requires_grad=True) for s in shapes]


def random_mask(shape):
    if shape is None:
        return None
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.4


def by_loops(query, key, value, mask):
    """One query at a time, over the keys that it may attend to."""
    allowed = torch.ones(B, H, NQ, NK, dtype=torch.bool) if mask is None else mask
    allowed = allowed.expand(B, H, NQ, NK)
    output = torch.zeros(B, H, NQ, DV, dtype=torch.float64)
    attention = torch.zeros(B, H, NQ, NK, dtype=torch.float64)
    for place in itertools.product(range(B), range(H), range(NQ)):
        keys = allowed[place].nonzero().flatten()
        mass = (key[place[:2]][keys] @ query[place] / math.sqrt(D)).exp()
        attention[place][keys] = mass / mass.sum()
        output[place] = attention[place] @ value[place[:2]]
    return output, attention


@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_equals_loops_to_twelve_digits(shape):
    query, key, value = (t.detach() for t in tensors())
    mask = random_mask(shape)
    output, attention = scaled_dot_product_attention(query, key, value, mask)
    expected_output, expected_attention = by_loops(query, key, value, mask)
    torch.testing.assert_close(attention, expected_attention, rtol=0, atol=1e-12)
    torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", MASK_SHAPES)
@pytest.mark.parametrize("fused", [False, True])
def test_equals_torchs_kernel_in_values_and_gradients(shape, fused):
    mask = random_mask(shape)
    ours, theirs = tensors(torch.float32), tensors(torch.float32)
    output = fused_attention(*ours, mask) if fused else scaled_dot_product_attention(*ours, mask)[0]
    rows = torch.ones(NQ, NK, dtype=torch.bool) if mask is None else mask.expand(B, H, NQ, NK)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=rows if shape else None)
    expected = torch.where(rows.any(-1, keepdim=True), expected, 0.0)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    pull = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    (output * pull).sum().backward()
    (expected * pull).sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_masked_tokens_may_hold_nan_or_infinity(poison):
    query, key, value = (t.detach() for t in tensors())
    mask = torch.ones(NQ, NK, dtype=torch.bool)
    mask[:, 3], mask[1] = False, False
    clean, _ = scaled_dot_product_attention(query, key, value, mask)
    for tensor, token in [(query, 1), (key, 3), (value, 3)]:
        tensor[:, :, token] = poison
        tensor.requires_grad_(True)
    output, attention = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(output, clean, rtol=0, atol=0)
    (output.sum() + attention.square().sum()).backward()
    assert all(t.grad.isfinite().all() for t in (query, key, value))


def test_moving_all_scores_alike_or_making_them_huge_does_no_harm():
    scores = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(masked_softmax(scores + 1e4), masked_softmax(scores))
    assert masked_softmax(torch.tensor([[1e30, -1e30]])).tolist() == [[1.0, 0.0]]


def test_bias_is_added_to_the_scores_on_both_paths():
    query, key, value = (t.detach() for t in tensors())
    bias, mask = torch.randn(H, NQ, NK, dtype=torch.float64), random_mask((NQ, NK))
    mask[0] = False
    shown, attention = scaled_dot_product_attention(query, key, value, mask, bias=bias)
    fused = fused_attention(query, key, value, mask, bias=bias)
    torch.testing.assert_close(shown, fused, rtol=0, atol=1e-12)
    by_hand = query[1, 2, 3] @ key[1, 2].T / math.sqrt(D) + bias[2, 3]
    by_hand = by_hand.masked_fill(~mask[3], -math.inf).softmax(-1)
    torch.testing.assert_close(attention[1, 2, 3], by_hand)


def test_wrong_inputs_are_named(refuse_input):
    right = {"query": torch.zeros(2, 4), "key": torch.zeros(5, 4), "value": torch.zeros(5, 6)}
    for name, wrong, words in (
        ("query", torch.zeros(2, 3), "width"),
        ("value", torch.zeros(3, 4), "as many tokens"),
        ("mask", torch.ones(2, 5), "mask must be a boolean"),
        ("key", [1.0], "got list"),
        ("key", np.zeros((5, 4)), "got ndarray"),
        ("query", torch.zeros(2, 4, dtype=torch.int64), r"int64 \(2, 4\)"),
        ("key", torch.zeros(5, 4).double(), "one dtype, got .torch.float32, torch.float64"),
        ("bias", torch.zeros(2, 5).double(), "one dtype"),
        ("bias", 1.0, "bias must be a tensor"),
        ("bias", torch.zeros(5, 2), "must broadcast"),
        ("mask", torch.ones(3, 5, dtype=torch.bool), "must broadcast"),
    ):
        for attend in (scaled_dot_product_attention, fused_attention):
            refuse_input(functools.partial(attend, **right | {name: wrong}), words)
    with_axes = right | {"query": torch.zeros(3, 2, 4)}
    one_query = right | {"query": torch.zeros(1, 4), "mask": torch.ones(2, 5, dtype=torch.bool)}
    for attend in (scaled_dot_product_attention, fused_attention):
        attend(**with_axes)  # leading axes of 1 are left out
        with_two = functools.partial(attend, **with_axes | {"key": torch.zeros(2, 5, 4)})
        refuse_input(with_two, "must broadcast")
        refuse_input(functools.partial(attend, **one_query), "must broadcast")
