"""The recommended preset: attention over (asset, lag) tokens whose values are returns.

Built in chapter: The full model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossattn.attention.lag_signal import ContentLagLayer, IdentityLagLayer
from crossattn.model.config import ModelConfig
from crossattn.model.heads import SignalReadout, raw_width
from crossattn.model.reading import STATE_HALF_LIVES, LagInputs, LagRows, Reader


class LagBody(nn.Module):
    """Layers of lag heads side by side on the same tokens; their signals add.

    The last layer has identity heads, the first of two or more a content head, those between are
    further identity heads.

    Parameters
    ----------
    config : ModelConfig
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        n_lags = config.max_lag + 1
        width = config.d_model // config.n_heads
        self.reader = Reader(config.n_assets, n_lags, config.features)
        identity = [
            IdentityLagLayer(config.n_assets, n_lags, config.n_heads, width, len(STATE_HALF_LIVES))
            for _ in range(max(1, config.n_layers - 1))
        ]
        content = [ContentLagLayer(n_lags)] if config.n_layers > 1 else []
        self.layers = nn.ModuleList(content + identity)
        self.n_heads = config.n_heads
        self.readout = SignalReadout(raw_width(config), plain=config.output_type == "regression")

    def read_windows(self, x: Tensor) -> LagInputs:
        """Read the last step of windows ``(B, N, T, F)``."""
        return self.reader.last_step(x)

    def read_panel(self, panel: Tensor, lookback: int) -> LagRows:
        """Read every row of a panel ``(R, N, F)``."""
        return self.reader.every_step(panel, lookback)

    def signal(self, inputs: LagInputs) -> Tensor:
        """Return the standardised forecast ``(B, N)``."""
        return sum(layer(inputs.values, inputs.content, inputs.state) for layer in self.layers)

    def forward(self, inputs: LagInputs) -> Tensor:
        """Return raw numbers ``(B, N, n_out)``."""
        return self.readout(self.signal(inputs), inputs.log_scale)

    def explain(self, inputs: LagInputs) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Return each layer's attention, and the coefficient ``(B, N, N, L)`` of each value.

        Unknown tokens get no attention and no coefficient; what is left of a row adds to one.
        """
        known = inputs.known[:, None].to(inputs.values.dtype)  # (B, 1, N, L)
        attentions, total, listening = [], 0.0, 0.0
        for layer in self.layers:
            attention, coefficient = layer.coefficients(inputs.content, inputs.state)
            attention = attention * known[:, None]
            mass = attention.sum((-2, -1), keepdim=True)
            attention = attention / torch.where(mass > 0, mass, 1.0)
            volume = layer.head_gain(inputs.state).abs()  # (B, H, N)
            listening = listening + torch.einsum("bhi,bhijl->bijl", volume, attention)
            attention = attention.expand(-1, self.n_heads, -1, -1, -1)
            attentions.append({"cross_asset": attention.sum(-1), "lag": attention})
            total = total + coefficient
        mass = listening.sum((-2, -1), keepdim=True)
        attentions[-1]["listening"] = listening / torch.where(mass > 0, mass, 1.0)
        return attentions, total * known

    def gains(self) -> Tensor:
        """Return the gains of all identity heads, flat, for the penalty that keeps them few."""
        layers = [layer for layer in self.layers if isinstance(layer, IdentityLagLayer)]
        return torch.cat([layer.gain.flatten() for layer in layers])
