"""Presets encoder and inverted: attention over time and between assets, or one token an asset."""

import torch
from torch import Tensor, nn

from crossattn.attention.cross import MultiHeadCrossAttention
from crossattn.attention.embedding import CausalConvEmbedding, InvertedEmbedding, LinearEmbedding
from crossattn.attention.hierarchical import HierarchicalCrossAttention
from crossattn.attention.lagged import TemporalCrossAttention
from crossattn.attention.positional import SinusoidalPositions
from crossattn.attention.routed import RoutedCrossAttention
from crossattn.attention.temporal import TemporalSelfAttention
from crossattn.config import ModelConfig
from crossattn.model.batch import Batch, by_window
from crossattn.model.heads import raw_slopes
from crossattn.model.preprocessing import log_recent_volatility

LIMIT = 10.0


class ChannelScaler(nn.Module):
    """Standardise every channel of every asset with statistics that training stores."""

    def __init__(self, n_assets: int, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_assets, n_features))
        self.register_buffer("scale", torch.ones(n_assets, n_features))

    def fit(self, series: Tensor) -> None:
        """Take mean and deviation over the steps of series (S, N, T, F), skipping NaN."""
        rows = series.transpose(1, 2).flatten(0, 1)  # (S T, N, F)
        mean = rows.nanmean(0).nan_to_num(0.0)
        scale = (rows - mean).square().nanmean(0).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(scale > 1e-12, scale, 1.0))

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return standardised (S, N, T, F), 0 where unknown; which bars exist (None: all)."""
        known = series.isfinite()
        standard = (series - self.mean[:, None]) / self.scale[:, None]
        standard = torch.where(known, standard.clamp(-LIMIT, LIMIT), 0.0)
        exists = known.any(-1)
        # an exported graph cannot ask what it is given, and masks what is there too
        if not torch.compiler.is_exporting() and exists.all():
            exists = None
        return standard.contiguous(), exists


class EncoderLayer(nn.Module):
    """Encoder block: attention over time, attention between assets, feed-forward.

    Each is a residual branch on normalised tokens.
    """

    def __init__(self, config: ModelConfig, *, temporal: bool):
        super().__init__()
        width = config.d_model
        self.cross_kind = config.cross if temporal else "asset"
        self.n_lags = config.max_lag + 1 if self.cross_kind == "lagged" else 1
        self.temporal = TemporalSelfAttention(width, config.n_heads, 0.0) if temporal else None
        self.cross = _cross_attention(self.cross_kind, config)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if temporal else 2))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, exists: Tensor | None, *, last_step: bool, show: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return tokens (B, N, T, D) and, where shown, the last step's attention.

        ``exists`` (B, N, T) is None where all tokens do. With ``last_step`` the answer is for that
        step alone, (B, N, 1, D): the same numbers, in the last layer.
        """
        shown = {}
        n_steps = x.shape[2]
        if self.temporal is not None:
            # the steps that the cross-attention of the last one looks back at
            n_newest = min(self.n_lags, n_steps) if last_step else n_steps
            keys = self.norms[0](x)
            update, attention = self.temporal(
                _newest(keys, n_newest), keys, key_mask=exists, return_attention=show
            )
            x = _newest(x, n_newest) + self.dropout(update)
            exists = None if exists is None else _newest(exists, n_newest)
            if show:
                shown["temporal"] = attention[:, :, :, -1]  # (B, N, H, T)
        update, attention = self._across(self.norms[-2](x), exists, last_step, show)
        x = (_newest(x, 1) if last_step else x) + self.dropout(update)
        if show:
            shown.update(_last_step(attention))
        return x + self.dropout(self.feed_forward(self.norms[-1](x))), shown

    def _across(self, x: Tensor, exists: Tensor | None, last_step: bool, show: bool):
        if self.cross_kind == "hierarchical":
            return self.cross(x, token_mask=exists, return_attention=show)
        query = _newest(x, 1) if last_step else x
        return self.cross(query, x, key_mask=exists, return_attention=show)


class EncoderBody(nn.Module):
    """Embedding, positions, layers, and a readout of each asset's last token.

    ``preset="inverted"`` makes one token of each asset's window, so that its layers have no time
    left to attend over.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, inverted = config.d_model, config.preset == "inverted"
        self.scaler = ChannelScaler(config.n_assets, config.n_features)
        kind = {"n_assets": config.n_assets if config.per_asset_embedding else None}
        if inverted:
            self.embedding = InvertedEmbedding(config.lookback, config.n_features, width, **kind)
        elif config.embedding == "conv":
            self.embedding = CausalConvEmbedding(config.n_features, width, **kind)
        else:
            self.embedding = LinearEmbedding(config.n_features, width, **kind)
        self.asset_embedding = nn.Parameter(0.02 * torch.randn(config.n_assets, 1, width))
        self.positions = nn.Identity() if inverted else SinusoidalPositions(width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(config, temporal=not inverted) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, len(raw_slopes(config)))
        nn.init.normal_(self.readout.weight, std=0.01)
        nn.init.zeros_(self.readout.bias)
        self.follow(config)

    def follow(self, config: ModelConfig) -> None:
        """Accept any channels and any horizon: the weights learn both."""
        names = config.channels
        self.returns = names.index("log_return") if "log_return" in names else None

    def fit_scaling(self, series: Tensor, lookback: int) -> None:
        """Take scales from the series (S, N, T, F) of the training part."""
        self.scaler.fit(series)

    def read(self, series: Tensor, lookback: int) -> Batch:
        """Return every window of ``lookback`` steps in series (S, N, T, F), as views."""
        standard, exists = self.scaler(series)
        windows = standard.unfold(2, lookback, 1).mT  # (S, N, n, T', F)
        if exists is not None:
            exists = by_window(exists.contiguous().unfold(2, lookback, 1))  # (S n, N, T')
        scale = None
        if self.returns is not None:
            returns = series[..., self.returns] / self.scaler.scale[:, self.returns, None]
            scale = by_window(log_recent_volatility(returns, lookback))
        return Batch(windows=by_window(windows), present=exists, log_scale=scale)

    def update_head_scores(self, batch: Batch) -> Batch:
        """Return the batch as it is: no input depends on the weights."""
        return batch

    def forward(self, batch: Batch) -> Tensor:
        """Return raw numbers ``(B, N, n_out)``."""
        return self._encode(batch, show=False)[0]

    def attention_maps(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return one dict a layer: ``cross_asset`` (B, H, N, N), ``lag`` where there are lags."""
        return self._encode(batch, show=True)[1]

    def _encode(self, batch: Batch, *, show: bool):
        exists = batch.present
        tokens = self.positions(self.embedding(batch.windows)) + self.asset_embedding
        tokens = self.dropout(tokens)
        if exists is not None and tokens.shape[2] != exists.shape[2]:
            exists = exists.any(-1, keepdim=True)
        attentions = []
        for layer in self.layers:
            last_step = layer is self.layers[-1]
            tokens, shown = layer(tokens, exists, last_step=last_step, show=show)
            attentions.append(shown)
        return self.readout(self.norm(tokens.squeeze(2))), attentions


def _newest(x: Tensor, n_steps: int) -> Tensor:
    """Return the newest steps of (B, N, T, ...); all as they are, without a node to train."""
    return x if x.shape[2] == n_steps else x[:, :, -n_steps:]


def _cross_attention(kind: str, config: ModelConfig) -> nn.Module:
    width, heads = config.d_model, config.n_heads
    options = {"dropout": 0.0, "n_assets": config.n_assets}
    if kind == "routed":
        return RoutedCrossAttention(width, heads, **options)
    options["exclude_self"] = True
    if kind == "lagged":
        return TemporalCrossAttention(width, heads, config.max_lag, **options)
    if kind == "hierarchical":
        return HierarchicalCrossAttention(width, heads, config.sectors, config.markets, **options)
    return MultiHeadCrossAttention(width, heads, **options)


def _last_step(attention: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """Name a cross-attention's maps at the last step."""
    if isinstance(attention, dict):
        levels = {level: shown[:, :, -1] for level, shown in attention.items()}
        return {"cross_asset": levels.pop("asset"), **levels}
    last = attention[:, :, -1]
    return {"cross_asset": last.sum(-1), "lag": last} if last.dim() == 5 else {"cross_asset": last}
