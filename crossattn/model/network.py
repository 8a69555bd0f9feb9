"""CrossAttentionMultiAsset: raw windows in, forecasts, classes, positions or quantiles out."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from crossattn._validation import check_shape, check_type
from crossattn.config import DEFAULT_QUANTILES, ModelConfig
from crossattn.errors import InvalidInputError
from crossattn.model.batch import Batch
from crossattn.model.encoder import EncoderBody
from crossattn.model.heads import make_head
from crossattn.model.lag_body import LagBody

BODIES = {"lag": LagBody, "encoder": EncoderBody, "inverted": EncoderBody}


class CrossAttentionMultiAsset(nn.Module):
    """Forecast every asset from every other: one configuration, one body, one head.

    Parameters
    ----------
    n_assets, n_features : int
    d_model, n_heads, n_layers, dropout
        What each preset makes of them: see :class:`~crossattn.config.ModelConfig`.
    output_type : {"regression", "classification", "portfolio", "distribution"}
    preset : {"lag", "encoder", "inverted"}
    features, max_lag, allow_short, max_position, quantiles, embedding, per_asset_embedding, \
    cross, sectors, markets, lookback, horizon, duration, symbols, seed
        See :class:`~crossattn.config.ModelConfig`.

    Raises
    ------
    InvalidInputError
        A setting has a wrong value, or two do not fit together.

    Examples
    --------
    >>> import torch
    >>> model = CrossAttentionMultiAsset(n_assets=3, n_features=1, seed=0)
    >>> model(torch.zeros(2, 3, 12, 1)).shape
    torch.Size([2, 3])

    Notes
    -----
    Built in chapter: The full model.
    """

    def __init__(
        self,
        n_assets: int,
        n_features: int,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.1,
        output_type: str = "regression",
        *,
        preset: str = "lag",
        features: Sequence[str] | None = None,
        max_lag: int = 7,
        allow_short: bool = False,
        max_position: float = 1.0,
        quantiles: Sequence[float] = DEFAULT_QUANTILES,
        embedding: str = "linear",
        per_asset_embedding: bool = False,
        cross: str = "lagged",
        sectors: Sequence[str] | None = None,
        markets: Sequence[str] | None = None,
        lookback: int | None = None,
        horizon: int | None = None,
        duration: str | None = None,
        symbols: Sequence[str] | None = None,
        seed: int | None = None,
    ):
        given = locals()
        super().__init__()
        settings = {field.name: given[field.name] for field in dataclasses.fields(ModelConfig)}
        self.config = ModelConfig.from_dict(settings)
        # only without a seed the weights are drawn from torch's global generator
        seed = self.config.seed
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.body = BODIES[self.config.preset](self.config)
            self.head = make_head(self.config)
        self.register_buffer("target_scale", torch.ones(n_assets))

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """Build the network that a configuration describes."""
        return cls(**config.to_dict())

    @property
    def output_type(self) -> str:
        """What the head answers with."""
        return self.config.output_type

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""
        return self.config.channels

    @property
    def symbols(self) -> tuple[str, ...] | None:
        """Names of the assets, in order; None before training on data that has names."""
        return self.config.symbols

    @property
    def lookback(self) -> int | None:
        """Steps of a window; None before training."""
        return self.config.lookback

    @property
    def horizon(self) -> int | None:
        """Steps that a forecast is for, together; None before training."""
        return self.config.horizon

    def update_config(self, **changes) -> None:
        """Replace settings that decide no shape: symbols, features, lookback, horizon, duration."""
        self.config = dataclasses.replace(self.config, **changes)
        self.body.follow(self.config)

    def get_extra_state(self) -> Tensor:
        """Return the configuration as bytes, so that a state_dict holds all a forecast needs."""
        text = json.dumps(self.config.to_dict())
        return torch.frombuffer(bytearray(text, "utf-8"), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what training filled in, from a model of the same shape.

        Raises
        ------
        InvalidInputError
            The state belongs to a model that differs in a setting on which forecasts depend.
        """
        theirs = ModelConfig.from_dict(json.loads(bytes(state.cpu().tolist())))
        # training fills these in; drop-out and the seed change no forecast of given weights
        filled_in = ("symbols", "features", "lookback", "horizon", "duration")
        for field in dataclasses.fields(ModelConfig):
            own, other = getattr(self.config, field.name), getattr(theirs, field.name)
            if field.name == "features" and own is not None:
                other = theirs.channels
            elif field.name in (*filled_in, "seed", "dropout"):
                continue
            if own != other:
                raise InvalidInputError(
                    f"state_dict is of a model with {field.name}={other!r}, this one has {own!r}"
                )
        changes = {name: getattr(theirs, name) for name in filled_in}
        self.update_config(**{**changes, "features": theirs.features or self.config.features})

    def resolve_features(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the channels to read from data with these features; names them where unnamed.

        Raises
        ------
        InvalidInputError
            The model was made for features that the data lacks, or for another number of them.
        """
        if set(self.features) <= set(names):
            return self.features
        missing = [name for name in self.features if name not in names]
        if self.config.features is not None:
            raise InvalidInputError(f"data lacks the model's feature {missing[0]!r}")
        if len(names) != self.config.n_features:
            raise InvalidInputError(f"data needs {self.config.n_features} features, got {names}")
        self.update_config(features=tuple(names))
        return self.features

    def forward(
        self, x: Tensor, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, list[dict[str, Tensor]]]:
        """Predict at the last step of raw windows.

        Parameters
        ----------
        x : Tensor of shape (B, N, T, F)
            Raw features, NaN where unknown; scaling is the model's own.
        return_attention : bool
            Return ``(predictions, attentions)``, one dict a layer.

        Returns
        -------
        Tensor
            ``(B, N)`` returns or weights, ``(B, N, 3)`` logits or ``(B, N, Q)`` quantiles.

        Raises
        ------
        InvalidInputError
            ``x`` has another shape, or fewer steps than the lags need.
        """
        self.check_windows(x)
        device = self.target_scale.device
        if x.device != device:
            raise InvalidInputError(f"x is on {x.device} and the model on {device}: move one")
        if x.dtype != self.target_scale.dtype:
            x = x.to(self.target_scale.dtype)
        return self.predict_batch(self.read(x, x.shape[2]), return_attention)

    def predict_batch(self, batch: Batch, return_attention: bool = False):
        """Predict for inputs that :meth:`read` prepared; returns what :meth:`forward` does."""
        scale = self.target_scale
        if self.output_type == "distribution" and batch.log_scale is not None:
            scale = scale * batch.log_scale.exp()  # (B, N): quantiles scale with volatility
        predictions = self.head(self.body(batch), scale)
        if not return_attention:
            return predictions
        attentions = self.body.attention_maps(batch)
        if "coefficient" in attentions[-1] and self.output_type == "regression":
            for name in ("coefficient", "contribution"):
                attentions[-1][name] = attentions[-1][name] * self.target_scale[:, None, None]
        return predictions, attentions

    def read(self, series: Tensor, lookback: int) -> Batch:
        """Prepare every window of ``lookback`` steps in raw series (S, N, T, F), in order.

        A panel (R, N, F) is one series, ``panel.transpose(0, 1)[None]``; windows given one by one
        are series of ``lookback`` steps. :meth:`Batch.take
        <crossattn.model.batch.Batch.take>` draws windows by number.
        """
        return self.body.read(series, lookback)

    def check_windows(self, x: Tensor) -> None:
        """Refuse windows of another shape than ``(B, n_assets, T, n_features)``."""
        check_type("x", x, Tensor, "a tensor")
        check_shape("x", x, "batch", self.config.n_assets, "time", self.config.n_features)
        self.check_lookback(x.shape[2])

    def check_lookback(self, lookback: int) -> None:
        """Refuse windows that are too short for the lags, or another length than the model's."""
        preset, max_lag, own = self.config.preset, self.config.max_lag, self.config.lookback
        if preset == "lag" and lookback <= max_lag:
            raise InvalidInputError(f"lookback must be above {max_lag=}, got {lookback}")
        if preset == "inverted" and lookback != own:
            raise InvalidInputError(f"lookback must be the model's {own}, got {lookback}")
