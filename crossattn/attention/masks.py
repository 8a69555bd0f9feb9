"""Who may see whom: masks of pairs and masks of tokens, brought to one shape.

Inside the room a mask has the axes (batch, time, heads, queries, keys), each of its own size or 1,
and True means *may attend*.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crossattn.errors import InvalidInputError


def check_mask(mask: Tensor | None, name: str = "mask") -> None:
    """Raise InvalidInputError unless ``mask`` is None or a boolean tensor."""
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise InvalidInputError(
            f"{name} must be a boolean tensor, True where a query may attend, got {got}"
        )


def pair_mask(mask: Tensor | None, sizes: tuple[int, ...]) -> Tensor | None:
    """Bring a mask of pairs to (B|1, T|1, H|1, Nq|1, Nk|1)."""
    if mask is None:
        return None
    check_mask(mask)
    batch, n_heads, n_steps, n_queries, n_keys = sizes
    meant = {
        2: (n_queries, n_keys),
        3: (batch, n_queries, n_keys),
        4: (batch, n_steps, n_queries, n_keys),
        5: (batch, n_heads, n_steps, n_queries, n_keys),
    }.get(mask.dim())
    if meant is None or not _fits(mask, meant):
        raise InvalidInputError(
            f"mask must have shape (queries, keys)=({n_queries}, {n_keys}), (batch, queries, keys),"
            f" (batch, time, queries, keys) or (batch, heads, time, queries, keys)={sizes}; which "
            f"tokens exist goes into key_mask, query_mask; got {tuple(mask.shape)}"
        )
    if mask.dim() == 5:
        return mask.transpose(1, 2)
    if mask.dim() == 4:
        return mask.unsqueeze(2)
    if mask.dim() == 2:
        mask = mask.unsqueeze(0)
    return mask[:, None, None]


def token_mask(mask, shape, name, *, as_key):
    """Bring a mask of tokens (B, N, T) to (B, T, 1, 1, N) for keys, (B, T, 1, N, 1) for queries."""
    if mask is None:
        return None
    check_mask(mask, name)
    if not _fits(mask, shape):
        raise InvalidInputError(
            f"{name} must have shape (batch, assets, time)={shape}, got {tuple(mask.shape)}"
        )
    by_bar = mask.transpose(1, 2).unsqueeze(2)  # (B, T, 1, N)
    return by_bar.unsqueeze(3 if as_key else 4)


def _fits(mask: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether each axis of the mask has the size it should have, or 1."""
    return mask.dim() == len(shape) and all(
        got in (1, size) for got, size in zip(mask.shape, shape, strict=True)
    )


def all_of(masks: list[Tensor | None]) -> Tensor | None:
    """Allowed by every mask that is given; None where none is."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    allowed = given[0]
    for mask in given[1:]:
        allowed = allowed & mask
    return allowed


def used(allowed: Tensor, *, keys: bool) -> Tensor:
    """Which tokens take part at all: (B|1, N|1, T|1, 1)."""
    taking_part = allowed.any(dim=3 if keys else 4).any(dim=2)  # (B|1, T|1, N|1)
    return taking_part.transpose(1, 2).unsqueeze(-1)


def per_bar(allowed: Tensor | None, batch: int, n_steps: int) -> Tensor | None:
    """(B|1, T|1, H|1, Nq|1, Nk|1) -> (B T | 1, H|1, Nq|1, Nk|1)."""
    if allowed is None:
        return None
    if allowed.shape[:2] != (1, 1):
        allowed = allowed.expand(batch, n_steps, -1, -1, -1)
    return allowed.flatten(0, 1)
