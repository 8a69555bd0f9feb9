"""Attention for many assets: through a few learned routers instead of all pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossattn.attention.cross import IDENTITY_SCALE
from crossattn.attention.functional import (
    attend,
    check_dropout,
    check_heads,
    check_positive,
    check_tokens,
)
from crossattn.attention.masks import per_bar, token_mask
from crossattn.errors import InvalidInputError


class RoutedCrossAttention(nn.Module):
    """Two short attentions in place of a long one: assets to routers, routers to assets.

    A router is a learned query. First each router attends over the key assets and collects a mean
    key and a mean value; then each query asset attends over the routers. With R routers that is
    O(N R) work instead of O(N²), and the map between assets has rank R at most.

    Parameters
    ----------
    d_model : int
        Width D of the tokens, a multiple of ``n_heads``.
    n_heads : int
        Number of heads H.
    n_routers : int
        Number of routers R of each head.
    dropout : float
        Dropout on the output in training.
    n_assets : int, optional
        Number of assets that have an identity, as in ``MultiHeadCrossAttention``.

    Notes
    -----
    The two maps multiply to one, :math:`A = A_2 A_1`, and the output is exactly
    :math:`A` times the values: what is reported is what was used. A product of rank R cannot leave
    out single pairs, so this layer has masks of tokens but none of pairs, and self is not excluded.

    References
    ----------
    Zhang and Yan (2023), "Crossformer: Transformer Utilizing Cross-Dimension Dependency for
    Multivariate Time Series Forecasting", its router; Lee et al. (2019), "Set Transformer", its
    inducing points.

    Examples
    --------
    >>> layer = RoutedCrossAttention(d_model=8, n_heads=2, n_routers=3)
    >>> output, attention = layer(torch.zeros(4, 6, 5, 8), torch.zeros(4, 7, 5, 8))
    >>> output.shape, attention.shape
    (torch.Size([4, 6, 5, 8]), torch.Size([4, 2, 5, 6, 7]))

    Built in chapter: Many assets
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_routers: int = 8,
        dropout: float = 0.1,
        *,
        n_assets: int | None = None,
    ) -> None:
        super().__init__()
        self.head_width = check_heads(d_model, n_heads)
        check_positive(n_routers=n_routers)
        self.d_model, self.n_heads, self.n_assets = d_model, n_heads, n_assets
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_projection = nn.Linear(d_model, d_model, bias=False)
        self.value_projection = nn.Linear(d_model, d_model)
        self.output_projection = nn.Linear(d_model, d_model, bias=False)
        self.dropout = nn.Dropout(check_dropout(dropout))
        self.router_query = nn.Parameter(torch.empty(n_heads, n_routers, self.head_width))
        self.router_key = nn.Parameter(torch.empty(n_heads, n_routers, self.head_width))
        nn.init.normal_(self.router_query)
        nn.init.normal_(self.router_key)
        if n_assets is not None:
            check_positive(n_assets=n_assets)
            self.follower_identity = nn.Parameter(torch.empty(n_assets, d_model))
            self.leader_identity = nn.Parameter(torch.empty(n_assets, d_model))
            nn.init.normal_(self.follower_identity, std=IDENTITY_SCALE)
            nn.init.normal_(self.leader_identity, std=IDENTITY_SCALE)

    def forward(
        self,
        x_query: Tensor,
        x_key_value: Tensor,
        *,
        query_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Let each query asset attend over the key assets through the routers, bar by bar.

        Parameters
        ----------
        x_query, x_key_value : Tensor of shape (B, Nq, T, D) and (B, Nk, T, D)
            Tokens, known at the close of their bar.
        query_mask, key_mask : bool Tensor of shape (B, Nq, T) and (B, Nk, T), optional
            True where a token exists; the others may hold NaN.
        return_attention : bool
            False never forms the (Nq, Nk) map: that is what the layer is for.

        Returns
        -------
        output : Tensor of shape (B, Nq, T, D)
        attention : Tensor of shape (B, H, T, Nq, Nk) or None
            Rows sum to 1, or to 0 where the query or every key is missing.

        Raises
        ------
        InvalidInputError
            Shapes do not fit.
        """
        for name, tokens in [("x_query", x_query), ("x_key_value", x_key_value)]:
            check_tokens(name, tokens, self.d_model)
            if self.n_assets not in (None, tokens.shape[1]):
                raise InvalidInputError(
                    f"{name} must have n_assets={self.n_assets} assets, got {tokens.shape[1]}"
                )
        batch, n_queries, n_steps, _ = x_query.shape
        query_tokens = (batch, n_queries, n_steps)
        key_tokens = (batch, x_key_value.shape[1], n_steps)
        listens = token_mask(query_mask, query_tokens, "query_mask", as_key=False)
        speaks = token_mask(key_mask, key_tokens, "key_mask", as_key=True)
        if query_mask is not None:
            x_query = torch.where(query_mask.unsqueeze(-1), x_query, 0.0)
        if key_mask is not None:
            x_key_value = torch.where(key_mask.unsqueeze(-1), x_key_value, 0.0)

        query, key, value = self._project(x_query, x_key_value)  # (B T, H, N, D / H)
        routers = self.router_query.expand(len(key), -1, -1, -1)
        collected, to_router = attend(
            routers,
            key,
            torch.cat([key, value], dim=-1),
            per_bar(speaks, batch, n_steps),
            return_attention=return_attention,
        )  # (B T, H, R, 2 D / H), (B T, H, R, Nk)
        routed_key, routed_value = collected.chunk(2, dim=-1)
        # A router that heard nobody has nothing to pass on: where all keys are missing its value
        # is zero, and so must be what is reported, which the product of both maps sees to.
        output, from_router = attend(
            query,
            routed_key + self.router_key,
            routed_value,
            per_bar(listens, batch, n_steps),
            return_attention=return_attention,
        )  # (B T, H, Nq, D / H), (B T, H, Nq, R)
        output = output.transpose(1, 2).reshape(batch, n_steps, n_queries, self.d_model)
        output = self.dropout(self.output_projection(output)).transpose(1, 2)
        if not return_attention:
            return output, None
        attention = (from_router @ to_router).unflatten(0, (batch, n_steps))
        return output, attention.transpose(1, 2)

    def _project(self, x_query, x_key_value):
        query = self.query_projection(x_query.transpose(1, 2))  # (B, T, Nq, D)
        key = self.key_projection(x_key_value.transpose(1, 2))
        value = self.value_projection(x_key_value.transpose(1, 2))
        if self.n_assets is not None:
            query, key = query + self.follower_identity, key + self.leader_identity
        heads = (self.n_heads, self.head_width)
        return [
            tokens.unflatten(-1, heads).flatten(0, 1).transpose(1, 2)
            for tokens in (query, key, value)
        ]
