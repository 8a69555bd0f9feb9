"""CrossAttentionForecaster: fit, predict and explain with the recommended preset.

Built in chapter: Training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from crossattn._estimator import ForecastEstimator, check_windows
from crossattn._io import progress as progress_bar
from crossattn._validation import check_int, check_seed
from crossattn.config import DEFAULT_QUANTILES, ModelConfig
from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.checkpoint import load_models, save_models
from crossattn.training.loop import TrainingResult, train_cross_attention_model
from crossattn.training.prediction import attention_batches, predict
from crossattn.windows.dataset import CrossAttentionData

if TYPE_CHECKING:
    from crossattn.evidence.leadlag import LeadLagReport

TOLERATED_EXCESS = 0.002
# Slow members find weak leaders, fast ones tell strong leaders from noise more sharply.
FAST = {"lr": 0.1, "gain_penalty": 0.008, "penalty_from": 0.0, "penalty_full": 0.5}
VALIDATION_SHARE = 0.1


class CrossAttentionForecaster(ForecastEstimator):
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
    d_model, n_heads, n_layers, dropout, output_type, preset, allow_short, max_position, \
    quantiles, embedding, per_asset_embedding, cross, sectors, markets
        See :class:`~crossattn.config.ModelConfig`.
    patience : int
        Epochs without a better validation loss before training stops.
    epochs, batch_size, lr, lr_factors, warmup, schedule, plateau_patience, plateau_factor, \
    weight_decay, clip, gain_penalty, penalty_from, penalty_full, volatility_half_life, \
    target_clip, loss, transaction_cost, risk_aversion, concentration, next_bar, accumulate
        See :class:`~crossattn.config.TrainingConfig`; None follows the member's recipe.

    Attributes
    ----------
    models_ : list of CrossAttentionMultiAsset
        The members that were kept.
    symbols_ : tuple of str
        Assets in the order of every axis of ``attention``, ``coefficients``, ``contributions`` and
        ``leaders``, whatever the order in the data that is asked about.
    features_, lookback_, horizon_
        Of the training data.
    history_ : DataFrame
        ``member, epoch, train_loss, val_loss, lr``, of all members.

    Notes
    -----
    Parameters are checked by ``fit``, as in scikit-learn.

    Built in chapter: Training.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=600)
    >>> data = prepare_cross_attention_data(market.frames, lookback=16, horizon=1)
    >>> train, val, test = data.split()
    >>> forecaster = CrossAttentionForecaster(n_models=1, epochs=2).fit(train, val)
    >>> forecaster
    CrossAttentionForecaster(epochs=2, n_models=1)
    >>> forecaster.predict(test).shape == test.y.shape
    True

    Choose ``max_lag`` on walk-forward folds, each purged by the horizon:

    >>> from sklearn.base import clone
    >>> from crossattn.windows.splits import walk_forward_folds
    >>> folds = walk_forward_folds(train, train_size=200, test_size=60)
    >>> scores = {}
    >>> for max_lag in (3, 7):
    ...     model = clone(forecaster).set_params(max_lag=max_lag)
    ...     scores[max_lag] = np.mean(
    ...         [model.fit(fold.train[0]).score(fold.test[0]) for fold in folds]
    ...     )
    >>> max(scores, key=scores.get) in (3, 7)
    True
    """

    def __init__(
        self,
        max_lag: int = 7,
        n_models: int = 3,
        *,
        seed: int = 0,
        device: str = "auto",
        progress: bool = True,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.1,
        output_type: str = "regression",
        preset: str = "lag",
        allow_short: bool = False,
        max_position: float = 1.0,
        quantiles: Sequence[float] = DEFAULT_QUANTILES,
        embedding: str = "linear",
        per_asset_embedding: bool = False,
        cross: str = "lagged",
        sectors: Sequence[str] | None = None,
        markets: Sequence[str] | None = None,
        patience: int = 10,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        lr_factors: Mapping[str, float] | None = None,
        warmup: float | None = None,
        schedule: str | None = None,
        plateau_patience: int | None = None,
        plateau_factor: float | None = None,
        weight_decay: float | None = None,
        clip: float | None = None,
        gain_penalty: float | None = None,
        penalty_from: float | None = None,
        penalty_full: float | None = None,
        volatility_half_life: float | None = None,
        target_clip: float | None = None,
        loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
        transaction_cost: float | None = None,
        risk_aversion: float | None = None,
        concentration: float | None = None,
        next_bar: bool | None = None,
        accumulate: int | None = None,
    ):
        given = locals()
        for name in self._get_param_names():
            setattr(self, name, given[name])

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

        Raises
        ------
        InvalidInputError
            A parameter is wrong or the data does not fit it.
        """
        check_int("n_models", self.n_models)
        check_seed("seed", self.seed)
        check_windows("train", train)
        if val is None:
            train, val = hold_out(train)
        check_windows("val", val)
        results: list[TrainingResult] = []
        for number in progress_bar(range(self.n_models), shown=self.progress, desc="member"):
            results.append(self._train_member(number, train, val))
        best = min(result.best_val_loss for result in results)
        self.models_ = [
            result.model for result in results if result.best_val_loss <= best + TOLERATED_EXCESS
        ]
        histories = [result.history.assign(member=k) for k, result in enumerate(results)]
        self.history_ = pd.concat(histories, ignore_index=True)
        self._remember(train)
        return self

    def _train_member(
        self, number: int, train: CrossAttentionData, val: CrossAttentionData
    ) -> TrainingResult:
        seed = self.seed + number
        parameters = self.get_params(deep=False)
        shape = {name: parameters[name] for name in _shared_with(ModelConfig)}
        model = CrossAttentionMultiAsset(
            len(train.symbols),
            len(train.features),
            **{**shape, "features": train.features, "lookback": train.lookback, "seed": seed},
        )
        options = {name: parameters[name] for name in _shared_with(train_cross_attention_model)}
        if self.preset == "lag" and number % 2:
            given = {name: value for name, value in options.items() if value is not None}
            options |= {**FAST, **given}
        return train_cross_attention_model(model, train, val, **{**options, "seed": seed})

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Return the members' mean prediction ``(n, N)``: units and assets as in ``data.y``."""
        answers = [predict(model, data, device=self.device) for model in self._members()]
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

        Each head counts as much as its gain is large, so that
        heads that training switched off do not blur the map.
        """
        return self._mean_of("gain_weighted", data)

    def leaders(self, data: CrossAttentionData) -> np.ndarray:
        """Return the source with the largest pull on each asset's next bar, ``(n, N)``.

        The pull is the size of the effective coefficient, summed over lags; -1 only where every
        source is masked.
        """
        found = []
        for batches in zip(*(attention_batches(m, data) for m in self._members()), strict=True):
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
        settings = self.get_params(deep=False)
        del settings["device"]  # that of the machine that reads
        if callable(self.loss):
            settings["loss"] = None  # needed by fit alone
        history = self.history_.to_dict("records")
        save_models(self._members(), directory, forecaster=settings, history=history)

    @classmethod
    def load(cls, directory: str | Path) -> CrossAttentionForecaster:
        """Read what :meth:`save` wrote, or the single model of a run folder.

        Raises
        ------
        DamagedFileError
            A file is missing or not what was written.
        """
        models, content = load_models(directory)
        config = models[0].config
        settings = {name: getattr(config, name) for name in _shared_with(ModelConfig)}
        for name, value in content.get("forecaster", {"n_models": len(models)}).items():
            settings[name] = tuple(value) if isinstance(value, list) else value
        forecaster = cls(**settings)
        forecaster.models_ = models
        forecaster.history_ = pd.DataFrame(content.get("history", []))
        forecaster.symbols_, forecaster.features_ = config.symbols, config.channels
        forecaster.lookback_, forecaster.horizon_ = config.lookback, config.horizon
        return forecaster

    def _members(self) -> list[CrossAttentionMultiAsset]:
        self._check_fitted()
        return self.models_

    def _mean_of(self, name: str, data: CrossAttentionData) -> np.ndarray:
        total = 0.0
        for model in self._members():
            batches = attention_batches(model, data, device=self.device)
            total = total + np.concatenate([batch[-1][name].cpu().numpy() for batch in batches])
        return total / len(self.models_)


def _shared_with(target: Callable) -> list[str]:
    """Names of the parameters that the forecaster passes on to ``target``, seed apart."""
    names = inspect.signature(target).parameters
    return [n for n in CrossAttentionForecaster._get_param_names() if n in names and n != "seed"]


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
