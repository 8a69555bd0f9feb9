"""Self-attention over time, asset by asset.

Built in chapter: The full model.
"""

import math

import torch
from torch import Tensor

from crossattn.attention._checks import check_token_pair
from crossattn.attention._projections import HeadProjections
from crossattn.attention.functional import fused_attention, masked_softmax


class TemporalSelfAttention(HeadProjections):
    """Causal self-attention over time: each asset attends to its own steps, never to later ones.

    Parameters
    ----------
    d_model, n_heads : int
        Width D, a multiple of the number of heads H.
    dropout : float
        Dropout on the output in training, never on the attention.

    Examples
    --------
    >>> x = torch.zeros(4, 3, 5, 8)
    >>> output, attention = TemporalSelfAttention(d_model=8, n_heads=2)(x[:, :, -1:], x)
    >>> output.shape, attention.shape
    (torch.Size([4, 3, 1, 8]), torch.Size([4, 3, 2, 1, 5]))
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.1) -> None:
        super().__init__(d_model, n_heads, dropout)
        self.reset_parameters()

    def forward(
        self,
        x_query: Tensor,
        x_key_value: Tensor,
        *,
        key_mask: Tensor | None = None,
        return_attention: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from the newest steps to all steps up to each.

        Parameters
        ----------
        x_query : Tensor of shape (B, N, T, D)
            The *last* T steps of the keys.
        x_key_value : Tensor of shape (B, N, S, D)
            Tokens of the same assets, S >= T; finite, also where they do not exist.
        key_mask : bool Tensor of shape (B, N, S), optional
            True where a token exists and may be attended to.
        return_attention : bool
            False takes the fused kernel and returns None as attention.

        Returns
        -------
        output : Tensor of shape (B, N, T, D)
        attention : Tensor of shape (B, N, H, T, S) or None
        """
        check_token_pair(x_query, x_key_value, self.d_model, longer_keys=True)
        n_queries, n_keys = x_query.shape[2], x_key_value.shape[2]
        allowed = torch.ones(n_queries, n_keys, dtype=torch.bool, device=x_query.device)
        allowed = allowed.tril(n_keys - n_queries)  # (T, S)
        if key_mask is not None:
            allowed = allowed & key_mask[:, :, None, None, :]  # (B, N, 1, T, S)

        query, key, value = self.project(x_query, x_key_value)  # (B, N, T | S, D)
        query, key, value = map(self.split_heads, (query, key, value))  # (B, N, H, T | S, d)
        if return_attention:
            scores = query @ key.mT / math.sqrt(self.head_width)  # (B, N, H, T, S)
            attention = masked_softmax(scores, allowed)
            mixed = attention @ value  # (B, N, H, T, d)
        else:
            attention, mixed = None, fused_attention(query, key, value, allowed)
        return self.merge_heads(mixed), attention
