"""Configurations of model and training, frozen and validated; the training defaults by preset.

Built in chapter: The full model.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Self

from crossattn._validation import (
    check_array,
    check_bool,
    check_choice,
    check_float,
    check_int,
    check_type,
)
from crossattn.errors import InvalidInputError

OUTPUT_TYPES = ("regression", "classification", "portfolio", "distribution")
PRESETS = ("lag", "encoder", "inverted")
DEFAULT_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CROSS_ATTENTIONS = ("lagged", "asset", "hierarchical", "routed")
DEFAULT_FEATURES = (
    "log_return",
    "intraday_return",
    "range",
    "relative_volume",
    "volatility",
    "rsi",
    "macd",
)


def _put(config: object, check: Callable, *names: str, **bounds: float) -> None:
    """Check settings of a frozen configuration, and keep them as plain numbers, ready for JSON."""
    for name in names:
        object.__setattr__(config, name, check(name, getattr(config, name), **bounds))


@dataclass(frozen=True)
class TrainingConfig:
    """Default training settings of a preset."""

    epochs: int = 15  #: passes over the training rows
    batch_size: int = 256  #: rows in a step
    lr: float = 0.1  #: peak learning rate
    #: multiples of ``lr`` for the parameters whose name ends so
    lr_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    warmup: float = 0.2  #: share of all steps in which the rate rises
    #: after the warm-up: "cosine", half a cosine down to 0, or "plateau", the peak times
    #: ``plateau_factor`` after each ``plateau_patience`` epochs without a better validation loss
    schedule: str = "cosine"
    plateau_patience: int = 2
    plateau_factor: float = 0.3
    weight_decay: float = 0.0  #: of AdamW
    clip: float = 1.0  #: largest norm of the gradient
    gain_penalty: float = 0.0  #: L1 penalty on the gains, at its full height
    penalty_from: float = 0.3  #: share of training at which the penalty begins to rise
    penalty_full: float = 0.6  #: share of training at which it is at its full height
    #: of the volatility that divides targets and forecasts in the loss, in bars; 0: raw returns
    volatility_half_life: float = 12.0
    target_clip: float = 6.0  #: targets are clipped at this many volatilities
    #: a name of :mod:`crossattn.training.losses` (empty: the output's own), or a function of
    #: prediction and target (:func:`crossattn.training.losses.resolve_loss`)
    loss: str | Callable = ""
    transaction_cost: float = 0.001  #: price of traded notional in losses over portfolios
    risk_aversion: float = 10.0  #: price of variance there
    concentration: float = 0.0  #: price of squared positions there
    #: learn forecasts of a longer horizon from the next bar alone, and add up what is known of each
    #: bar in the horizon: overlapping targets repeat one another, next bars do not
    next_bar: bool = False
    accumulate: int = 1  #: batches whose gradients are added before each step of the optimiser

    def __post_init__(self) -> None:
        _put(self, check_int, "epochs", "batch_size", "accumulate", "plateau_patience")
        check_choice("schedule", self.schedule, ("cosine", "plateau"))
        _put(self, check_float, "plateau_factor", above=0.0, below=1.0)
        _put(self, check_float, "lr", "clip", "target_clip", above=0.0)
        names = ("weight_decay", "gain_penalty", "volatility_half_life")
        names += ("transaction_cost", "risk_aversion", "concentration")
        _put(self, check_float, *names, at_least=0.0)
        _put(self, check_float, "warmup", "penalty_from", at_least=0.0, below=1.0)
        _put(self, check_float, "penalty_full", above=self.penalty_from)
        _put(self, check_bool, "next_bar")
        check_type("lr_factors", self.lr_factors, Mapping, "a mapping")
        factors = {
            name: check_float(f"lr_factors: {name!r}", factor, at_least=0.0)
            for name, factor in self.lr_factors.items()
        }
        object.__setattr__(self, "lr_factors", factors)

    def with_options(self, **options) -> Self:
        """Return the recipe with the options that are not None in place of its own."""
        _refuse_unknown("training option", options, self)
        given = {name: value for name, value in options.items() if value is not None}
        return dataclasses.replace(self, **given)


LAG_RECIPE = TrainingConfig(
    lr_factors={"content_weight": 20.0, "content_lag": 5.0, "gate_weight": 3.0, "gate_bias": 3.0},
    lr=0.05,
    gain_penalty=0.012,
    next_bar=True,
)
ENCODER_RECIPE = TrainingConfig(epochs=10, batch_size=64, lr=1e-3, weight_decay=0.01)
RECIPES = {"lag": LAG_RECIPE, "encoder": ENCODER_RECIPE, "inverted": ENCODER_RECIPE}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a :class:`~crossattn.CrossAttentionMultiAsset`."""

    n_assets: int  #: second axis of the input ``(B, N, T, F)``
    n_features: int  #: its last axis
    #: width, heads and layers; in preset ``lag`` an asset embedding is ``d_model // n_heads`` wide
    #: and each layer but the first of two or more, a content head, has ``n_heads`` identity heads
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2
    dropout: float = 0.1  #: on residual branches; none in preset ``lag``
    output_type: str = "regression"  #: or "classification", "portfolio", "distribution"
    #: ``lag``: attention over (asset, lag) tokens with scalar values; ``encoder``: embedding,
    #: temporal attention, cross-asset attention, N layers; ``inverted``: one token an asset
    preset: str = "lag"
    #: names of the channels; None: the default seven when ``n_features`` is 7, else the first is
    #: taken as ``log_return``. Data given to training brings its own names.
    features: tuple[str, ...] | None = None
    max_lag: int = 7  #: the newest token plus this many older ones are attended to
    allow_short: bool = False  #: portfolio head: long-short
    max_position: float = 1.0  #: portfolio head: largest absolute weight, after normalisation
    quantiles: tuple[float, ...] = DEFAULT_QUANTILES  #: distribution head: probabilities
    embedding: str = "linear"  #: encoder: how a bar becomes a token, or "conv"
    per_asset_embedding: bool = False  #: encoder, inverted: an embedding of each asset's own
    #: encoder: attention over (asset, lag) ("lagged"), over assets bar by bar ("asset"), over
    #: assets, sectors and markets ("hierarchical"), or through learned tokens ("routed")
    cross: str = "lagged"
    sectors: tuple[str, ...] | None = None  #: labels of the assets, for "hierarchical"
    markets: tuple[str, ...] | None = None  #: labels of the assets, for "hierarchical"
    lookback: int | None = None  #: steps of a window; training fills it in, ``inverted`` needs it
    horizon: int | None = None  #: steps of a forecast, None as 1; training fills it in
    duration: str | None = None  #: the horizon in time, where the training data has it as one
    symbols: tuple[str, ...] | None = None  #: names of the assets, in order; training fills them in
    seed: int | None = None  #: of the initial weights; None draws from torch's global generator

    def __post_init__(self) -> None:
        _put(self, check_int, "n_assets", at_least=2)
        _put(self, check_int, "n_features", "d_model", "n_heads", "n_layers")
        _put(self, check_int, "max_lag", at_least=0)
        _put(self, check_float, "dropout", at_least=0.0, below=1.0)
        _put(self, check_float, "max_position", above=0.0)
        _put(self, check_bool, "allow_short", "per_asset_embedding")
        check_choice("output_type", self.output_type, OUTPUT_TYPES)
        check_choice("preset", self.preset, PRESETS)
        check_choice("embedding", self.embedding, ("linear", "conv"))
        check_choice("cross", self.cross, CROSS_ATTENTIONS)
        for name in ("lookback", "horizon"):
            if getattr(self, name) is not None or (name, self.preset) == ("lookback", "inverted"):
                _put(self, check_int, name)
        if self.symbols is not None:
            self._check_labels("symbols", self.n_assets)
        if self.preset == "encoder" and self.cross == "hierarchical":
            self._check_labels("sectors", self.n_assets, distinct=False)
            self._check_labels("markets", self.n_assets, distinct=False)
        if self.d_model % self.n_heads:
            raise InvalidInputError(
                f"d_model must be a multiple of n_heads, got {self.d_model} and {self.n_heads}"
            )
        quantiles = tuple(check_array("quantiles", self.quantiles, (None,)).tolist())
        inside = quantiles and all(0 < q < 1 for q in quantiles)
        if not inside or list(quantiles) != sorted(set(quantiles)):
            raise InvalidInputError(f"quantiles must rise inside (0, 1), got {self.quantiles!r}")
        object.__setattr__(self, "quantiles", quantiles)
        if self.features is not None:
            self._check_labels("features", self.n_features)
            object.__setattr__(self, "features", tuple(map(str, self.features)))
        if self.seed is not None:
            _put(self, check_int, "seed", at_least=0)

    def _check_labels(self, name: str, count: int, distinct: bool = True) -> None:
        labels = getattr(self, name)
        listed = isinstance(labels, Collection) and not isinstance(labels, str)
        if not listed or len(labels) != count or (distinct and len(set(labels)) < count):
            kind = "different names" if distinct else "labels"
            raise InvalidInputError(f"{name} must be {count} {kind}, got {labels!r}")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels, in order, assumed where none were given."""
        if self.features is not None:
            return self.features
        if self.n_features == len(DEFAULT_FEATURES):
            return DEFAULT_FEATURES
        return ("log_return", *(f"feature_{k}" for k in range(1, self.n_features)))

    @property
    def recipe(self) -> TrainingConfig:
        """The training defaults of this preset."""
        return RECIPES[self.preset]

    def to_dict(self) -> dict:
        """Return plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> Self:
        """Build a configuration from :meth:`to_dict`'s values, refusing names it does not know."""
        _refuse_unknown("model option", values, cls)
        for required in ("n_assets", "n_features"):
            if required not in values:
                raise InvalidInputError(f"{required} is missing from the model's configuration")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _refuse_unknown(kind: str, given: Mapping, config: object) -> None:
    """Refuse names that are no fields of a configuration."""
    known = [field.name for field in dataclasses.fields(config)]
    for name in given:
        check_choice(kind, name, known)
