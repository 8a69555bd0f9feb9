"""Cross-asset attention: at each bar every query asset looks at the other assets' tokens.

Time is never mixed here. A query at step t sees the key assets' tokens of step t and no other, so
whatever is causal before these layers is causal after them; looking back in time belongs to the
temporal layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossattn.attention.functional import (
    Normalise,
    attend,
    check_dropout,
    check_heads,
    check_positive,
    check_tokens,
)
from crossattn.attention.masks import all_of, check_mask, pair_mask, per_bar, token_mask, used
from crossattn.errors import InvalidInputError

IDENTITY_SCALE = 0.5


class MultiHeadCrossAttention(nn.Module):
    """Several heads, each with its own idea of which assets answer which.

    Every query asset attends over the key assets of the same bar. With identities a head can learn
    that *this* asset follows *that* one whatever the two look like at the moment; without them it
    can only compare what the tokens contain.

    Parameters
    ----------
    d_model : int
        Width D of the tokens, a multiple of ``n_heads``.
    n_heads : int
        Number of heads H; each works in width D / H.
    dropout : float
        Dropout on the output in training. The attention itself is never dropped: what is reported
        is what was used, and the fused kernel stays available.
    n_assets : int, optional
        Number of assets that have an identity. A learned vector for each asset as a follower is
        added to its query, one for it as a leader to its key; values carry none.
    exclude_self : bool
        Forbid an asset to attend to itself, so that "who leads" never means "myself".
    normalise : callable, optional
        ``normalise(scores, mask)`` in place of softmax, for example
        ``functools.partial(top_k_softmax, k=3)`` from :mod:`crossattn.attention.sparse`.

    Raises
    ------
    InvalidInputError
        ``d_model`` is no multiple of ``n_heads``, or a number is out of range.

    Notes
    -----
    The output projection and the key projection have no bias. A bias on the keys moves all scores
    of a query alike, which softmax does not see; a bias on the output would speak where the
    attention says "nobody". The value bias does what an output bias would do, for rows that sum
    to 1. For the same reason there is no residual connection and no normalisation inside: the block
    around the layer adds them.

    One call costs O(B T N_q N_k D) time; without ``return_attention`` it needs no memory of
    that size.

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
        super().__init__()
        self.head_width = check_heads(d_model, n_heads)
        self.d_model, self.n_heads = d_model, n_heads
        self.n_assets, self.exclude_self, self.normalise = n_assets, exclude_self, normalise
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_projection = nn.Linear(d_model, d_model, bias=False)
        self.value_projection = nn.Linear(d_model, d_model)
        self.output_projection = nn.Linear(d_model, d_model, bias=False)
        self.dropout = nn.Dropout(check_dropout(dropout))
        if n_assets is not None:
            check_positive(n_assets=n_assets)
            self.follower_identity = nn.Parameter(torch.empty(n_assets, d_model))
            self.leader_identity = nn.Parameter(torch.empty(n_assets, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's generator."""
        for projection in [self.query_projection, self.key_projection, self.value_projection]:
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)
        nn.init.xavier_uniform_(self.output_projection.weight)
        if self.n_assets is not None:
            nn.init.normal_(self.follower_identity, std=IDENTITY_SCALE)
            nn.init.normal_(self.leader_identity, std=IDENTITY_SCALE)

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
        """Let each query asset attend over the key assets, bar by bar.

        Parameters
        ----------
        x_query : Tensor of shape (B, Nq, T, D)
            Tokens of the followers, known at the close of their bar.
        x_key_value : Tensor of shape (B, Nk, T, D)
            Tokens of the leaders at the same bars.
        mask : bool Tensor of shape (Nq, Nk), (B, Nq, Nk), (B, T, Nq, Nk) or (B, H, T, Nq, Nk)
            True where a query asset may attend to a key asset; any axis may have size 1.
        query_mask, key_mask : bool Tensor of shape (B, Nq, T) and (B, Nk, T), optional
            True where a token exists: the shape of ``CrossAttentionData.mask``. Nobody attends to
            a missing token (a missing bar, an asset not yet listed, padding), and a missing query
            attends to nobody. Such tokens may hold NaN.
        query_assets, key_assets : int Tensor of shape (Nq,), (Nk,), (B, Nq) or (B, Nk), optional
            Which asset sits at which position, for identities and ``exclude_self``; by default
            position i holds asset i.
        return_attention : bool
            False computes the same output on the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, Nq, T, D)
            Exactly 0 where a query may attend to nobody.
        attention : Tensor of shape (B, H, T, Nq, Nk) or None
            Rows sum to 1, or to 0 where all is masked.

        Raises
        ------
        InvalidInputError
            Shapes or types do not fit.
        """
        batch, n_queries, n_steps = self._check_tokens(x_query, x_key_value)
        n_keys = x_key_value.shape[1]
        query_assets = self._positions(query_assets, batch, n_queries, "query_assets")
        key_assets = self._positions(key_assets, batch, n_keys, "key_assets")
        sizes = (batch, self.n_heads, n_steps, n_queries, n_keys)
        tokens_may_be_missing = any(m is not None for m in (mask, query_mask, key_mask))
        allowed = all_of(
            [
                pair_mask(mask, sizes),
                token_mask(query_mask, (batch, n_queries, n_steps), "query_mask", as_key=False),
                token_mask(key_mask, (batch, n_keys, n_steps), "key_mask", as_key=True),
                self._others(query_assets, key_assets, n_queries, n_keys),
            ]
        )  # (B|1, T|1, H|1, Nq|1, Nk|1)
        if tokens_may_be_missing:
            x_query = torch.where(used(allowed, keys=False), x_query, 0.0)
            x_key_value = torch.where(used(allowed, keys=True), x_key_value, 0.0)

        query = self.query_projection(x_query.transpose(1, 2))  # (B, T, Nq, D)
        key = self.key_projection(x_key_value.transpose(1, 2))  # (B, T, Nk, D)
        value = self.value_projection(x_key_value.transpose(1, 2))
        if self.n_assets is not None:
            query = query + _of(self.follower_identity, query_assets, n_queries)
            key = key + _of(self.leader_identity, key_assets, n_keys)
        output, attention = attend(
            self._split_heads(query),
            self._split_heads(key),
            self._split_heads(value),
            per_bar(allowed, batch, n_steps),
            normalise=self.normalise,
            return_attention=return_attention,
        )  # (B T, H, Nq, D / H), (B T, H, Nq, Nk)
        output = output.transpose(1, 2).reshape(batch, n_steps, n_queries, self.d_model)
        output = self.dropout(self.output_projection(output)).transpose(1, 2)  # (B, Nq, T, D)
        if attention is not None:
            attention = attention.unflatten(0, (batch, n_steps)).transpose(1, 2)
        return output, attention

    def _others(self, query_assets, key_assets, n_queries, n_keys):
        """Where a pair is two different assets, (B|1, 1, 1, Nq, Nk); None where self is allowed."""
        if not self.exclude_self:
            return None
        device = self.query_projection.weight.device
        query_assets, key_assets = (
            torch.arange(n, device=device)[None] if assets is None else assets
            for assets, n in ((query_assets, n_queries), (key_assets, n_keys))
        )
        return (query_assets[:, :, None] != key_assets[:, None, :])[:, None, None]

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """(B, T, N, D) -> (B T, H, N, D / H): each bar of each sample is a batch of its own."""
        tokens = tokens.unflatten(-1, (self.n_heads, self.head_width))  # (B, T, N, H, D / H)
        return tokens.flatten(0, 1).transpose(1, 2)

    def _check_tokens(self, x_query, x_key_value):
        check_tokens("x_query", x_query, self.d_model)
        check_tokens("x_key_value", x_key_value, self.d_model)
        batch, n_queries, n_steps, _ = x_query.shape
        if (x_key_value.shape[0], x_key_value.shape[2]) != (batch, n_steps):
            raise InvalidInputError(
                "x_key_value must have the batch and time of x_query, "
                f"got {tuple(x_key_value.shape)} for {tuple(x_query.shape)}"
            )
        return batch, n_queries, n_steps

    def _positions(self, assets, batch, n, name):
        """Asset numbers (B|1, n) of one side; None, everybody in order, stays None."""
        if assets is None:
            if self.n_assets is not None and n > self.n_assets:
                raise InvalidInputError(
                    f"{name} must say who the {n} are: only {self.n_assets} assets have identities"
                )
            return None
        assets = torch.as_tensor(assets)
        if assets.is_floating_point() or assets.shape not in [(n,), (1, n), (batch, n)]:
            raise InvalidInputError(
                f"{name} must be integers of shape ({n},) or ({batch}, {n}), "
                f"got {assets.dtype} of shape {tuple(assets.shape)}"
            )
        if self.n_assets is not None and (assets.min() < 0 or assets.max() >= self.n_assets):
            raise InvalidInputError(
                f"{name} must name assets 0..{self.n_assets - 1} (n_assets={self.n_assets}), "
                f"got {int(assets.min())}..{int(assets.max())}"
            )
        return torch.atleast_2d(assets).to(self.query_projection.weight.device)


def _of(identities: Tensor, assets: Tensor | None, n: int) -> Tensor:
    """Identities of the assets at n positions, (B, 1, n, D) or (n, D); None: the first n."""
    if assets is not None:
        return identities[assets].unsqueeze(1)
    return identities if n == len(identities) else identities[:n]


class CrossAssetAttention(nn.Module):
    """One asset asks, several others answer: cross-attention as it is usually drawn.

    The query asset's token at a bar attends over the other assets' tokens *of that bar*, so an
    early bar never sees a later one.

    Parameters
    ----------
    d_model, n_heads : int
        Width of the tokens and number of heads, as in :class:`MultiHeadCrossAttention`.
    dropout : float
        Dropout on the output in training.
    n_assets : int, optional
        Number of assets that have an identity; ``forward`` then needs ``query_position``.

    Examples
    --------
    >>> layer = CrossAssetAttention(d_model=8, n_heads=2)
    >>> output, attention = layer(torch.zeros(4, 5, 8), torch.zeros(4, 3, 5, 8))
    >>> output.shape, attention.shape
    (torch.Size([4, 5, 8]), torch.Size([4, 2, 5, 1, 3]))

    Built in chapter: Multi-head cross-asset attention
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout: float = 0.0,
        *,
        n_assets: int | None = None,
    ) -> None:
        super().__init__()
        self.n_assets = n_assets
        self.attention = MultiHeadCrossAttention(d_model, n_heads, dropout, n_assets=n_assets)

    def forward(
        self,
        query_asset: Tensor,
        key_value_assets: Tensor,
        mask: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        query_position: int | None = None,
        key_positions: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Let one asset attend over the others, bar by bar.

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
        query_position : int, optional
            Which asset asks; needed with ``n_assets``.
        key_positions : int Tensor of shape (M,), optional
            Which assets answer. By default all of them in order, or, where M is one less than
            ``n_assets``, all but the query asset.
        return_attention : bool
            False takes the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, T, D)
        attention : Tensor of shape (B, H, T, 1, M) or None
            The axis of size 1 is the one query asset; rows sum to 1, or to 0 where all is masked.

        Raises
        ------
        InvalidInputError
            Shapes do not fit, or an identity is missing.
        """
        if query_asset.dim() != 3 or key_value_assets.dim() != 4:
            raise InvalidInputError(
                "query_asset must have shape (batch, time, width) and key_value_assets (batch, "
                f"assets, time, width), got {tuple(query_asset.shape)} and "
                f"{tuple(key_value_assets.shape)}"
            )
        if mask is not None:
            check_mask(mask)
            if mask.dim() <= 3:  # the axis of the one query: (M,), (B, M) and (B, T, M)
                mask = mask.unsqueeze(-2)
        query_assets, key_assets = self._identities(
            query_position, key_positions, key_value_assets.shape[1]
        )
        output, attention = self.attention(
            query_asset.unsqueeze(1),
            key_value_assets,
            mask,
            key_mask=key_mask,
            query_assets=query_assets,
            key_assets=key_assets,
            return_attention=return_attention,
        )
        return output.squeeze(1), attention

    def _identities(self, query_position, key_positions, n_keys):
        if self.n_assets is None:
            return None, None
        if query_position is None or not 0 <= query_position < self.n_assets:
            raise InvalidInputError(
                f"query_position must name the asset that asks, 0..{self.n_assets - 1}, "
                f"got {query_position!r}"
            )
        if key_positions is None and n_keys == self.n_assets - 1:
            everybody = torch.arange(self.n_assets)
            key_positions = everybody[everybody != query_position]
        return torch.tensor([query_position]), key_positions
