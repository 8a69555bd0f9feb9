"""Attention over (source, lag) tokens.

Built in chapter: Lag attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def identity_lag_scores(query: Tensor, key: Tensor, lag: Tensor) -> Tensor:
    """Return scores ``(H, Nq, Nk, L)`` of identities ``(H, N, d)`` and lags ``(H, L, d)``."""
    who = torch.einsum("hid,hjd->hij", query, key)
    when = torch.einsum("hid,hld->hil", query, lag)
    return (who[..., None] + when[:, :, None]) / math.sqrt(query.shape[-1])


def lag_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalise scores over their last two axes (source, lag) jointly; all masked gives zeros."""
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    attention = scores.flatten(-2).softmax(-1).view(scores.shape)
    if mask is not None:
        attention = attention.nan_to_num(0.0)
    return attention
