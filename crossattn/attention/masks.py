"""Attention masks: pair masks and token masks, brought to one shape.

Inside the package a mask has the axes (batch, time, heads, queries, keys), each of its own size or
1. True means *may attend*, as in :func:`torch.nn.functional.scaled_dot_product_attention` and
opposite to :class:`torch.nn.MultiheadAttention`.
"""

import torch
from torch import Tensor

from crossattn.attention._checks import check_mask
from crossattn.errors import InvalidInputError


def pair_mask(mask: Tensor | None, sizes: tuple[int, int, int, int, int]) -> Tensor | None:
    """Bring a mask of pairs to (B|1, T|1, H|1, Nq|1, Nk|1); ``sizes`` are (B, H, T, Nq, Nk)."""
    if mask is None:
        return None
    check_mask(mask)
    batch, n_heads, n_steps, n_queries, n_keys = sizes
    wanted = {
        2: (n_queries, n_keys),
        3: (batch, n_queries, n_keys),
        4: (batch, n_steps, n_queries, n_keys),
        5: (batch, n_heads, n_steps, n_queries, n_keys),
    }.get(mask.dim())
    if wanted is None or not _fits(mask, wanted):
        raise InvalidInputError(
            f"mask must have shape (queries, keys)=({n_queries}, {n_keys}), (batch, queries, keys),"
            f" (batch, time, queries, keys) or (batch, heads, time, queries, keys)={sizes}; which "
            f"tokens exist goes into key_mask, query_mask; got {tuple(mask.shape)}"
        )
    if mask.dim() == 5:
        return mask.transpose(1, 2)
    if mask.dim() == 4:
        return mask.unsqueeze(2)
    return mask[..., None, None, :, :] if mask.dim() == 3 else mask[None, None, None]


def token_mask(mask: Tensor | None, shape: tuple[int, ...], name: str) -> Tensor | None:
    """Bring a mask of tokens from (B|1, N|1, T|1) to (B|1, T|1, 1, N|1)."""
    if mask is None:
        return None
    check_mask(mask, name)
    if not _fits(mask, shape):
        raise InvalidInputError(
            f"{name} must have shape (batch, assets, time)={shape}, got {tuple(mask.shape)}"
        )
    return mask.transpose(1, 2).unsqueeze(2)


def allowed_pairs(
    mask: Tensor | None,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    sizes: tuple[int, int, int, int, int],
    *,
    names: tuple[str, str] = ("query_mask", "key_mask"),
) -> Tensor | None:
    """Combine a pair mask and masks of query and key tokens; None where none is given."""
    batch, _, n_steps, n_queries, n_keys = sizes
    queries = token_mask(query_mask, (batch, n_queries, n_steps), names[0])
    keys = token_mask(key_mask, (batch, n_keys, n_steps), names[1])
    return all_of(
        pair_mask(mask, sizes),
        None if queries is None else queries.unsqueeze(-1),  # (B, T, 1, Nq, 1)
        None if keys is None else keys.unsqueeze(-2),  # (B, T, 1, 1, Nk)
    )


def not_self_mask(query_assets: Tensor, key_assets: Tensor) -> Tensor:
    """Return where query and key are different assets: (..., Nq), (..., Nk) -> (..., Nq, Nk)."""
    return query_assets[..., :, None] != key_assets[..., None, :]


def all_of(*masks: Tensor | None) -> Tensor | None:
    """Return what every given mask allows; None where none is given."""
    allowed = None
    for mask in masks:
        if mask is not None:
            allowed = mask if allowed is None else allowed & mask
    return allowed


def attending(allowed: Tensor) -> Tensor:
    """Return which queries may attend to any key, (B|1, T|1, Nq|1)."""
    return allowed.any(dim=4).any(dim=2)


def attended(allowed: Tensor) -> Tensor:
    """Return which keys any query may attend to, (B|1, T|1, Nk|1)."""
    return allowed.any(dim=3).any(dim=2)


def zero_missing(tokens: Tensor, exists: Tensor | None) -> Tensor:
    """Set tokens (..., D) that do not exist (...) to 0: they may hold NaN, and 0 x NaN is NaN."""
    return tokens if exists is None else torch.where(exists.unsqueeze(-1), tokens, 0.0)


def _fits(mask: Tensor, shape: tuple[int, ...]) -> bool:
    """Return whether each axis of the mask has the size it should have, or 1."""
    return mask.dim() == len(shape) and all(
        got in (1, size) for got, size in zip(mask.shape, shape, strict=True)
    )
