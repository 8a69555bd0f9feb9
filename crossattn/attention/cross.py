"""Cross-asset attention: at each bar every query asset attends to the key assets of that bar.

Time is not mixed: a query at step t attends to the keys of step t. Looking back in time belongs to
:mod:`crossattn.attention.temporal` and :mod:`crossattn.attention.lagged`.
"""

import math

import torch
from torch import Tensor, nn

from crossattn.attention._checks import (
    check_asset_numbers,
    check_mask,
    check_token_pair,
    check_tokens,
)
from crossattn.attention._projections import HeadProjections
from crossattn.attention.functional import Normalise, fused_attention, masked_softmax
from crossattn.attention.masks import (
    all_of,
    allowed_pairs,
    attended,
    attending,
    not_self_mask,
    zero_missing,
)


class MultiHeadCrossAttention(HeadProjections):
    """Multi-head cross-attention between assets, bar by bar; in masks True means *may attend*.

    With asset embeddings a head can learn that *this* asset follows *that* one; without them it
    only compares what the tokens contain.

    Parameters
    ----------
    d_model : int
        Width D of the tokens, a multiple of ``n_heads``.
    n_heads : int
        Number of heads H; each works in width d = D / H.
    dropout : float
        On the output in training; the attention itself is never dropped.
    n_assets : int, optional
        Number of assets with embeddings: one is added to an asset's query, one to its key, none to
        its value.
    exclude_self : bool
        Forbid an asset to attend to itself, so that a leader is always another asset.
    normalise : callable, optional
        ``normalise(scores, mask)`` in place of softmax, for example
        ``functools.partial(top_k_softmax, k=3)`` from :mod:`crossattn.attention.sparse`. No kernel
        fuses it.

    Notes
    -----
    There is no output or key bias, no residual connection and no normalisation inside: fully masked
    rows are exactly zero, and the block around the layer adds the rest.

    Time is O(B T N_q N_k D); without ``return_attention`` no map of that size is formed.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need".

    Examples
    --------
    >>> layer = MultiHeadCrossAttention(d_model=8, n_heads=2, n_assets=3, exclude_self=True)
    >>> output, attention = layer(torch.zeros(4, 3, 5, 8), torch.zeros(4, 3, 5, 8))
    >>> output.shape, attention.shape
    (torch.Size([4, 3, 5, 8]), torch.Size([4, 2, 5, 3, 3]))

    Built in chapter: Multi-head cross-asset attention
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout: float = 0.1,
        *,
        n_assets: int | None = None,
        exclude_self: bool = False,
        normalise: Normalise | None = None,
    ) -> None:
        super().__init__(d_model, n_heads, dropout, n_assets)
        self.exclude_self, self.normalise = exclude_self, normalise
        self.reset_parameters()

    def forward(
        self,
        x_query: Tensor,
        x_key_value: Tensor,
        mask: Tensor | None = None,
        *,
        query_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        query_assets: Tensor | None = None,
        key_assets: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from each query asset over the key assets, bar by bar.

        Parameters
        ----------
        x_query : Tensor of shape (B, Nq, T, D)
            Tokens of the followers, known at the close of their bar.
        x_key_value : Tensor of shape (B, Nk, T, D)
            Tokens of the leaders at the same bars.
        mask : bool Tensor of shape (Nq, Nk), (B, Nq, Nk), (B, T, Nq, Nk) or (B, H, T, Nq, Nk)
            True where a query asset may attend to a key asset; any axis may have size 1.
        query_mask, key_mask : bool Tensor of shape (B, Nq, T) and (B, Nk, T), optional
            True where a token exists, as ``CrossAttentionData.mask``; a missing one may hold NaN.
        query_assets, key_assets : int Tensor of shape (Nq,), (Nk,), (B, Nq) or (B, Nk), optional
            Which asset is at each position, for asset embeddings and ``exclude_self``; by default
            position i holds asset i.
        return_attention : bool
            False computes the same output on the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, Nq, T, D)
            Exactly 0 for fully masked queries.
        attention : Tensor of shape (B, H, T, Nq, Nk) or None
            Rows sum to 1, or to 0 where all is masked.
        """
        check_token_pair(x_query, x_key_value, self.d_model)
        x_query, x_key_value = x_query.transpose(1, 2), x_key_value.transpose(1, 2)  # (B, T, N, D)
        batch, n_steps, n_queries, n_keys = *x_query.shape[:3], x_key_value.shape[2]
        # (B|1, Nq) and (B|1, Nk), or None where asset i is at position i
        query_assets = check_asset_numbers("query_assets", query_assets, x_query, self.n_assets)
        key_assets = check_asset_numbers("key_assets", key_assets, x_key_value, self.n_assets)
        sizes = (batch, self.n_heads, n_steps, n_queries, n_keys)
        allowed = allowed_pairs(mask, query_mask, key_mask, sizes)  # (B|1, T|1, H|1, Nq|1, Nk|1)
        tokens_may_be_missing = allowed is not None
        if self.exclude_self:
            allowed = all_of(allowed, self._not_self(query_assets, key_assets, n_queries, n_keys))
        if tokens_may_be_missing:  # they may hold NaN, and 0 x NaN is NaN
            x_query = zero_missing(x_query, attending(allowed))
            x_key_value = zero_missing(x_key_value, attended(allowed))

        query, key, value = self.project(x_query, x_key_value, query_assets, key_assets)
        query, key, value = map(self.split_heads, (query, key, value))  # (B, T, H, N, d)
        if return_attention or self.normalise is not None:
            scores = query @ key.mT / math.sqrt(self.head_width)  # (B, T, H, Nq, Nk)
            attention = (self.normalise or masked_softmax)(scores, allowed)
            mixed = attention @ value  # (B, T, H, Nq, d)
        else:  # the same numbers without forming the (Nq, Nk) map
            mixed = fused_attention(query, key, value, allowed)
        output = self.merge_heads(mixed).transpose(1, 2)  # (B, Nq, T, D)
        return output, attention.transpose(1, 2) if return_attention else None

    def _not_self(self, query_assets, key_assets, n_queries: int, n_keys: int) -> Tensor:
        """Return where a pair is two different assets, (B|1, 1, 1, Nq, Nk)."""
        device = self.query_projection.weight.device
        if query_assets is None:
            query_assets = torch.arange(n_queries, device=device)[None]
        if key_assets is None:
            key_assets = torch.arange(n_keys, device=device)[None]
        return not_self_mask(query_assets, key_assets)[:, None, None]


class CrossAssetAttention(nn.Module):
    """Cross-attention from one query asset to several key assets, bar by bar.

    Parameters
    ----------
    d_model, n_heads : int
        Width of the tokens and number of heads, as in :class:`crossattn.MultiHeadCrossAttention`.
    dropout : float
        Dropout on the output in training.

    Examples
    --------
    >>> layer = CrossAssetAttention(d_model=8, n_heads=2)
    >>> output, attention = layer(torch.zeros(4, 5, 8), torch.zeros(4, 3, 5, 8))
    >>> output.shape, attention.shape
    (torch.Size([4, 5, 8]), torch.Size([4, 2, 5, 1, 3]))

    Built in chapter: Multi-head cross-asset attention
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = MultiHeadCrossAttention(d_model, n_heads, dropout)

    def forward(
        self,
        query_asset: Tensor,
        key_value_assets: Tensor,
        mask: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from one asset over the others, bar by bar.

        Parameters
        ----------
        query_asset : Tensor of shape (B, T, D)
            Tokens of the asset to predict, known at the close of their bar.
        key_value_assets : Tensor of shape (B, M, T, D)
            Tokens of the M assets that may lead it, at the same bars.
        mask : bool Tensor of shape (M,), (B, M), (B, T, M) or (B, H, T, 1, M), optional
            True where the query asset may attend.
        key_mask : bool Tensor of shape (B, M, T), optional
            True where a token exists; the others may hold NaN.
        return_attention : bool
            False takes the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, T, D)
        attention : Tensor of shape (B, H, T, 1, M) or None
            The axis of size 1 is the one query asset; rows sum to 1, or to 0 where all is masked.
        """
        width = self.attention.d_model
        check_tokens("query_asset", query_asset, width, axes=("batch", "time"))
        batch, time, _ = query_asset.shape
        check_tokens("key_value_assets", key_value_assets, width, axes=(batch, "assets", time))
        check_mask(mask)
        if mask is not None and mask.dim() <= 3:
            mask = mask.unsqueeze(-2)  # (M,), (B, M) and (B, T, M) lack the axis of the one query
        output, attention = self.attention(
            query_asset.unsqueeze(1),
            key_value_assets,
            mask,
            key_mask=key_mask,
            return_attention=return_attention,
        )
        return output.squeeze(1), attention
