"""Preset ``lag``: attention over (asset, lag) tokens whose values are returns."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from crossattn.attention.lag_signal import ContentLagLayer, IdentityLagLayer
from crossattn.config import ModelConfig
from crossattn.model.batch import Batch, by_window
from crossattn.model.heads import SignalReadout
from crossattn.model.preprocessing import (
    SPAN_IN_HALF_LIVES,
    STATE_HALF_LIVES,
    LagPreprocessor,
    exponential_mean,
)

SCORE_HALF_LIFE = 10
SCORE_PRIOR = 4.0
SCORE_UNIT = 2.0


class LagBody(nn.Module):
    """Layers of lag heads side by side on the same tokens; their signals add.

    The last layer has identity heads, the first of two or more a content head, those between are
    further identity heads.

    Attributes
    ----------
    ahead : int
        Steps that the signal is for, together.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        n_lags = config.max_lag + 1
        width = config.d_model // config.n_heads
        n_states = len(STATE_HALF_LIVES)
        self.preprocessor = LagPreprocessor(config.n_assets, n_lags, config.channels)
        identity = [
            IdentityLagLayer(config.n_assets, n_lags, config.n_heads, width, n_states)
            for _ in range(max(1, config.n_layers - 1))
        ]
        content = [ContentLagLayer(n_lags)] if config.n_layers > 1 else []
        self.layers = nn.ModuleList(content + identity)
        self.n_heads = config.n_heads
        self.n_identities = config.n_heads * len(identity)
        self.readout = SignalReadout(config, n_states)
        self.follow(config)

    def follow(self, config: ModelConfig) -> None:
        """Take the channels' names and the horizon from a configuration."""
        self.preprocessor.name_channels(config.channels)
        # a position is held for one step, whatever the horizon
        self.ahead = 1 if config.output_type == "portfolio" else config.horizon or 1

    def fit_scaling(self, series: Tensor, lookback: int) -> None:
        """Take scales from the series (S, N, T, F) of the training part."""
        self.preprocessor.fit(series, lookback)

    def read(self, series: Tensor, lookback: int) -> Batch:
        """Return the inputs of every window of ``lookback`` steps in series (S, N, T, F)."""
        return self.update_head_scores(self.preprocessor.read(series, lookback))

    @torch.no_grad()
    def update_head_scores(self, batch: Batch) -> Batch:
        """Return a whole data set with the scores that the heads, as they are now, have earned.

        A score is a rolling z-score of a head's own forecasts: its pull at each past step times the
        value that followed, in units of the tokens' own volatility, with exponential weights. It
        reads no step outside the window, and trains nothing.
        """
        values, content = batch.history  # (S, N, T)
        n_lags, n_windows = self.preprocessor.n_lags, batch.size // values.shape[0]
        # steps of a window after its first complete set of tokens: each can be compared
        n_steps = values.shape[-1] - n_windows + 1 - n_lags
        if n_steps < 1:
            return replace(batch, head_scores=values.new_zeros(batch.size, self.n_identities))
        n_steps = min(n_steps, SPAN_IN_HALF_LIVES * SCORE_HALF_LIFE)
        newest = n_windows - 1 + n_steps + n_lags
        values, content = values[..., -newest:], content[..., -newest:]
        tokens, contents = (
            steps[..., :-1].unfold(-1, n_lags, 1).flip(-1).transpose(1, 2)
            for steps in (values, content)
        )  # (S, T', N, L): what was known one step before
        followed = values[..., n_lags:].transpose(1, 2)[:, :, None]  # (S, T', 1, N)
        noise = (tokens.square().sum(-1) + SCORE_PRIOR) / (n_lags + SCORE_PRIOR)
        noise = noise.sqrt()[:, :, None]  # (S, T', 1, N)
        pulls = [
            layer.gain * layer.pull(tokens.flatten(0, 1), contents.flatten(0, 1))
            for layer in self.layers
            if isinstance(layer, IdentityLagLayer)
        ]
        pull = torch.cat(pulls, 1).unflatten(0, tokens.shape[:2]) / noise  # (S, T', H, N)
        agreement = (pull * (followed / noise).clamp(-4, 4)).sum(-1).mT  # (S, H, T')
        power = pull.square().sum(-1).mT
        mean = exponential_mean(torch.stack([agreement, power]), SCORE_HALF_LIFE, n_steps)
        power = torch.where(mean[1] > 0, mean[1] + 1e-12, 1.0)  # ONNX runtime adds no 1e-12
        scores = SCORE_UNIT * mean[0] / power.sqrt()  # (S, H, n)
        return replace(batch, head_scores=by_window(scores.clamp(-4, 4)))

    def signal(self, batch: Batch) -> Tensor:
        """Return the standardised forecast ``(B, N)``."""
        values, content = batch.values.flip(-1), batch.content.flip(-1)  # newest first
        return sum(
            layer(values, content, batch.state, scores, self.ahead)
            for layer, scores in self._with_scores(batch)
        )

    def _with_scores(self, batch: Batch) -> Iterator[tuple[nn.Module, Tensor]]:
        """Yield each layer with the scores ``(B, H)`` of its own heads."""
        first = 0
        for layer in self.layers:
            yield layer, batch.head_scores[:, first : first + self.n_heads]
            first += self.n_heads * isinstance(layer, IdentityLagLayer)

    def forward(self, batch: Batch) -> Tensor:
        """Return raw numbers ``(B, N, n_out)``."""
        return self.readout(self.signal(batch), batch.log_scale, batch.state)

    def attention_maps(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return one dict a layer; the last also holds the terms that add up to the signal.

        ``cross_asset`` (B, H, N, N) and ``lag`` (B, H, N, N, L) are each layer's attention: unknown
        tokens get none, the rest of a row adds to one. In the last layer ``gain_weighted``
        (B, N, N, L) is the attention of all heads, each counted as much as its gain;
        ``coefficient`` (B, N, N, L) what one unit of a source's value adds to the signal, all
        layers together, and ``contribution`` that times the value: over sources and lags it adds
        up to the signal.
        """
        values, content = batch.values.flip(-1), batch.content.flip(-1)  # newest first
        known = batch.present.flip(-1)[:, None].to(values.dtype)  # (B, 1, N, L)
        attentions, coefficient, gain_weighted = [], 0.0, 0.0
        for layer, scores in self._with_scores(batch):
            attention, weight = layer.coefficients(content, batch.state, scores, self.ahead)
            attention = attention * known[:, None]  # (B, H, N, N, L)
            gain = layer.head_gain(batch.state, scores).abs().expand(*attention.shape[:3])
            gain_weighted = gain_weighted + torch.einsum("bhi,bhijl->bijl", gain, attention)
            coefficient = coefficient + weight * known
            attention = _rows_to_one(attention).expand(-1, self.n_heads, -1, -1, -1)
            attentions.append({"cross_asset": attention.sum(-1), "lag": attention})
        attentions[-1]["gain_weighted"] = _rows_to_one(gain_weighted)
        attentions[-1]["coefficient"] = coefficient / self.preprocessor.value_scale[:, None]
        attentions[-1]["contribution"] = coefficient * values[:, None]
        return attentions

    def gains(self) -> Tensor:
        """Return the gains of all identity heads, flat: what the L1 penalty is on."""
        layers = [layer for layer in self.layers if isinstance(layer, IdentityLagLayer)]
        return torch.cat([layer.gain.flatten() for layer in layers])


def _rows_to_one(attention: Tensor) -> Tensor:
    """Scale the last two axes to add to one together; what has no mass stays zero."""
    mass = attention.sum((-2, -1), keepdim=True)
    return attention / torch.where(mass > 0, mass, 1.0)
