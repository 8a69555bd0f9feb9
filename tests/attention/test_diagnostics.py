"""Entropy, effective number and collapse of maps small enough to check by hand."""

import math

import pytest
import torch

from crossattn.attention.diagnostics import attention_entropy, collapse_meter, effective_number
from crossattn.attention.functional import masked_softmax


def test_entropy_and_effective_number_of_known_rows_over_one_axis_or_two():
    rows = torch.tensor([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0] * 4]).double()
    assert attention_entropy(rows).tolist() == pytest.approx([0, math.log(4), math.log(2), 0])
    assert effective_number(rows).tolist() == pytest.approx([1, 4, 2, 0])
    joint = torch.full((2, 3, 4), 1 / 12)
    assert effective_number(joint, dim=(-2, -1)).tolist() == pytest.approx([12, 12])
    assert attention_entropy(joint, dim=(-2, -1)).tolist() == pytest.approx([math.log(12)] * 2)


def test_both_can_be_part_of_a_loss():
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: attention_entropy(s.softmax(-1)), scores)
    assert torch.autograd.gradcheck(lambda s: effective_number(s.softmax(-1)), scores)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    scores = torch.randn(2, 3, requires_grad=True)
    attention = masked_softmax(scores, mask)
    (attention_entropy(attention) + effective_number(attention)).sum().backward()
    assert scores.grad.isfinite().all() and (scores.grad[0, :2] != 0).all()


def test_collapse_is_told_from_each_query_having_its_own_leader():
    hub, ring = torch.zeros(4, 4), torch.eye(4).roll(1, dims=1)
    hub[:, 2] = 1
    meter = collapse_meter(torch.stack([hub, ring]).expand(3, 2, 4, 4))
    assert meter.effective_leaders.tolist() == pytest.approx([1, 4])
    assert meter.largest_share.tolist() == pytest.approx([1, 0.25])
    assert meter.effective_per_query.tolist() == pytest.approx([1, 1])
    assert meter.leader_share[0].tolist() == [0, 0, 1, 0]


def test_masked_rows_do_not_count(refuse_input):
    attention = torch.zeros(1, 1, 5, 3, 4)
    attention[..., 0, 1] = 1
    meter = collapse_meter(attention)
    assert meter.effective_per_query.tolist() == [1]
    refuse_input(lambda: collapse_meter(torch.zeros(1, 2, 3, 4)), "masked everywhere")
    refuse_input(lambda: collapse_meter(torch.full((1, 2, 3, 4), math.nan)), "finite")
    refuse_input(lambda: collapse_meter(torch.zeros(3, 4)), "axes")
