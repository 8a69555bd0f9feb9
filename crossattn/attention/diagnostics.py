"""Attention diagnostics: entropy, effective number of leaders, collapse.

They describe the map; whether the leaders are right is another question.

Built in chapter: What heads learn
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from crossattn.errors import InvalidInputError


def attention_entropy(attention: Tensor, dim: int = -1) -> Tensor:
    r"""Return the entropy of each row in nats: 0 for one key, :math:`\ln N_k` for an even spread.

    Parameters
    ----------
    attention : Tensor of shape (..., Nq, Nk)
        Non-negative rows that sum to 1, or to 0 where all is masked (entropy 0).
    dim : int or tuple of int
        The axes a row runs over: -1, or (-2, -1) for attention over (asset, lag) pairs.

    Returns
    -------
    Tensor of shape (..., Nq)
        Differentiable, so that it can be added to a loss.

    Examples
    --------
    >>> attention_entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    # The derivative of a ln a is infinite at 0, where masked keys are: they count as constants.
    present = torch.where(attention > 0, attention, 1.0)
    return (attention * present.reciprocal().log()).sum(dim=dim)


def effective_number(attention: Tensor, dim: int = -1) -> Tensor:
    r"""Return the effective number of keys of each row: :math:`1 / \sum_j a_j^2`, 0 if masked.

    Parameters
    ----------
    attention : Tensor of shape (..., Nq, Nk)
        Non-negative rows that sum to 1, or to 0 where all is masked.
    dim : int or tuple of int
        The axes a row runs over.

    Returns
    -------
    Tensor of shape (..., Nq)
        Between 1 (one key) and Nk (an even spread).

    Examples
    --------
    >>> effective_number(torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]]))
    tensor([2., 1., 0.])
    """
    concentration = attention.square().sum(dim=dim)
    return torch.where(concentration > 0, 1 / concentration.clamp(min=1e-30), 0.0)


@dataclass(frozen=True)
class Collapse:
    """Attention collapse by head: how far all queries attend to the same few keys.

    Few effective leaders mean collapse; few keys a query beside many leaders do not.
    """

    leader_share: Tensor  #: (H, Nk) part of all attention of a head that each key receives
    effective_leaders: Tensor  #: (H,) effective number of keys that receive it
    largest_share: Tensor  #: (H,) share of the most attended key
    effective_per_query: Tensor  #: (H,) effective number of keys of a row, mean over rows


def collapse_meter(attention: Tensor) -> Collapse:
    """Measure attention collapse: whether all queries of a head attend to the same few keys.

    Parameters
    ----------
    attention : Tensor of shape (B, H, ..., Nq, Nk)
        Attention as the layers return it; sum over lags first where there are any.

    Examples
    --------
    >>> all_on_the_first = torch.tensor([[1.0, 0.0, 0.0]]).expand(1, 1, 3, 3)
    >>> collapse_meter(all_on_the_first).effective_leaders
    tensor([1.])
    >>> each_on_itself = torch.eye(3).expand(1, 1, 3, 3)
    >>> collapse_meter(each_on_itself).effective_leaders.round(decimals=3)
    tensor([3.])
    """
    if attention.dim() < 3:
        raise InvalidInputError(
            f"attention must have axes (heads, queries, keys), got shape {tuple(attention.shape)}"
        )
    if not attention.isfinite().all():
        raise InvalidInputError("attention must be finite, got NaN or infinite entries")
    rows = attention.detach().movedim(1, 0).flatten(1, -2)  # (H, rows, Nk)
    used = rows.sum(dim=-1) > 0  # (H, rows)
    if not used.any(dim=-1).all():
        raise InvalidInputError("attention is masked everywhere in at least one head")
    received = rows.sum(dim=1)
    share = received / received.sum(dim=-1, keepdim=True)
    return Collapse(
        leader_share=share,
        effective_leaders=effective_number(share),
        largest_share=share.amax(dim=-1),
        effective_per_query=effective_number(rows).sum(dim=1) / used.sum(dim=1),
    )
