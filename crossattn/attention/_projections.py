"""The base of the attention layers: projections, asset embeddings, heads."""

import torch
from torch import Tensor, nn

from crossattn._validation import check_int
from crossattn.attention._checks import check_dropout, check_heads
from crossattn.errors import InvalidInputError

EMBEDDING_SCALE = 0.5


class HeadProjections(nn.Module):
    """Tokens to queries, keys and values; heads to one output.

    A layer inherits the parameters and these four methods, and writes its attention between them.
    Parameters are those of :class:`crossattn.MultiHeadCrossAttention`.
    """

    def __init__(
        self, d_model: int, n_heads: int, dropout: float, n_assets: int | None = None
    ) -> None:
        super().__init__()
        self.head_width = check_heads(d_model, n_heads)
        self.d_model, self.n_heads, self.n_assets = d_model, n_heads, n_assets
        self.query_projection = nn.Linear(d_model, d_model)
        # A bias on the keys would move all scores of a query alike, which softmax does not see.
        self.key_projection = nn.Linear(d_model, d_model, bias=False)
        self.value_projection = nn.Linear(d_model, d_model)
        # A bias on the output would make fully masked rows non-zero.
        self.output_projection = nn.Linear(d_model, d_model, bias=False)
        self.dropout = nn.Dropout(check_dropout(dropout))
        if n_assets is not None:
            check_int("n_assets", n_assets)
            self.query_embedding = nn.Parameter(torch.empty(n_assets, d_model))
            self.key_embedding = nn.Parameter(torch.empty(n_assets, d_model))

    def reset_parameters(self, gain: float = 1.0) -> None:
        """Draw new initial weights from torch's generator, ``gain`` times Xavier's in size."""
        for name in ("query", "key", "value", "output"):
            projection = getattr(self, f"{name}_projection")
            nn.init.xavier_uniform_(projection.weight, gain)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)
        if self.n_assets is not None:
            nn.init.normal_(self.query_embedding, std=EMBEDDING_SCALE)
            nn.init.normal_(self.key_embedding, std=EMBEDDING_SCALE)

    def project(
        self,
        x_query: Tensor,
        x_key_value: Tensor,
        query_assets: Tensor | None = None,
        key_assets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (..., Nq, D), keys (..., Nk, D) and values (..., Nk, D).

        ``query_assets`` and ``key_assets``, (B|1, N), are the assets at each position; by default
        position i holds asset i.
        """
        dtype = self.query_projection.weight.dtype
        for x in (x_query, x_key_value):
            if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
                raise InvalidInputError(f"tokens must be {dtype} as the layer is, got {x.dtype}")
        query = self.query_projection(x_query)  # (..., Nq, D)
        key = self.key_projection(x_key_value)  # (..., Nk, D)
        value = self.value_projection(x_key_value)  # (..., Nk, D): values carry no embedding
        if self.n_assets is not None:
            query = query + _embedding_at(self.query_embedding, query_assets, query.shape[-2])
            key = key + _embedding_at(self.key_embedding, key_assets, key.shape[-2])
        return query, key, value

    def split_heads(self, tokens: Tensor) -> Tensor:
        """(..., N, D) -> (..., H, N, d)."""
        return tokens.unflatten(-1, (self.n_heads, self.head_width)).transpose(-3, -2)

    def merge_heads(self, mixed: Tensor) -> Tensor:
        """(..., H, N, d) -> (..., N, D), projected."""
        return self.dropout(self.output_projection(mixed.transpose(-3, -2).flatten(-2)))


def _embedding_at(embedding: Tensor, assets: Tensor | None, n: int) -> Tensor:
    """Return the embeddings of the assets at n positions, (B|1, 1, n, D) or (n, D)."""
    if assets is not None:
        return embedding[assets].unsqueeze(1)
    return embedding if n == len(embedding) else embedding[:n]
