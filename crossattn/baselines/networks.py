"""Small networks to compare cross-attention with: each maps (B, N, T, F) to (B, N, S).

S is T for the LSTMs, which forecast at every step of their window (they are causal), and 1 where a
network forecasts at the last step only.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class JointLSTM(nn.Module):
    """One LSTM that reads all assets of a bar as one long vector and forecasts all of them."""

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_assets * n_features, width, batch_first=True)
        self.head = nn.Linear(width, n_assets)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast all assets from one shared state at every step."""
        joined = x.transpose(1, 2).flatten(2)  # (B, T, N F)
        return self.head(self.lstm(joined)[0]).transpose(1, 2)  # (B, N, T)


class AssetLSTM(JointLSTM):
    """One LSTM that reads one asset at a time; its weights are shared by all assets."""

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__(1, n_features, window, width)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each asset from its own past at every step."""
        alone = x.flatten(0, 1).unsqueeze(1)  # (B N, 1, T, F)
        return super().forward(alone).view(x.shape[:3])  # (B, N, T)


class DecompositionLinear(nn.Module):
    """A linear map of each asset's own trend and another of what remains, shared by all assets."""

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
        self.blocks = nn.ModuleList(_encoder(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor, return_attention: bool = False):
        """Forecast each asset from all tokens; optionally also return the attention by layer."""
        token = self.embed(x.flatten(2))  # (B, N, D)
        attentions = []
        for block in self.blocks:
            if return_attention:
                attend = block.self_attn
                attentions.append(attend(token, token, token, average_attn_weights=False)[1])
            token = block(token)
        forecast = self.head(self.norm(token))  # (B, N, 1)
        return (forecast, attentions) if return_attention else forecast


class PatchTransformer(nn.Module):
    """Self-attention over patches of one asset's own window; its weights are shared by all assets.

    Patches overlap by half.
    """

    patch = 4

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        size = min(self.patch, window)
        self.size, self.stride = size, max(size // 2, 1)
        n_patches = (window - size) // self.stride + 1
        self.embed = nn.Linear(size * n_features, width)
        self.position = nn.Parameter(0.02 * torch.randn(n_patches, width))
        self.encoder = nn.Sequential(_encoder(width), _encoder(width))
        self.head = nn.Linear(n_patches * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each asset from its own past at the last step."""
        # patches end at the window's last bar; the oldest bars may be left over
        flipped = x.flip(2).unfold(2, self.size, self.stride)  # (B, N, P, F, size)
        patches = self.embed(flipped.flatten(3)) + self.position  # (B, N, P, D)
        batch, n_assets = patches.shape[:2]
        token = self.encoder(patches.flatten(0, 1))  # (B N, P, D)
        return self.head(token.flatten(1)).view(batch, n_assets, 1)


class SegmentTransformer(nn.Module):
    """Attention across time within each asset, then across assets through a few routers."""

    segment = 4
    n_routers = 4

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        self.size = min(self.segment, window)
        n_segments = window // self.size
        self.embed = nn.Linear(self.size * n_features, width)
        self.position = nn.Parameter(0.02 * torch.randn(n_assets, n_segments, width))
        self.across_time = _encoder(width)
        self.routers = nn.Parameter(0.02 * torch.randn(n_segments, self.n_routers, width))
        self.gather = nn.MultiheadAttention(width, 4, batch_first=True)
        self.spread = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(n_segments * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each asset from all segments of all assets at the last step."""
        newest = x[:, :, x.shape[2] % self.size :]
        segments = newest.unfold(2, self.size, self.size).flatten(3)  # (B, N, S, F size)
        token = self.embed(segments) + self.position  # (B, N, S, D)
        batch, n_assets, n_segments, width = token.shape
        token = self.across_time(token.flatten(0, 1)).view(token.shape)
        token = token.transpose(1, 2).flatten(0, 1)  # (B S, N, D)
        routers = self.routers.repeat(batch, 1, 1)  # (B S, R, D)
        summary, _ = self.gather(routers, token, token, need_weights=False)
        update, _ = self.spread(token, summary, summary, need_weights=False)
        token = self.norm(token + update).view(batch, n_segments, n_assets, width)
        return self.head(token.transpose(1, 2).flatten(2))  # (B, N, 1)


class GatedTransformer(nn.Module):
    """Features gated by the market's state; attention over time, then over assets, then over time.

    The market's state is the mean over assets of each feature: newest, average and spread.
    """

    def __init__(self, n_assets: int, n_features: int, window: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(3 * n_features, n_features)
        self.embed = nn.Linear(n_features, width)
        self.position = nn.Parameter(0.02 * torch.randn(window, width))
        self.within_asset = _encoder(width)
        self.across_assets = _encoder(width)
        self.query = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Forecast each asset from all assets at the last step."""
        market = x.mean(dim=1)  # (B, T, F)
        state = [market[:, -1], market.mean(dim=1), market.std(dim=1, unbiased=False)]
        gate = self.gate(torch.cat(state, dim=1)).softmax(dim=1) * x.shape[3]  # (B, F)
        token = self.embed(x * gate[:, None, None]) + self.position  # (B, N, T, D)
        batch, n_assets, steps, width = token.shape
        token = self.within_asset(token.flatten(0, 1)).view(token.shape)
        token = self.across_assets(token.transpose(1, 2).flatten(0, 1))  # (B T, N, D)
        token = token.view(batch, steps, n_assets, width).transpose(1, 2)  # (B, N, T, D)
        weight = (token @ self.query(token[:, :, -1:]).transpose(2, 3)).softmax(dim=2)
        return self.head((weight * token).sum(dim=2))  # (B, N, 1)


def _encoder(width: int, n_heads: int = 4) -> nn.Module:
    """Return one of torch's transformer layers, without dropout."""
    return nn.TransformerEncoderLayer(
        width, n_heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True
    )
