"""Exact zeros: against torch on the survivors, against the optimality conditions, with masks."""

import functools
import sys

import pytest
import torch

from crossattn.attention.cross import MultiHeadCrossAttention
from crossattn.attention.functional import masked_softmax
from crossattn.attention.sparse import entmax, top_k_softmax
from crossattn.errors import MissingDependencyError


@pytest.fixture
def scores():
    return torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def mask():
    mask = torch.rand(3, 4, 9, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[1, 2] = False
    mask[2, 3] = torch.arange(9) == 5
    return mask


def test_top_k_is_softmax_among_the_largest(scores):
    attention = top_k_softmax(scores, k=3)
    for row, shares in zip(scores.flatten(0, 1), attention.flatten(0, 1), strict=True):
        best = row.argsort(descending=True)[:3]
        torch.testing.assert_close(shares[best], row[best].softmax(-1))
        assert (shares > 0).sum() == 3
    torch.testing.assert_close(top_k_softmax(scores, k=9), scores.softmax(-1))


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_entmax_meets_its_optimality_conditions(scores, alpha):
    attention = entmax(3 * scores, alpha=alpha)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 4).double())
    assert (attention == 0).any()
    # On the support a^(alpha-1) = (alpha-1) s - tau; elsewhere (alpha-1) s <= tau.
    threshold = (alpha - 1) * 3 * scores - attention ** (alpha - 1)
    tau = torch.where(attention > 0, threshold, torch.nan).nanmean(-1, keepdim=True)
    on = attention > 0
    torch.testing.assert_close(threshold[on], tau.expand_as(threshold)[on])
    assert (((alpha - 1) * 3 * scores <= tau + 1e-9) | on).all()


@pytest.mark.parametrize(
    "normalise",
    [
        masked_softmax,
        functools.partial(top_k_softmax, k=2),
        entmax,
        functools.partial(entmax, alpha=2.0),
    ],
    ids=["softmax", "top_k", "entmax", "sparsemax"],
)
def test_masked_keys_play_no_part(scores, mask, normalise):
    attention = normalise(scores, mask)
    assert (attention[~mask] == 0).all() and attention.isfinite().all()
    torch.testing.assert_close(attention.sum(-1), mask.any(-1).double())
    for i, j in mask.any(-1).nonzero():
        alone = normalise(scores[i, j, mask[i, j]][None])[0]
        torch.testing.assert_close(attention[i, j, mask[i, j]], alone)
    scores.requires_grad_(True)
    normalise(scores, mask).square().sum().backward()
    assert scores.grad.isfinite().all() and (scores.grad[~mask] == 0).all()


def test_a_layer_takes_any_of_them_on_both_paths():
    torch.manual_seed(0)
    layer = MultiHeadCrossAttention(
        12, 3, 0.0, exclude_self=True, normalise=functools.partial(top_k_softmax, k=2)
    )
    x = torch.randn(2, 5, 4, 12)
    output, attention = layer(x, x)
    assert ((attention > 0).sum(-1) == 2).all()
    hidden, nothing = layer(x, x, return_attention=False)
    assert nothing is None
    torch.testing.assert_close(hidden, output)


def test_wrong_inputs_are_named(scores, monkeypatch, refuse_input):
    refuse_input(lambda: top_k_softmax(scores, k=0), "k must be")
    refuse_input(lambda: entmax(scores, alpha=1.2), "alpha")
    monkeypatch.setitem(sys.modules, "entmax", None)
    with pytest.raises(MissingDependencyError, match=r"crossattn\[book\]"):
        entmax(scores)
