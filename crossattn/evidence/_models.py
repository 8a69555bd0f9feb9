"""One interface to every model that is examined: forecasters, baselines and bare networks.

The only module of this package that asks what kind of model it was given. A network
(:class:`~crossattn.CrossAttentionMultiAsset`) is read through :mod:`crossattn.training.prediction`;
everything else through ``symbols_`` and ``predict(data)`` and, where it has them, ``models_``,
``contributions(data)`` (n, N, N, L) and ``attention(data)`` (n, N, N, L).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.prediction import attention_batches, predict
from crossattn.windows.dataset import CrossAttentionData

CHUNK = 2048  # windows at a time: all contributions of a long history would not fit
ATTENTION_CELLS = 20_000_000  # numbers of attention held at a time


def symbols_of(model, data: CrossAttentionData) -> tuple[str, ...]:
    """Return the model's own symbols, or those of the data where it has none."""
    fitted = getattr(model, "symbols_", None) or getattr(model, "symbols", None)
    return tuple(fitted or data.symbols)


def forecasts_of(model, data: CrossAttentionData | np.ndarray, **options) -> np.ndarray:
    """Predict with any model; ``options`` are those of :func:`crossattn.predict`, for networks."""
    if isinstance(model, CrossAttentionMultiAsset):
        return predict(model, data, **options)
    if not hasattr(model, "predict"):
        raise InvalidInputError(f"model must predict or contribute, got {type(model).__name__}")
    return model.predict(data)


def contribution_batches(model, data: CrossAttentionData) -> Iterator[np.ndarray] | None:
    """Iterate over contributions (b, N, N, L); None where the model cannot split its forecasts."""
    if isinstance(model, CrossAttentionMultiAsset):
        if model.config.preset != "lag":
            return None
        batches = attention_batches(model, data, batch_size=CHUNK)
        return (layers[-1]["contribution"].cpu().numpy() for layers in batches)
    if not hasattr(model, "contributions"):
        return None
    starts = range(0, len(data), CHUNK)
    return (model.contributions(data[start : start + CHUNK]) for start in starts)


def attention_of(model, data: CrossAttentionData | np.ndarray) -> Iterator[np.ndarray]:
    """Iterate over the last layer's attention, (b, H, N, S, L) with L = 1 where it has no lags."""
    if isinstance(model, CrossAttentionMultiAsset):
        for layers in attention_batches(model, data, batch_size=256):
            last = layers[-1]
            values = last["lag"] if "lag" in last else last["cross_asset"][..., None]
            yield values.cpu().numpy()
    elif hasattr(model, "attention"):
        cells = len(data.symbols) * len(data.sources) * data.lookback
        size = max(1, min(CHUNK, ATTENTION_CELLS // cells))
        for start in range(0, len(data), size):
            yield model.attention(data[start : start + size])[:, None]
    else:
        raise InvalidInputError(f"model has no attention: {type(model).__name__}")
