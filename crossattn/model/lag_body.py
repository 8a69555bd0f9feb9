"""The recommended preset: attention over (asset, lag) tokens whose values are returns.

Built in chapter: The full model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from crossattn.attention.lag_signal import ContentLagLayer, IdentityLagLayer
from crossattn.config import ModelConfig
from crossattn.model.heads import SignalReadout, raw_width
from crossattn.model.preprocessing import (
    STATE_HALF_LIVES,
    LagInputs,
    LagRows,
    LagWindows,
    Reader,
    exponential_mean,
)

RECORD_HALF_LIFE = 10.0
RECORD_REACH = 80
RECORD_PRIOR = 4.0
RECORD_UNIT = 2.0


class LagBody(nn.Module):
    """Layers of lag heads side by side on the same tokens; their signals add.

    The last layer has identity heads, the first of two or more a content head, those between are
    further identity heads.

    Parameters
    ----------
    config : ModelConfig

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
        self.reader = Reader(config.n_assets, n_lags, config.channels)
        identity = [
            IdentityLagLayer(config.n_assets, n_lags, config.n_heads, width, n_states)
            for _ in range(max(1, config.n_layers - 1))
        ]
        content = [ContentLagLayer(n_lags)] if config.n_layers > 1 else []
        self.layers = nn.ModuleList(content + identity)
        self.n_heads = config.n_heads
        self.n_identities = config.n_heads * len(identity)
        self.readout = SignalReadout(raw_width(config), plain=config.output_type == "regression")
        self.follow(config)

    def follow(self, config: ModelConfig) -> None:
        """Take the channels' names and the horizon from a configuration.

        Raises
        ------
        InvalidInputError
            No channel is called ``log_return``.
        """
        self.reader.name_channels(config.channels)
        # a position is held for one step, whatever the horizon
        self.ahead = 1 if config.output_type == "portfolio" else config.horizon or 1

    def fit_scaling(self, x: Tensor, lookback: int, *, every_step: bool) -> None:
        """Take scales from the training part: a panel ``(R, N, F)`` or windows."""
        x = x.transpose(0, 1) if every_step else x
        self.reader.fit(x, lookback, every_step=every_step)

    def read_windows(self, x: Tensor) -> LagInputs:
        """Read the last step of windows ``(B, N, T, F)``."""
        return self.store_windows(x).gather(slice(None))

    def store_windows(self, x: Tensor) -> LagWindows:
        """Read windows ``(n, N, T, F)`` once, for batches to be gathered from."""
        store = self.reader.last_step(x)
        self.refresh(store)
        return store

    def read_panel(self, panel: Tensor, lookback: int) -> LagRows:
        """Read every row of a panel ``(R, N, F)``."""
        store = self.reader.every_step(panel, lookback)
        self.refresh(store)
        return store

    @torch.no_grad()
    def refresh(self, store: LagRows | LagWindows) -> None:
        """Bring the track records of a store up to the heads as they are now."""
        if isinstance(store, LagRows):
            values, content = store.values.mT[None], store.content.mT[None]
            store.record = self.track_record(values, content, store.span, every_step=True)[0].mT
        else:
            span = store.values.shape[-1]
            store.record = self.track_record(store.values, store.content, span, every_step=False)

    def track_record(
        self, values: Tensor, content: Tensor, span: int, *, every_step: bool
    ) -> Tensor:
        """Return how well each identity head's own forecasts have fared lately, as a z-score.

        A head's pull at each past step is held against the value that followed it, in units of the
        tokens' own volatility, with exponential weights: what agrees counts up, what disagrees
        down. It reads nothing after the step it answers for.

        Parameters
        ----------
        values, content : Tensor of shape (S, N, T)
        span : int
            Steps that an answer may look back.
        every_step : bool
            Answer ``(S, H, T)``, else ``(S, H)`` for the last step.
        """
        n_lags = self.reader.n_lags
        reach = min(span - n_lags, RECORD_REACH)
        if not every_step:
            values, content = values[..., -reach - n_lags :], content[..., -reach - n_lags :]
        if reach < 1 or values.shape[-1] <= n_lags:
            return values.new_zeros(len(values), self.n_identities, *values.shape[2:][:every_step])
        tokens, contents = (
            a[..., :-1].unfold(-1, n_lags, 1).flip(-1).transpose(1, 2) for a in (values, content)
        )  # (S, T', N, L): what was known one step before
        followed = values[..., n_lags:].transpose(1, 2)[:, :, None]  # (S, T', 1, N)
        prior = RECORD_PRIOR
        noise = ((tokens.square().sum(-1) + prior) / (n_lags + prior)).sqrt()[:, :, None]
        pulls = [
            layer.gain * layer.pull(tokens.flatten(0, 1), contents.flatten(0, 1))
            for layer in self.layers
            if isinstance(layer, IdentityLagLayer)
        ]
        pull = torch.cat(pulls, 1).unflatten(0, tokens.shape[:2]) / noise  # (S, T', H, N)
        agreed = (pull * (followed / noise).clamp(-4, 4)).sum(-1).mT  # (S, H, T')
        spread = pull.square().sum(-1).mT
        both = torch.stack([agreed, spread])
        mean = exponential_mean(both, RECORD_HALF_LIFE, reach, every_step=every_step)
        score = RECORD_UNIT * mean[0] / (mean[1] + 1e-12).sqrt()
        if every_step:
            score = torch.nn.functional.pad(score, (n_lags, 0))
        return score.clamp(-4, 4)

    def signal(self, inputs: LagInputs) -> Tensor:
        """Return the standardised forecast ``(B, N)``."""
        return sum(
            layer(inputs.values, inputs.content, inputs.state, record, self.ahead)
            for layer, record in self._with_records(inputs.record)
        )

    def _with_records(self, record: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
        """Yield each layer with the records ``(B, H)`` of its own heads."""
        first = 0
        for layer in self.layers:
            yield layer, record[:, first : first + self.n_heads]
            first += self.n_heads * isinstance(layer, IdentityLagLayer)

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
        for layer, record in self._with_records(inputs.record):
            attention, weight = layer.coefficients(inputs.content, inputs.state, record, self.ahead)
            attention = attention * known[:, None]  # (B, H, N, N, L)
            volume = layer.head_gain(inputs.state, record).abs().expand(*attention.shape[:3])
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
