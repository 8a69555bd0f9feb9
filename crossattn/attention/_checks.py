"""Validate the arguments of attention layers: widths, dropout, tokens, masks, asset numbers."""

import torch
from torch import Tensor

from crossattn._validation import check_float, check_int, check_shape
from crossattn.errors import InvalidInputError


def check_sizes(**sizes: int) -> None:
    """Refuse a size, named as its argument, that is not a positive integer."""
    for name, size in sizes.items():
        check_int(name, size)


def check_heads(d_model: int, n_heads: int) -> int:
    """Return the width of one head, or refuse a width that the heads do not divide."""
    if check_int("d_model", d_model) % check_int("n_heads", n_heads):
        raise InvalidInputError(f"d_model must be a multiple of n_heads={n_heads}, got {d_model}")
    return d_model // n_heads


def check_dropout(dropout: float) -> float:
    """Return ``dropout``, or refuse what is not in [0, 1)."""
    return check_float("dropout", dropout, at_least=0.0, below=1.0)


def check_tokens(
    name: str,
    tokens: Tensor,
    d_model: int,
    n_assets: int | None = None,
    *,
    axes: tuple[int | str, ...] = ("batch", "assets", "time"),
) -> None:
    """Refuse what is not a floating-point tensor of shape (*axes, d_model)."""
    if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
        raise InvalidInputError(f"{name} must be a floating-point tensor, got {_kind(tokens)}")
    check_shape(name, tokens, *axes, d_model)
    if n_assets not in (None, tokens.shape[1]):
        raise InvalidInputError(f"{name} must have {n_assets=} assets, got {tokens.shape[1]}")


def check_token_pair(
    x_query: Tensor,
    x_key_value: Tensor,
    d_model: int,
    n_assets: int | None = None,
    *,
    longer_keys: bool = False,
) -> None:
    """Refuse tokens of queries and keys that do not share batch and time.

    With ``n_assets`` both must be of so many assets; with ``longer_keys`` the keys may have steps
    before the first query's.
    """
    check_tokens("x_query", x_query, d_model, n_assets)
    check_tokens("x_key_value", x_key_value, d_model, n_assets)
    extra_steps = x_key_value.shape[2] - x_query.shape[2]
    if len(x_key_value) != len(x_query) or extra_steps < 0 or (extra_steps and not longer_keys):
        wanted = "at least its steps" if longer_keys else "its time"
        raise InvalidInputError(
            f"x_key_value must have the batch of x_query and {wanted}, "
            f"got {tuple(x_key_value.shape)} for {tuple(x_query.shape)}"
        )


def check_mask(mask: Tensor | None, name: str = "mask") -> None:
    """Refuse what is neither None nor a boolean tensor."""
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        raise InvalidInputError(f"{name} must be a boolean tensor (True allows), got {_kind(mask)}")


def check_asset_numbers(
    name: str, assets: Tensor | None, x: Tensor, n_assets: int | None
) -> Tensor | None:
    """Return the asset of each token of x (B, T, n, D), (B|1, n); None (asset i at i) stays."""
    batch, n = len(x), x.shape[2]
    if assets is None:
        if n_assets is not None and n > n_assets:
            raise InvalidInputError(
                f"{name} is required: {n} tokens, but only n_assets={n_assets} asset embeddings"
            )
        return None
    assets = torch.as_tensor(assets)
    if assets.is_floating_point() or assets.shape not in [(n,), (1, n), (batch, n)]:
        raise InvalidInputError(
            f"{name} must be integers of shape ({n},) or ({batch}, {n}), "
            f"got {assets.dtype} of shape {tuple(assets.shape)}"
        )
    readable = not torch.compiler.is_exporting()  # an export branches on no value
    if n_assets is not None and readable and (assets.min() < 0 or assets.max() >= n_assets):
        raise InvalidInputError(
            f"{name} must be assets 0..{n_assets - 1} (n_assets={n_assets}), "
            f"got {int(assets.min())}..{int(assets.max())}"
        )
    return torch.atleast_2d(assets).to(x.device)


def _kind(value: object) -> object:
    return value.dtype if isinstance(value, Tensor) else type(value).__name__
