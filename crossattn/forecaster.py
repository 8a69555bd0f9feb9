"""The recommended preset with its recipe, as one object that fits, predicts and explains.

Built in chapter: Training.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crossattn._utils import progress as progress_bar
from crossattn.config import ModelConfig, TrainingConfig
from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.checkpoint import load_models, save_models
from crossattn.training.loop import TrainingResult, train_cross_attention_model
from crossattn.training.prediction import attention_batches, predict

if TYPE_CHECKING:
    from crossattn.evidence.leadlag import LeadLagReport
    from crossattn.windows.dataset import CrossAttentionData

TOLERATED_EXCESS = 0.002
# Slow members find weak leaders, fast ones tell strong leaders from noise more sharply.
FAST = {"lr": 0.1, "gain_penalty": 0.008, "penalty_from": 0.0, "penalty_full": 0.5}
VALIDATION_SHARE = 0.1
MODEL_OPTIONS = {field.name for field in dataclasses.fields(ModelConfig)} - {
    "n_assets",
    "n_features",
    "features",
    "max_lag",
    "seed",
}
TRAINING_OPTIONS = {field.name for field in dataclasses.fields(TrainingConfig)} | {"patience"}


class CrossAttentionForecaster:
    """Forecast every asset from every other, by (asset, lag) attention; several initialisations.

    Its members are :class:`~crossattn.CrossAttentionMultiAsset` in their default preset, every
    second one trained at twice the rate: it misses weak leaders and is surer of strong ones. A
    member whose validation loss is clearly above the best one's is dropped, the others averaged.

    Parameters
    ----------
    max_lag : int
        Tokens a source: the newest bar and ``max_lag`` older ones.
    n_models : int
        Initialisations.
    seed : int
        Of the first member; the others follow.
    device : str
    progress : bool
        Show a bar where there is a terminal.
    **options
        Fields of :class:`~crossattn.config.ModelConfig` and of
        :class:`~crossattn.config.TrainingConfig`, and ``patience``.

    Attributes
    ----------
    models : list of CrossAttentionMultiAsset
        The members that were kept.
    symbols : tuple of str
        Assets in the order of every axis of ``attention``, ``coefficients``, ``contributions`` and
        ``leaders``, whatever the order in the data that is asked about.
    history : DataFrame
        ``member, epoch, train_loss, val_loss, lr``, of all members.

    Raises
    ------
    InvalidInputError
        An option is unknown or wrong.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=600)
    >>> data = prepare_cross_attention_data(market.frames, lookback=16, horizon=1)
    >>> train, val, test = data.split()
    >>> forecaster = CrossAttentionForecaster(n_models=1, epochs=2).fit(train, val)
    >>> forecaster.predict(test).shape == test.y.shape
    True

    Notes
    -----
    Built in chapter: Training.
    """

    def __init__(
        self,
        max_lag: int = 7,
        n_models: int = 3,
        *,
        seed: int = 0,
        device: str = "auto",
        progress: bool = True,
        **options,
    ):
        if isinstance(n_models, bool) or not isinstance(n_models, int) or n_models < 1:
            raise InvalidInputError(f"n_models must be a positive integer, got {n_models!r}")
        unknown = sorted(set(options) - MODEL_OPTIONS - TRAINING_OPTIONS)
        if unknown:
            raise InvalidInputError(f"unknown option {unknown[0]!r} of CrossAttentionForecaster")
        self.max_lag = max_lag
        self.n_models = n_models
        self.seed = seed
        self.device = device
        self.progress = progress
        self.options = options
        self.models: list[CrossAttentionMultiAsset] = []
        self.history = pd.DataFrame()

    def fit(
        self, train: CrossAttentionData, val: CrossAttentionData | None = None
    ) -> CrossAttentionForecaster:
        """Train all members.

        Parameters
        ----------
        train : CrossAttentionData
            Scaling and weights come from here alone.
        val : CrossAttentionData, optional
            Later windows, which choose the epoch and the members; without them the last tenth of
            ``train``, purged by the horizon.

        Returns
        -------
        CrossAttentionForecaster
            Itself.
        """
        if val is None:
            train, val = hold_out(train)
        model_options = {k: v for k, v in self.options.items() if k in MODEL_OPTIONS}
        training_options = {k: v for k, v in self.options.items() if k in TRAINING_OPTIONS}
        fast = FAST if self.options.get("preset", "lag") == "lag" else {}
        results: list[TrainingResult] = []
        for number in progress_bar(range(self.n_models), shown=self.progress, desc="member"):
            model = CrossAttentionMultiAsset(
                len(train.symbols),
                len(train.features),
                features=train.features,
                max_lag=self.max_lag,
                seed=self.seed + number,
                **model_options,
            )
            results.append(
                train_cross_attention_model(
                    model,
                    train,
                    val,
                    device=self.device,
                    seed=self.seed + number,
                    progress=self.progress,
                    **({**fast, **training_options} if number % 2 else training_options),
                )
            )
        best = min(result.best_val_loss for result in results)
        self.models = [
            result.model for result in results if result.best_val_loss <= best + TOLERATED_EXCESS
        ]
        histories = [result.history.assign(member=k) for k, result in enumerate(results)]
        self.history = pd.concat(histories, ignore_index=True)
        return self

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Return the members' mean prediction ``(n, N)``: units and assets as in ``data.y``."""
        answers = [predict(model, data, device=self.device) for model in self._fitted()]
        return np.mean(answers, axis=0)

    def coefficients(self, data: CrossAttentionData) -> np.ndarray:
        """Return the effective coefficients ``(n, N, N, L)``, mean of the members.

        Element ``[t, i, j, k]`` is what one unit of source j's log return, k bars before the last
        bar of window t, adds to the forecast of asset i: gains, gates and attention multiplied.
        """
        return self._mean_of("coefficient", data)

    def contributions(self, data: CrossAttentionData) -> np.ndarray:
        """Return coefficient times lagged return, ``(n, N, N, L)``: they add up to the forecast."""
        return self._mean_of("contribution", data)

    def attention(self, data: CrossAttentionData) -> np.ndarray:
        """Return attention ``(n, N, N, L)``: over sources and lags jointly, rows sum to 1.

        Each head counts as much as the forecast listens to it (the size of its gain), so that
        heads that training switched off do not blur the map.
        """
        return self._mean_of("gain_weighted", data)

    def leaders(self, data: CrossAttentionData) -> np.ndarray:
        """Return the source with the largest pull on each asset's next bar, ``(n, N)``.

        The pull is the size of the effective coefficient, summed over lags; -1 only where every
        source is masked.
        """
        found = []
        for batches in zip(*(attention_batches(m, data) for m in self._fitted()), strict=True):
            coefficient = sum(batch[-1]["coefficient"] for batch in batches)
            seen = sum(batch[-1]["cross_asset"].sum((1, 3)) for batch in batches) > 0
            leader = coefficient.abs().sum(-1).argmax(-1)
            found.append(leader.where(seen, -1).cpu().numpy())
        return np.concatenate(found)

    def lead_lag(self, data: CrossAttentionData, alpha: float = 0.05) -> LeadLagReport:
        """Test who leads whom on ``data``, which must be later than what was fitted on."""
        from crossattn.evidence.leadlag import analyze_lead_lag_relationships

        return analyze_lead_lag_relationships(self, data, alpha=alpha)

    def save(self, directory: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` to a folder."""
        settings = {
            "max_lag": self.max_lag,
            "n_models": self.n_models,
            "seed": self.seed,
            "options": self.options,
        }
        save_models(self._fitted(), directory, forecaster=settings)

    @classmethod
    def load(cls, directory: str | Path) -> CrossAttentionForecaster:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DamagedFileError
            A file is missing or not what was written.
        """
        models, content = load_models(directory)
        settings = content.get("forecaster", {"max_lag": models[0].config.max_lag})
        options = settings.pop("options", {})
        forecaster = cls(**settings, **options)
        forecaster.models = models
        return forecaster

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols of the training data, in order."""
        return self._fitted()[0].symbols

    @property
    def features(self) -> tuple[str, ...]:
        """Features of the training data, in order."""
        return self._fitted()[0].features

    @property
    def lookback(self) -> int:
        """Bars in a window of the training data."""
        return self._fitted()[0].lookback

    @property
    def horizon(self) -> int:
        """Bars over which it forecasts."""
        return self._fitted()[0].horizon

    def _fitted(self) -> list[CrossAttentionMultiAsset]:
        if not self.models:
            raise InvalidInputError("the forecaster is not fitted: call fit(train, val) first")
        return self.models

    def _mean_of(self, name: str, data: CrossAttentionData) -> np.ndarray:
        total = 0.0
        for model in self._fitted():
            batches = attention_batches(model, data, device=self.device)
            total = total + np.concatenate([batch[-1][name].cpu().numpy() for batch in batches])
        return total / len(self.models)


def hold_out(data: CrossAttentionData) -> tuple[CrossAttentionData, CrossAttentionData]:
    """Split off the last tenth for validation, purged by the horizon.

    Raises
    ------
    InvalidInputError
        Too few windows for both parts.
    """
    first_val = len(data) - max(1, round(VALIDATION_SHARE * len(data)))
    last_train = first_val - data.horizon
    if last_train < 1:
        raise InvalidInputError(f"train has {len(data)} windows: too few to hold some out")
    return data[:last_train], data[first_val:]
