"""What a strategy needs from a model: predictions at its decisions, their kind, their risk.

Models are told apart by what they have (``state_dict``, ``predict``), so that a torch model, a
fitted baseline, stored predictions and a plain function all trade through the same door.

Built in chapter: Backtesting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossattn.errors import InvalidInputError
from crossattn.portfolio.allocation import trailing_risk

if TYPE_CHECKING:
    from crossattn.windows.dataset import CrossAttentionData

DEFAULT_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OUTPUT_TYPES = ("regression", "classification", "portfolio", "distribution")


def predictions_at(model: Any, X: np.ndarray | CrossAttentionData, rows: np.ndarray) -> np.ndarray:
    """Predictions at ``rows`` of X, from a torch model, a fitted object or a function."""
    if isinstance(X, np.ndarray):
        windows = X[rows]
    else:
        windows, back = _in_order_of(model, X)
    if hasattr(model, "predict"):
        predictions = model.predict(windows)
    elif hasattr(model, "answer"):
        from crossattn.training.prediction import predict

        predictions = predict(model, windows)
    elif hasattr(model, "state_dict"):
        predictions = _outputs_of_module(model, windows)
    else:
        predictions = model(windows)
    predictions = np.asarray(predictions)
    return predictions if isinstance(X, np.ndarray) else predictions[rows][:, back]


def _outputs_of_module(module: Any, windows: np.ndarray | CrossAttentionData) -> np.ndarray:
    """What a torch module that is not one of ours returns, in evaluation mode."""
    import torch

    X = windows if isinstance(windows, np.ndarray) else windows.X
    module.eval()
    with torch.no_grad():
        batches = [
            module(torch.from_numpy(np.array(X[start : start + 256], dtype=np.float32)))
            for start in range(0, len(X), 256)
        ]
    return torch.cat(batches).cpu().numpy()


def _in_order_of(model: Any, data: CrossAttentionData) -> tuple[CrossAttentionData, np.ndarray]:
    """The data with its assets as the model knows them, and how to put them back."""
    known = setting_of("symbols", model)
    if known is None or set(known) != set(data.symbols):
        return data, np.arange(len(data.symbols))
    return data.select(symbols=known), np.array([list(known).index(s) for s in data.symbols])


def setting_of(name: str, *owners: Any) -> Any:
    """The first of the owners, or of their configurations, that has this attribute set."""
    for owner in owners:
        for holder in (owner, getattr(owner, "config", None)):
            value = getattr(holder, name, None)
            if value is not None:
                return value
    return None


def output_type_of(model: Any, predictions: np.ndarray) -> str:
    """Which of :data:`OUTPUT_TYPES` the predictions are, as the model says or by their shape."""
    kind = setting_of("output_type", model)
    if kind is None:
        kind = "classification" if predictions.ndim == 3 else "regression"
    if kind not in OUTPUT_TYPES:
        raise InvalidInputError(
            f"model.output_type must be one of {', '.join(OUTPUT_TYPES)}, got {kind!r}"
        )
    return kind


def risk_before(X: np.ndarray | CrossAttentionData, returns: np.ndarray) -> np.ndarray:
    """Standard deviation of a bar's return known at each row, (n, N).

    From the returns seen since the start of the run; before there are ten, from the first feature
    of the first window, which in every data set of this package is the log return.
    """
    risk = trailing_risk(returns)
    windows = X if isinstance(X, np.ndarray) else X.X
    if windows.ndim == 4:
        start = np.asarray(windows[0, :, :, 0], dtype=float)  # (N, T)
        known = np.isfinite(start)
        squares = np.where(known, start, 0.0) ** 2
        first = np.sqrt(squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1))
        risk = np.where(np.isnan(risk), first, risk)
    return risk
