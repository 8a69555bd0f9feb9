"""Predictions of a fitted model, for data or for raw windows.

Built in chapter: Prediction and heat-maps.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch

from crossattn._validation import check_array, check_int
from crossattn.errors import InvalidInputError
from crossattn.model.batch import Batch
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.runtime import select_device
from crossattn.training.batches import align_to_model, as_data, series_of
from crossattn.windows.dataset import CrossAttentionData


def predict(
    model: CrossAttentionMultiAsset,
    data_or_X: CrossAttentionData | np.ndarray,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> np.ndarray:
    """Predict with a trained network, for every window.

    Parameters
    ----------
    model : CrossAttentionMultiAsset
    data_or_X : CrossAttentionData or ndarray of shape (n, N, T, F)
        Data may hold the model's symbols and features in any order: they are matched by name. An
        array must be in the model's own order.
    device : str
    batch_size : int
        Windows at a time.

    Returns
    -------
    ndarray of shape (n, N), (n, N, 3) or (n, N, Q)
        In the units of ``y`` and, of data, in its order of symbols; known at each window's last
        close. Of data, NaN where the asset has no bar there. Other missing inputs are masked.

    Raises
    ------
    InvalidInputError
        Other symbols, features, lookback or horizon than the model's, or a wrong shape.

    Notes
    -----
    Computed in double precision and rounded to single: sums of a batch are added up in an order
    that depends on its size, and in double precision what differs is rounded away, so that a
    window's prediction is the same bit for bit whatever else is predicted (not on Apple's MPS,
    which has single precision only).
    """
    batches = _predictions(model, data_or_X, device, batch_size)
    predictions = np.concatenate([batch.float().cpu().numpy() for batch in batches])
    if not isinstance(data_or_X, CrossAttentionData):
        return predictions
    if model.symbols is not None:
        order = [model.symbols.index(symbol) for symbol in data_or_X.symbols]
        predictions = predictions[:, order]
    predictions[~data_or_X.has_bar] = np.nan
    return predictions


def attention_batches(
    model: CrossAttentionMultiAsset,
    data_or_X: CrossAttentionData | np.ndarray,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> Iterator[list[dict[str, torch.Tensor]]]:
    """Yield the attentions of every window, a batch at a time (a whole data set may not fit)."""
    for _, attentions in _predictions(model, data_or_X, device, batch_size, return_attention=True):
        yield [{name: x.float() for name, x in maps.items()} for maps in attentions]


def _predictions(model, data_or_X, device, batch_size, return_attention=False) -> Iterator:
    check_int("batch_size", batch_size)
    if not hasattr(model, "predict_batch"):
        raise InvalidInputError(
            f"model must be a CrossAttentionMultiAsset, got {type(model).__name__}"
        )
    device = select_device(device)
    precision = torch.float32 if device.type == "mps" else torch.float64
    model = copy.deepcopy(model).eval().to(device, precision)  # the caller's own stays as it is
    for batch in _batches(model, data_or_X, device, precision, batch_size):
        with torch.no_grad():  # left before the caller goes on
            predicted = model.predict_batch(batch, return_attention)
        yield predicted


def _batches(model, data_or_X, device, precision, batch_size) -> Iterator[Batch]:
    if isinstance(data_or_X, CrossAttentionData):
        data = as_data(align_to_model(model, data_or_X), "data", model)
        with torch.no_grad():
            every_window = model.read(series_of(data, device).to(precision), data.lookback)
        for rows in torch.arange(len(data), device=device).split(batch_size):
            yield every_window.take(rows)
        return
    X = check_array("X", data_or_X, None, None)
    if X.ndim != 4 or len(X) == 0:
        raise InvalidInputError(f"X must have shape (n, N, T, F), got {X.shape}")
    for start in range(0, len(X), batch_size):
        windows = check_array("X", X[start : start + batch_size], None, np.float32)
        x = torch.from_numpy(windows.copy()).to(device, precision)
        model.check_windows(x)
        yield model.read(x, x.shape[2])
