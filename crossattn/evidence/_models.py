"""One interface to every model that is examined: forecasters, baselines and bare networks.

The only module of this package that asks what kind of model it was given. A network
(:class:`~crossattn.CrossAttentionMultiAsset`) is read through :mod:`crossattn.training.prediction`;
everything else through ``symbols_`` and ``predict(data)`` and, where it has them,
``attention(data)`` and ``contributions(data)``, both (n, N, S, L), or the forecaster's
``contribution_batches`` (by channel and for some followers) and ``channel_values``; these two take
what ``reading(data)`` has read, too.
"""

from collections.abc import Iterator

import numpy as np

from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.prediction import attention_batches, predict
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import RETURN_FEATURE, log_returns

CHUNK = 2048  # windows at a time: all contributions of a long history would not fit
CHUNK_CELLS = 20_000_000  # numbers of contributions or attention held at a time
RETURN_CHANNEL = "return"  # what contributions belong to where a model has no other channel


def symbols_of(model, data: CrossAttentionData) -> tuple[str, ...]:
    """Return the model's own symbols, or those of the data where it has none."""
    fitted = getattr(model, "symbols_", None) or getattr(model, "symbols", None)
    return tuple(fitted or data.symbols)


def forecast_kind(model) -> str:
    """Return what a model says it forecasts, such as "volatility": "return" where it says nothing.

    A network says it by its head; "regression" is of returns.
    """
    kind = getattr(model, "target", getattr(model, "output_type", "return"))
    return "return" if kind == "regression" else kind


def forecasts_of(model, data: CrossAttentionData | np.ndarray, **options) -> np.ndarray:
    """Predict with any model; ``options`` are those of :func:`crossattn.predict`, for networks."""
    if isinstance(model, CrossAttentionMultiAsset):
        return predict(model, data, **options)
    if not hasattr(model, "predict"):
        raise InvalidInputError(f"model must predict or contribute, got {type(model).__name__}")
    return model.predict(data)


def contribution_batches(
    model,
    data: CrossAttentionData,  # or what the model has read of them
    followers: np.ndarray | None = None,
    *,
    by_channel: bool = False,
) -> Iterator[np.ndarray] | None:
    """Iterate over contributions (b, F, S, L, C); None where the model cannot split its forecasts.

    ``followers`` are the positions of those wanted, all by default. With ``by_channel`` channels
    are kept apart, for models that have any; else C is 1.
    """
    chosen = slice(None) if followers is None else followers
    if isinstance(model, CrossAttentionMultiAsset):
        if model.config.preset != "lag":
            return None
        batches = attention_batches(model, data, batch_size=CHUNK)
        return (x[-1]["contribution"].cpu().numpy()[:, chosen, ..., None] for x in batches)
    if hasattr(model, "contribution_batches"):
        found = model.contribution_batches(data, by_channel, followers)
        return (part if by_channel else part[..., None] for part, _ in found)
    if not hasattr(model, "contributions"):
        return None
    parts = _in_parts(data, len(data.symbols) ** 2 * data.lookback)
    return (model.contributions(part)[:, chosen, ..., None] for part in parts)


def channels_of(model, data: CrossAttentionData, read) -> tuple[np.ndarray, np.ndarray]:
    """Return the names (C,) and values (n_rows, S, C) of a model's channels, NaN without a bar.

    ``read`` is the data, or what the model has read of them. Models without channels have one, the
    log return: zeros where the data has none.
    """
    shape = (len(data.panel), len(data.symbols))
    returns = log_returns(data) if RETURN_FEATURE in data.features else np.zeros(shape)
    if not hasattr(model, "channel_values"):
        return np.array([RETURN_CHANNEL]), returns[..., None]
    values = model.channel_values(read)
    assets = values[:, : shape[1]]
    assets[np.isnan(returns[: len(values)])] = np.nan
    return np.array(model.channels_), values


def attention_of(model, data: CrossAttentionData | np.ndarray) -> Iterator[np.ndarray]:
    """Iterate over the last layer's attention, (b, H, N, S, L) with L = 1 where it has no lags."""
    if isinstance(model, CrossAttentionMultiAsset):
        for layers in attention_batches(model, data, batch_size=256):
            last = layers[-1]
            values = last["lag"] if "lag" in last else last["cross_asset"][..., None]
            yield values.cpu().numpy()
    elif hasattr(model, "attention"):
        check_windows("data", data)
        for part in _in_parts(data, len(data.symbols) * len(data.sources) * data.lookback):
            yield model.attention(part)[:, None]
    else:
        raise InvalidInputError(f"model has no attention: {type(model).__name__}")


def _in_parts(data: CrossAttentionData, cells: int) -> Iterator[CrossAttentionData]:
    """Iterate over parts of the windows, so that ``cells`` numbers a window fit in memory."""
    size = max(1, min(CHUNK, CHUNK_CELLS // cells))
    return (data[start : start + size] for start in range(0, len(data), size))
