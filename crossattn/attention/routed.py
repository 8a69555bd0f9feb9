"""Routed cross-attention: assets attend through a few learned routers instead of to all pairs."""

import math

import torch
from torch import Tensor, nn

from crossattn._validation import check_int
from crossattn.attention._checks import check_token_pair
from crossattn.attention._projections import HeadProjections
from crossattn.attention.functional import masked_softmax
from crossattn.attention.masks import token_mask, zero_missing


class RoutedCrossAttention(HeadProjections):
    """Cross-attention in two short steps, assets to routers and routers to assets, for many assets.

    Each router, a learned query, attends over the key assets and collects a mean key and a mean
    value; each query asset attends over the routers. R routers cost O(N R) instead of O(N²), and
    the map between assets has rank R at most.

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
        Number of assets with embeddings, as in ``MultiHeadCrossAttention``.

    Notes
    -----
    The two maps multiply to one, :math:`A = A_2 A_1`, and the output is exactly :math:`A` times the
    values. Rank R cannot leave out single pairs, so there is no mask of pairs and no
    ``exclude_self``.

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
        super().__init__(d_model, n_heads, dropout, n_assets)
        check_int("n_routers", n_routers)
        self.router_query = nn.Parameter(torch.empty(n_heads, n_routers, self.head_width))
        self.router_key = nn.Parameter(torch.empty(n_heads, n_routers, self.head_width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's generator."""
        # The range of torch.nn.Linear: with wider weights some routers stay on the same few assets.
        super().reset_parameters(gain=3**-0.5)
        nn.init.normal_(self.router_query)
        nn.init.normal_(self.router_key)

    def forward(
        self,
        x_query: Tensor,
        x_key_value: Tensor,
        *,
        query_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from each query asset to the key assets through the routers, bar by bar.

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
        """
        check_token_pair(x_query, x_key_value, self.d_model, self.n_assets)
        queries = token_mask(query_mask, x_query.shape[:3], "query_mask")  # (B, T, 1, Nq)
        keys = token_mask(key_mask, x_key_value.shape[:3], "key_mask")  # (B, T, 1, Nk)
        x_query = zero_missing(x_query, query_mask).transpose(1, 2)  # (B, T, Nq, D)
        x_key_value = zero_missing(x_key_value, key_mask).transpose(1, 2)  # (B, T, Nk, D)

        query, key, value = self.project(x_query, x_key_value)  # (B, T, N, D)
        query, key, value = map(self.split_heads, (query, key, value))  # (B, T, H, N, d)
        # Routers attend to assets: a mean key and a mean value for each router.
        scores = self.router_query @ key.mT / math.sqrt(self.head_width)  # (B, T, H, R, Nk)
        to_router = masked_softmax(scores, None if keys is None else keys.unsqueeze(-2))
        routed_key = to_router @ key + self.router_key  # (B, T, H, R, d)
        routed_value = to_router @ value  # (B, T, H, R, d), 0 where every key is missing
        # Assets attend to routers.
        scores = query @ routed_key.mT / math.sqrt(self.head_width)  # (B, T, H, Nq, R)
        from_router = masked_softmax(scores, None if queries is None else queries.unsqueeze(-1))
        mixed = from_router @ routed_value  # (B, T, H, Nq, d)
        output = self.merge_heads(mixed).transpose(1, 2)  # (B, Nq, T, D)
        if not return_attention:
            return output, None
        return output, (from_router @ to_router).transpose(1, 2)  # (B, H, T, Nq, Nk)
