"""One interface to everything that can forecast: fitted objects, torch modules, functions.

Built in chapter: Backtesting.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossattn._validation import check_choice
from crossattn.config import DEFAULT_QUANTILES, OUTPUT_TYPES
from crossattn.errors import InvalidInputError
from crossattn.windows.dataset import CrossAttentionData


@dataclass(frozen=True)
class Predictor:
    """What a backtest uses of a model: its function, order of assets, kind of output, horizon."""

    predict: Callable[[Any], np.ndarray]
    symbols: tuple[str, ...] | None  # None: those of the data
    output_type: str | None  # None: told from the shape of the predictions
    quantiles: tuple[float, ...]
    horizon: int | None  # bars

    def predict_rows(self, X: np.ndarray | CrossAttentionData, rows: np.ndarray) -> np.ndarray:
        """Predictions at ``rows`` of X, in the order of its assets."""
        order = slice(None)
        if isinstance(X, np.ndarray):
            X, rows = X[rows], slice(None)
        elif self.symbols is not None and set(self.symbols) == set(X.symbols):
            order = [list(self.symbols).index(symbol) for symbol in X.symbols]
            X = X.select(symbols=self.symbols)
        predictions = np.asarray(self.predict(X))
        if predictions.ndim < 2 or len(predictions) != len(X):
            raise InvalidInputError(
                f"model must predict a row of assets for each of {len(X)} windows, got shape "
                f"{predictions.shape}"
            )
        return predictions[rows][:, order]

    def output_type_of(self, predictions: np.ndarray) -> str:
        """Kind of these predictions: as the model declares it, or by their shape."""
        if self.output_type is not None:
            return check_choice("model.output_type", self.output_type, OUTPUT_TYPES)
        return "classification" if predictions.ndim == 3 else "regression"


def as_predictor(model: Any) -> Predictor:
    """Wrap an object with ``predict``, a torch module or a function; refuse anything else."""
    if isinstance(model, type):
        raise InvalidInputError(f"model must be an object, got the class {model.__name__}")
    if hasattr(model, "predict"):
        predict = model.predict
    elif hasattr(model, "state_dict"):
        predict = _predict_of_module(model)
    elif callable(model):
        predict = model
    else:
        raise InvalidInputError(
            f"model must have a predict method or be callable, got {type(model).__name__}"
        )

    def setting(name: str) -> Any:
        """First value set: of a fitted estimator, of the model itself, of its configuration."""
        config = getattr(model, "config", None)
        values = (getattr(*at, None) for at in ((model, f"{name}_"), (model, name), (config, name)))
        return next((value for value in values if value is not None), None)

    quantiles = setting("quantiles")
    return Predictor(
        predict=predict,
        symbols=setting("symbols"),
        output_type=setting("output_type"),
        quantiles=DEFAULT_QUANTILES if quantiles is None else tuple(quantiles),
        horizon=setting("horizon"),
    )


def _predict_of_module(module: Any) -> Callable[[Any], np.ndarray]:
    """Prediction function of a torch module: ours by name and in batches, others as they are."""
    import torch

    from crossattn.model.network import CrossAttentionMultiAsset
    from crossattn.training.prediction import predict

    def predict_others(windows: np.ndarray | CrossAttentionData) -> np.ndarray:
        X = windows if isinstance(windows, np.ndarray) else windows.X
        like = next(module.parameters(), torch.empty(0))
        asked = copy.deepcopy(module).eval()  # the caller's own stays as it is
        with torch.no_grad():
            batches = [
                asked(torch.from_numpy(np.array(X[start : start + 256])).to(like)).double().cpu()
                for start in range(0, len(X), 256)
            ]
        return torch.cat(batches).numpy()

    ours = isinstance(module, CrossAttentionMultiAsset)
    return (lambda windows: predict(module, windows)) if ours else predict_others
