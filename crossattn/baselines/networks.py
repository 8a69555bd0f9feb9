"""Small networks to compare cross-attention with: each maps (B, N, T, F) to (B, N, S).

S is T where a network forecasts at every step of its window (it is causal), and 1 where it
forecasts at the last step only.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class AssetLSTM(nn.Module):
    """One LSTM that reads one asset at a time; its weights are shared by all assets."""

    every_step = True

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each asset from its own past at every step."""
        batch, n_assets, steps, n_features = x.shape
        hidden, _ = self.lstm(x.reshape(batch * n_assets, steps, n_features))  # (B N, T, D)
        return self.head(hidden).view(batch, n_assets, steps)


class JointLSTM(nn.Module):
    """One LSTM that reads all assets of a bar as one long vector and forecasts all of them."""

    every_step = True

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_assets * n_features, width, batch_first=True)
        self.head = nn.Linear(width, n_assets)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast all assets from one shared state at every step."""
        joined = x.transpose(1, 2).flatten(2)  # (B, T, N F)
        return self.head(self.lstm(joined)[0]).transpose(1, 2)  # (B, N, T)


class DecompositionLinear(nn.Module):
    """A linear map of each asset's own trend and another of what remains, shared by all assets."""

    every_step = False
    kernel = 25

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        self.trend = nn.Linear(window * n_features, 1)
        self.remainder = nn.Linear(window * n_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each asset from its own past at the last step."""
        batch, n_assets, steps, n_features = x.shape
        flat = x.reshape(batch * n_assets, steps, n_features).transpose(1, 2)  # (B N, F, T)
        side = self.kernel // 2
        trend = F.avg_pool1d(F.pad(flat, (side, side), mode="replicate"), self.kernel, stride=1)
        forecast = self.trend(trend.flatten(1)) + self.remainder((flat - trend).flatten(1))
        return forecast.view(batch, n_assets, 1)


class VariateTransformer(nn.Module):
    """Self-attention over assets: each asset's whole window is one token."""

    every_step = False

    def __init__(
        self,
        n_assets: int,
        n_features: int,
        window: int,
        width: int,
        n_heads: int = 4,
        n_layers: int = 2,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(window * n_features, width)
        self.blocks = nn.ModuleList(_Block(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor, return_attention: bool = False):
        """Forecast each asset from all tokens; optionally also return the attention by layer."""
        token = self.embed(x.flatten(2))  # (B, N, D)
        attentions = []
        for block in self.blocks:
            token, attention = block(token, return_attention)
            attentions.append(attention)
        forecast = self.head(self.norm(token))  # (B, N, 1)
        return (forecast, attentions) if return_attention else forecast


class _Block(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.after_attention = nn.LayerNorm(width)
        self.after_mix = nn.LayerNorm(width)

    def forward(self, token: Tensor, return_attention: bool) -> tuple[Tensor, Tensor | None]:
        update, attention = self.attend(
            token, token, token, need_weights=return_attention, average_attn_weights=False
        )
        token = self.after_attention(token + update)
        return self.after_mix(token + self.mix(token)), attention
