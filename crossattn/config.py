"""Configurations of model and training, frozen and validated; the training defaults by preset.

Built in chapter: The full model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from crossattn._validation import check_choice, check_float, check_int, check_seed
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


@dataclass(frozen=True)
class TrainingConfig:
    """Default training settings of a preset.

    Attributes
    ----------
    epochs, batch_size : int
        Passes over the training rows, rows in a step.
    lr : float
        Peak learning rate.
    schedule : {"cosine", "plateau"}
        What follows the warm-up: half a cosine down to 0, or the peak, multiplied by
        ``plateau_factor`` whenever ``plateau_patience`` epochs passed without a better validation
        loss.
    plateau_patience : int
    plateau_factor : float
    lr_factors : mapping of str to float
        Multiples of ``lr`` for the parameters whose name ends so.
    warmup : float
        Share of all steps in which the rate rises.
    weight_decay : float
        Of AdamW.
    clip : float
        Largest norm of the gradient.
    gain_penalty : float
        L1 penalty on the gains, at its full height.
    penalty_from, penalty_full : float
        Shares of training at which the penalty begins to rise, and is at its full height.
    volatility_half_life : float
        Half-life, in bars, of the volatility that divides targets and forecasts in the loss;
        0 trains on raw returns.
    target_clip : float
        Targets are clipped at this many volatilities.
    loss : str or callable
        Name of the loss (see :mod:`crossattn.training.losses`); empty: the output's own. Or a
        function of prediction and target (:func:`crossattn.training.losses.resolve_loss`).
    transaction_cost, risk_aversion, concentration : float
        What the losses over portfolios price: traded notional, variance, squared positions.
    next_bar : bool
        Learn forecasts of a longer horizon from the next bar alone, and add up what is known of
        each bar in the horizon. Overlapping targets repeat one another; next bars do not.
    accumulate : int
        Batches whose gradients are added before each step of the optimiser.
    """

    epochs: int = 15
    batch_size: int = 256
    lr: float = 0.1
    lr_factors: Mapping[str, float] = dataclasses.field(default_factory=dict)
    warmup: float = 0.2
    schedule: str = "cosine"
    plateau_patience: int = 2
    plateau_factor: float = 0.3
    weight_decay: float = 0.0
    clip: float = 1.0
    gain_penalty: float = 0.0
    penalty_from: float = 0.3
    penalty_full: float = 0.6
    volatility_half_life: float = 12.0
    target_clip: float = 6.0
    loss: str | Callable = ""
    transaction_cost: float = 0.001
    risk_aversion: float = 10.0
    concentration: float = 0.0
    next_bar: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "plateau_patience"):
            check_int(name, getattr(self, name), at_least=1)
        check_choice("schedule", self.schedule, ("cosine", "plateau"))
        check_float("plateau_factor", self.plateau_factor, above=0.0, below=1.0)
        for name in ("lr", "clip", "target_clip"):
            check_float(name, getattr(self, name), above=0.0)
        for name in (
            "weight_decay",
            "gain_penalty",
            "volatility_half_life",
            "transaction_cost",
            "risk_aversion",
            "concentration",
        ):
            check_float(name, getattr(self, name), at_least=0.0)
        for name in ("warmup", "penalty_from"):
            check_float(name, getattr(self, name), at_least=0.0, below=1.0)
        check_float("penalty_full", self.penalty_full, above=self.penalty_from)

    def with_options(self, **options) -> TrainingConfig:
        """Return the recipe with the options that are not None in place of its own."""
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise InvalidInputError(
                f"unknown training option {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        given = {name: value for name, value in options.items() if value is not None}
        return dataclasses.replace(self, **given)


LAG_RECIPE = TrainingConfig(
    lr_factors={
        "content_weight": 20.0,
        "content_lag": 5.0,
        "gate_weight": 3.0,
        "gate_bias": 3.0,
    },
    lr=0.05,
    gain_penalty=0.012,
    next_bar=True,
)
ENCODER_RECIPE = TrainingConfig(epochs=10, batch_size=64, lr=1e-3, weight_decay=0.01)
RECIPES = {"lag": LAG_RECIPE, "encoder": ENCODER_RECIPE, "inverted": ENCODER_RECIPE}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shape of a :class:`~crossattn.CrossAttentionMultiAsset`.

    Attributes
    ----------
    n_assets, n_features : int
        Second and last axis of the input ``(B, N, T, F)``.
    d_model, n_heads, n_layers : int
        Width, heads and layers. In the ``lag`` preset an identity is ``d_model // n_heads`` wide,
        the last layer has ``n_heads`` identity heads, the layers before it are one content layer
        and further identity layers (one layer: identity heads alone).
    dropout : float
        On residual branches; the ``lag`` preset, regularised by its gain penalty, has none.
    output_type : {"regression", "classification", "portfolio", "distribution"}
    preset : {"lag", "encoder", "inverted"}
        ``lag``: attention over (asset, lag) tokens with scalar values, the recommended one.
        ``encoder``: embedding, temporal attention, cross-asset attention, N layers.
        ``inverted``: one token an asset.
    features : tuple of str or None
        Names of the channels; None: the default seven when ``n_features`` is 7, else the first
        channel is taken as ``log_return``. Data given to training brings its own names.
    max_lag : int
        Newest token plus this many older ones are attended to (``max_lag + 1`` lags).
    allow_short, max_position : bool, float
        Portfolio head: long-short or long-only, and the largest absolute weight, which holds
        after normalisation.
    quantiles : tuple of float
        Distribution head: the probabilities it predicts.
    embedding : {"linear", "conv"}
        Encoder: how a bar becomes a token.
    per_asset_embedding : bool
        Encoder, inverted: an embedding of each asset's own instead of one that all share.
    cross : {"lagged", "asset", "hierarchical", "routed"}
        Encoder: its cross-asset attention, over (asset, lag), over assets bar by bar, over assets,
        sectors and markets, or through a few learned tokens.
    sectors, markets : tuple of str or None
        Labels of the assets, for ``cross="hierarchical"``.
    lookback : int or None
        Steps of a window. Only ``inverted`` needs to be told; for the others training fills it in.
    horizon : int or None
        Steps that a forecast is for, together; training fills it in. None counts as 1.
    symbols : tuple of str or None
        Names of the assets, in order; training fills them in from data that has names.
    seed : int or None
        Of the initial weights; None draws from torch's global generator.
    """

    n_assets: int
    n_features: int
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2
    dropout: float = 0.1
    output_type: str = "regression"
    preset: str = "lag"
    features: tuple[str, ...] | None = None
    max_lag: int = 7
    allow_short: bool = False
    max_position: float = 1.0
    quantiles: tuple[float, ...] = DEFAULT_QUANTILES
    embedding: str = "linear"
    per_asset_embedding: bool = False
    cross: str = "lagged"
    sectors: tuple[str, ...] | None = None
    markets: tuple[str, ...] | None = None
    lookback: int | None = None
    horizon: int | None = None
    symbols: tuple[str, ...] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        least = {"n_assets": 2, "n_features": 1, "d_model": 1, "n_heads": 1, "n_layers": 1}
        for name, low in {**least, "max_lag": 0}.items():
            check_int(name, getattr(self, name), at_least=low)
            object.__setattr__(self, name, int(getattr(self, name)))
        check_float("dropout", self.dropout, at_least=0.0, below=1.0)
        check_float("max_position", self.max_position, above=0.0)
        check_choice("output_type", self.output_type, OUTPUT_TYPES)
        check_choice("preset", self.preset, PRESETS)
        check_choice("embedding", self.embedding, ("linear", "conv"))
        check_choice("cross", self.cross, CROSS_ATTENTIONS)
        for name in ("lookback", "horizon"):
            if getattr(self, name) is not None or (name, self.preset) == ("lookback", "inverted"):
                check_int(name, getattr(self, name), at_least=1)
        if self.symbols is not None and len(set(self.symbols)) != self.n_assets:
            raise InvalidInputError(
                f"symbols must be {self.n_assets} different names, got {self.symbols!r}"
            )
        if self.preset == "encoder" and self.cross == "hierarchical":
            for name in ("sectors", "markets"):
                labels = getattr(self, name)
                if labels is None or len(labels) != self.n_assets:
                    raise InvalidInputError(
                        f"{name} must hold {self.n_assets} labels, got {labels!r}"
                    )
        if self.d_model % self.n_heads:
            raise InvalidInputError(
                f"d_model must be a multiple of n_heads, got {self.d_model} and {self.n_heads}"
            )
        quantiles = tuple(float(q) for q in self.quantiles)
        if list(quantiles) != sorted(set(quantiles)) or not all(0 < q < 1 for q in quantiles):
            raise InvalidInputError(f"quantiles must rise inside (0, 1), got {self.quantiles!r}")
        object.__setattr__(self, "quantiles", quantiles)
        if self.features is not None:
            object.__setattr__(self, "features", self._checked_features())
        if self.seed is not None:
            check_seed("seed", self.seed)

    def _checked_features(self) -> tuple[str, ...]:
        names = self.features
        if isinstance(names, str) or len(set(names)) != len(tuple(names)):
            raise InvalidInputError(f"features must be distinct names, got {names!r}")
        if len(names) != self.n_features:
            raise InvalidInputError(f"features must name {self.n_features} channels, got {names!r}")
        return tuple(str(name) for name in names)

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
    def from_dict(cls, values: Mapping) -> ModelConfig:
        """Build a configuration from :meth:`to_dict`'s values, refusing names it does not know.

        Raises
        ------
        InvalidInputError
            A name is unknown, a required one is missing, or a value is wrong.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidInputError(
                f"unknown model option {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        for required in ("n_assets", "n_features"):
            if required not in values:
                raise InvalidInputError(f"{required} is missing from the model's configuration")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
