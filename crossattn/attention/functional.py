"""Attention as a function: the formula to read, and the fused kernel that gives the same numbers.

One convention holds in the whole room: a mask is boolean, True means *may attend*, and a query that
may attend to nobody receives exactly zero, in its attention and in its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from crossattn.attention.masks import check_mask
from crossattn.errors import InvalidInputError

Normalise = Callable[[Tensor, Tensor | None], Tensor]


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Average values by how well keys answer queries: the readable reference of the book.

    Every layer of this room computes what this function computes; where nobody asks to see the
    attention they take torch's fused kernel instead, and the numbers are the same.

    Parameters
    ----------
    query : Tensor of shape (..., Nq, D)
        What each query asset is looking for.
    key : Tensor of shape (..., Nk, D)
        What each key asset offers to be found by.
    value : Tensor of shape (..., Nk, Dv)
        What each key asset hands over when it is found.
    mask : bool Tensor broadcastable to (..., Nq, Nk), optional
        True where a query may attend to a key; everything is allowed by default.

    Returns
    -------
    output : Tensor of shape (..., Nq, Dv)
        For each query the attention-weighted mean of the values.
    attention : Tensor of shape (..., Nq, Nk)
        Each row sums to 1, or to 0 where the mask leaves that query nobody.

    Raises
    ------
    InvalidInputError
        The shapes do not fit together, or the mask is not boolean.

    Notes
    -----
    .. math:: A = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{D}} + M\right), \quad O = A V

    with :math:`M` 0 where attending is allowed and :math:`-\infty` where it is not. For queries and
    keys with independent entries of mean 0 and variance 1 the products have variance :math:`D`;
    the root brings the scores back to variance 1, where softmax still has a gradient. The cost is
    :math:`O(N_q N_k D)` time and :math:`O(N_q N_k)` memory.

    NaN is allowed in a key or value that no query may attend to and in a query that may attend to
    nobody; neither outputs nor gradients see it.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", section 3.2.1.

    Examples
    --------
    >>> query = torch.tensor([[1.0, 0.0]])
    >>> key = torch.tensor([[2.0, 0.0], [0.0, 2.0], [9.0, 9.0]])
    >>> value = torch.tensor([[1.0], [0.0], [5.0]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> output, attention = scaled_dot_product_attention(query, key, value, mask)
    >>> attention.round(decimals=3)
    tensor([[0.8040, 0.1960, 0.0000]])

    Built in chapter: Scaled dot-product attention
    """
    _check_shapes(query, key, value, mask)
    if mask is not None:
        mask = torch.atleast_2d(mask)
        query, key, value = _without_unused_tokens(query, key, value, mask)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (..., Nq, Nk)
    attention = masked_softmax(scores, mask)
    return attention @ value, attention


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis among the allowed entries; a row with none of them is all zeros.

    Parameters
    ----------
    scores : Tensor of shape (..., Nq, Nk)
    mask : bool Tensor broadcastable to the shape of ``scores``, optional
        True where attending is allowed.

    Returns
    -------
    Tensor of the shape of ``scores``

    Examples
    --------
    >>> mask = torch.tensor([[True, True, False], [False, False, False]])
    >>> masked_softmax(torch.zeros(2, 3), mask)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000]])

    Built in chapter: Scaled dot-product attention
    """
    if mask is None:
        return scores.softmax(dim=-1)
    # The lowest finite number instead of -inf: a row without any allowed key then has a softmax,
    # and a gradient, of ordinary numbers, which the second fill sets to zero.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    normalise: Normalise | None = None,
    return_attention: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Attend with or without showing the attention; the output is the same either way.

    This is the one door through which the layers of this room go. Tokens that nobody may use must
    already be finite (the layers set them to zero before they project them).

    Parameters
    ----------
    query, key, value : Tensor of shape (..., Nq, D), (..., Nk, D), (..., Nk, Dv)
        Four axes (batch, heads, tokens, width) reach the fused kernel on every device.
    mask : bool Tensor broadcastable to (..., Nq, Nk), optional
        True where a query may attend.
    bias : Tensor broadcastable to (..., Nq, Nk), optional
        Added to the scores before softmax: relative positions, for example.
    normalise : callable, optional
        ``normalise(scores, mask)`` in place of softmax, see :mod:`crossattn.attention.sparse`. No
        kernel fuses it, so that the whole map is formed whether it is returned or not.
    return_attention : bool
        False takes :func:`torch.nn.functional.scaled_dot_product_attention`, which never forms the
        whole (Nq, Nk) matrix, and returns None in its place.

    Returns
    -------
    output : Tensor of shape (..., Nq, Dv)
    attention : Tensor of shape (..., Nq, Nk) or None

    Built in chapter: Multi-head cross-asset attention
    """
    if return_attention or normalise is not None:
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (..., Nq, Nk)
        scores = scores if bias is None else scores + bias
        attention = (normalise or masked_softmax)(scores, mask)
        return attention @ value, attention if return_attention else None
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias), None
    mask = torch.atleast_2d(mask)
    # A row with nobody to attend to is opened for the kernel, which has no answer for it on some
    # devices, and its output is then set to zero. On a CPU it costs nothing to see that there is
    # no such row; on a GPU the question would make the kernels wait.
    somebody = mask.any(dim=-1, keepdim=True)  # (..., Nq, 1)
    empty_rows = mask.device.type != "cpu" or not somebody.all()
    allowed = mask | ~somebody if empty_rows else mask
    if bias is not None:
        allowed = torch.where(allowed, bias, -math.inf)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    return output.masked_fill(~somebody, 0.0) if empty_rows else output, None


def _without_unused_tokens(query, key, value, mask):
    """Set to zero what the mask hides from everybody, so that 0 x NaN never happens."""
    attends = mask.any(dim=-1).unsqueeze(-1)  # (..., Nq, 1)
    attended = mask.any(dim=-2).unsqueeze(-1)  # (..., Nk, 1)
    return (
        torch.where(attends, query, 0.0),
        torch.where(attended, key, 0.0),
        torch.where(attended, value, 0.0),
    )


def _check_shapes(query, key, value, mask):
    for name, tensor in [("query", query), ("key", key), ("value", value)]:
        if not isinstance(tensor, Tensor) or tensor.dim() < 2 or not tensor.is_floating_point():
            shape = getattr(tensor, "shape", type(tensor).__name__)
            raise InvalidInputError(
                f"{name} must be a floating-point tensor (..., tokens, width), got {shape}"
            )
    if query.shape[-1] != key.shape[-1]:
        raise InvalidInputError(
            f"query and key must have one width, got {query.shape[-1]} and {key.shape[-1]}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise InvalidInputError(
            f"key and value must have as many tokens, got {key.shape[-2]} and {value.shape[-2]}"
        )
    check_mask(mask)


def check_tokens(name: str, tokens: Tensor, d_model: int) -> None:
    """Raise InvalidInputError unless ``tokens`` is a floating-point tensor (B, N, T, d_model)."""
    if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
        got = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InvalidInputError(f"{name} must be a floating-point tensor, got {got}")
    if tokens.dim() != 4 or tokens.shape[-1] != d_model:
        raise InvalidInputError(
            f"{name} must have shape (batch, assets, time, {d_model}), got {tuple(tokens.shape)}"
        )


def check_positive(**numbers: int) -> None:
    """Raise InvalidInputError unless each number, named as its argument, is a positive integer."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidInputError(f"{name} must be a positive integer, got {number!r}")


def check_heads(d_model: int, n_heads: int) -> int:
    """Return the width of one head, or raise InvalidInputError where the heads do not divide."""
    check_positive(d_model=d_model, n_heads=n_heads)
    if d_model % n_heads:
        raise InvalidInputError(
            f"d_model must be a multiple of n_heads, got d_model={d_model} and n_heads={n_heads}"
        )
    return d_model // n_heads


def check_dropout(dropout: float) -> float:
    """Return ``dropout``, or raise InvalidInputError where it is not in [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise InvalidInputError(f"dropout must lie in [0, 1), got {dropout!r}")
    return float(dropout)
