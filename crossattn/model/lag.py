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
        self.reader = Reader(config.n_assets, n_lags, config.channels)
        identity = [
            IdentityLagLayer(config.n_assets, n_lags, config.n_heads, width, len(STATE_HALF_LIVES))
            for _ in range(max(1, config.n_layers - 1))
        ]
        content = [ContentLagLayer(n_lags)] if config.n_layers > 1 else []
        self.layers = nn.ModuleList(content + identity)
        self.n_heads = config.n_heads
        self.readout = SignalReadout(raw_width(config), plain=config.output_type == "regression")

    def name_channels(self, names: tuple[str, ...]) -> None:
        """Say which channel is which.

        Raises
        ------
        InvalidInputError
            None of them is ``log_return``.
        """
        self.reader.name_channels(names)

    def fit_scaling(self, x: Tensor, lookback: int, *, every_step: bool) -> None:
        """Take scales from the training part: a panel ``(R, N, F)`` or windows."""
        x = x.transpose(0, 1) if every_step else x
        self.reader.fit(x, lookback, every_step=every_step)

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

    def explain(self, inputs: LagInputs) -> list[dict[str, Tensor]]:
        """Return one dict a layer; the last also says what adds up to the signal.

        ``cross_asset`` (B, H, N, N) and ``lag`` (B, H, N, N, L) are each layer's attention: unknown
        tokens get none, the rest of a row adds to one. In the last layer ``listening``
        (B, N, N, L) is the attention of all heads, each counted as much as its gain;
        ``coefficient`` (B, N, N, L) what one unit of a source's value adds to the signal, all
        layers together, and ``contribution`` that times the value: over sources and lags it adds
        up to the signal.
        """
        known = inputs.known[:, None].to(inputs.values.dtype)  # (B, 1, N, L)
        attentions, coefficient, listening = [], 0.0, 0.0
        for layer in self.layers:
            attention, weight = layer.coefficients(inputs.content, inputs.state)
            attention = attention * known[:, None]  # (B, H, N, N, L)
            volume = layer.head_gain(inputs.state).abs().expand(*attention.shape[:3])
            listening = listening + torch.einsum("bhi,bhijl->bijl", volume, attention)
            coefficient = coefficient + weight * known
            attention = _rows_to_one(attention).expand(-1, self.n_heads, -1, -1, -1)
            attentions.append({"cross_asset": attention.sum(-1), "lag": attention})
        attentions[-1]["listening"] = _rows_to_one(listening)
        attentions[-1]["coefficient"] = coefficient / self.reader.value_scale[:, None]
        attentions[-1]["contribution"] = coefficient * inputs.values[:, None]
        return attentions

    def gains(self) -> Tensor:
        """Return the gains of all identity heads, flat, for the penalty that keeps them few."""
        layers = [layer for layer in self.layers if isinstance(layer, IdentityLagLayer)]
        return torch.cat([layer.gain.flatten() for layer in layers])


def _rows_to_one(attention: Tensor) -> Tensor:
    """Scale the last two axes to add to one together; what has no mass stays zero."""
    mass = attention.sum((-2, -1), keepdim=True)
    return attention / torch.where(mass > 0, mass, 1.0)
