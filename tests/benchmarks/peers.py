"""Reference models of others, written from their published descriptions, to be timed beside ours.

``HourlyStack`` is the architecture of the tutorial that this project started from: every hour of
every asset is a token, layers of temporal self-attention and of cross-asset attention on the mean
over time. ``ITransformer`` is that of Liu et al. (2024), "iTransformer: Inverted Transformers Are
Effective for Time Series Forecasting", section 3, with the layout of the reference implementation
in Time-Series-Library: instance normalisation, one token a variate and, where the bars' times are
given, one for each of the calendar's covariates (hourly bars have four), post-norm encoder layers
whose feed-forward is two convolutions of width 1. Left out: dropout, which ours do without here,
and the library's learning-rate rules.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HourlyStack(nn.Module):
    """Tokens for every hour: the cost that the tutorial's design implies."""

    def __init__(self, n_features: int, width=64, n_heads=4, n_layers=2):
        super().__init__()
        self.embedding = nn.Linear(n_features, width)
        self.layers = nn.ModuleList(_HourlyLayer(width, n_heads) for _ in range(n_layers))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embedding(x)  # (B, N, T, D)
        step = torch.arange(tokens.shape[2], dtype=tokens.dtype)[:, None]
        rate = torch.exp(
            -math.log(10_000.0) * torch.arange(0, tokens.shape[3], 2) / tokens.shape[3]
        )
        tokens = tokens + torch.stack([(step * rate).sin(), (step * rate).cos()], -1).flatten(1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(tokens[:, :, -1]).squeeze(-1)


class _HourlyLayer(nn.Module):
    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.temporal = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.cross = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)  # (B N, T, D)
        x = self.norms[0](flat + self.temporal(flat, flat, flat)[0]).unflatten(0, x.shape[:2])
        pooled = x.mean(2)  # (B, N, D)
        x = self.norms[1](x + self.cross(pooled, pooled, pooled)[0][:, :, None])
        return self.norms[2](x + self.feed_forward(x))


class ITransformer(nn.Module):
    """One token a variate, after Liu et al. (2024)."""

    def __init__(self, seq_len: int, pred_len: int, width=64, n_heads=4, n_layers=2, ff_width=128):
        super().__init__()
        self.embedding = nn.Linear(seq_len, width)
        self.layers = nn.ModuleList(
            _VariateLayer(width, n_heads, ff_width) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, pred_len)

    def forward(self, x: Tensor, marks: Tensor | None = None) -> Tensor:
        """Map (B, T, N), and the calendar (B, T, C) if it is given, to (B, pred_len, N)."""
        mean = x.mean(1, keepdim=True).detach()
        x = x - mean
        deviation = torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
        variates = x / deviation
        if marks is not None:
            variates = torch.cat([variates, marks], -1)
        tokens = self.embedding(variates.mT)  # (B, N + C, D)
        for layer in self.layers:
            tokens = layer(tokens)
        forecast = self.projection(self.norm(tokens)).mT[..., : x.shape[-1]]
        return forecast * deviation + mean


class _VariateLayer(nn.Module):
    def __init__(self, width: int, n_heads: int, ff_width: int):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide = nn.Conv1d(width, ff_width, 1)
        self.narrow = nn.Conv1d(ff_width, width, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        heads = (*x.shape[:2], self.n_heads, -1)
        query, key, value = (p(x).view(heads) for p in (self.query, self.key, self.value))
        scores = torch.einsum("blhe,bshe->bhls", query, key) / math.sqrt(query.shape[-1])
        pulled = torch.einsum("bhls,bshd->blhd", scores.softmax(-1), value).flatten(-2)
        x = self.norms[0](x + self.out(pulled))
        return self.norms[1](x + self.narrow(F.gelu(self.wide(x.mT))).mT)
