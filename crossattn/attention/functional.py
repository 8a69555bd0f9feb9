"""Scaled dot-product attention, readable and fused; in a mask True means *may attend*.

That is the convention of :func:`torch.nn.functional.scaled_dot_product_attention` and the opposite
of :class:`torch.nn.MultiheadAttention`. A fully masked query gets exactly zero, in its attention
and in its output.
"""

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from crossattn._validation import check_type
from crossattn.attention._checks import check_mask
from crossattn.attention.masks import zero_missing
from crossattn.errors import InvalidInputError

Normalise = Callable[[Tensor, Tensor | None], Tensor]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Softmax-weighted mean of values; in the mask True means *may attend*.

    The readable reference: all attention layers of the package compute these numbers.

    Parameters
    ----------
    query, key, value : Tensor of shape (..., Nq, D), (..., Nk, D) and (..., Nk, Dv)
    mask : bool Tensor broadcastable to (..., Nq, Nk), optional
        True where a query may attend to a key; everything is allowed by default.
    bias : Tensor broadcastable to (..., Nq, Nk), optional
        Added to the scores before softmax: relative positions, for example.

    Returns
    -------
    output : Tensor of shape (..., Nq, Dv)
    attention : Tensor of shape (..., Nq, Nk)
        Each row sums to 1, or to 0 for fully masked queries.

    Raises
    ------
    InvalidInputError
        The shapes or dtypes do not fit together, or the mask is not boolean.

    Notes
    -----
    .. math:: A = \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{D}} + M\right), \quad O = A V

    with :math:`M` 0 where attending is allowed and :math:`-\infty` where it is not. Products of
    independent entries of variance 1 have variance :math:`D`; the root brings scores back to
    variance 1, where softmax still has a gradient. The cost is :math:`O(N_q N_k D)` time and
    :math:`O(N_q N_k)` memory.

    What is masked throughout may hold NaN: neither outputs nor gradients contain it.

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
    _check_inputs(query, key, value, mask, bias)
    if mask is not None:
        mask = torch.atleast_2d(mask)
        # what is masked for all is set to zero, so that 0 x NaN never happens
        attends, attended = mask.any(dim=-1), mask.any(dim=-2)  # (..., Nq), (..., Nk)
        query = zero_missing(query, attends)
        key, value = zero_missing(key, attended), zero_missing(value, attended)
    scores = query @ key.mT / math.sqrt(query.shape[-1])  # (..., Nq, Nk)
    if bias is not None:
        scores = scores + bias
    attention = masked_softmax(scores, mask)  # (..., Nq, Nk)
    return attention @ value, attention  # (..., Nq, Dv)


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the last axis among the allowed entries; a row with none of them is all zeros.

    Parameters
    ----------
    scores : Tensor of shape (..., Nq, Nk)
    mask : bool Tensor broadcastable to the shape of ``scores``, optional
        True where attending is allowed.

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


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention on torch's fused kernel, which never forms the (Nq, Nk) matrix.

    Parameters
    ----------
    query, key, value : Tensor of shape (..., Nq, D), (..., Nk, D), (..., Nk, Dv)
        With the same leading axes; finite, also where they are masked.
    mask, bias : Tensor broadcastable to (..., Nq, Nk), optional
        As in :func:`crossattn.scaled_dot_product_attention`.

    Raises
    ------
    InvalidInputError
        As :func:`crossattn.scaled_dot_product_attention`.

    Built in chapter: Multi-head cross-asset attention
    """
    _check_inputs(query, key, value, mask, bias)
    empty = None
    if mask is not None:
        mask = torch.atleast_2d(mask)
        # The kernel has no answer for a fully masked row on some devices, so such rows are opened
        # for it and their output is set to zero. On a CPU it costs little to see that there is no
        # such row; on a GPU the question would make the kernels wait, and a graph cannot ask it.
        rows = mask.any(dim=-1, keepdim=True)  # (..., Nq, 1)
        asks = mask.device.type == "cpu" and not torch.compiler.is_exporting()
        if not asks or not rows.all():
            empty = ~rows
            mask = mask | empty
        bias = mask if bias is None else torch.where(mask, bias, -math.inf)
    leading = query.shape[:-3]
    output = F.scaled_dot_product_attention(
        *(_four_axes(x, leading) for x in (query, key, value)), attn_mask=_four_axes(bias, leading)
    )
    output = output.unflatten(0, leading) if len(leading) > 1 else output
    return output if empty is None else output.masked_fill(empty, 0.0)


def _four_axes(x: Tensor | None, leading: torch.Size) -> Tensor | None:
    """(*leading | 1, H, N, D) -> (product of leading | 1, H, N, D); fewer axes stay as they are."""
    if x is None or x.dim() <= 4:
        return x
    if any(size > 1 for size in x.shape[:-3]):
        x = x.expand(*leading, -1, -1, -1)
    return x.flatten(0, -4)


def _check_inputs(query, key, value, mask, bias):
    for name, tensor in [("query", query), ("key", key), ("value", value)]:
        if not isinstance(tensor, Tensor) or tensor.dim() < 2 or not tensor.is_floating_point():
            got = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else ""
            raise InvalidInputError(
                f"{name} must be a floating-point tensor (..., tokens, width), got "
                f"{got or type(tensor).__name__}"
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
    check_type("bias", bias, Tensor | None, "a tensor")
    floats = [x for x in (query, key, value, bias) if x is not None]
    dtypes = {x.dtype for x in floats}
    if len(dtypes) > 1 and not torch.is_autocast_enabled(query.device.type):
        raise InvalidInputError(
            f"query, key, value and bias must have one dtype, got {[x.dtype for x in floats]}"
        )
    scores = (query.shape[-2], key.shape[-2])
    shapes = [x.shape[:-2] + scores for x in (query, key, value)]
    shapes += [x.shape for x in (mask, bias) if x is not None]
    # by hand: torch.broadcast_shapes takes as long as a small attention
    columns = itertools.zip_longest(*map(reversed, shapes), fillvalue=1)
    sizes = [[n for n in column if n != 1] or [1] for column in columns]
    if any(n != axis[0] for axis in sizes for n in axis) or scores != (sizes[1][0], sizes[0][0]):
        raise InvalidInputError(
            "query, key, value, mask and bias must broadcast to one shape of scores "
            f"(..., {scores[0]}, {scores[1]}), got {[tuple(shape) for shape in shapes]}"
        )
