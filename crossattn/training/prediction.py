"""Predictions of a fitted model, for data or for raw windows.

Built in chapter: Prediction and heat-maps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from crossattn._utils import select_device
from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.batches import as_part, conform
from crossattn.windows.dataset import CrossAttentionData


def predict(
    model: CrossAttentionMultiAsset,
    data_or_X: CrossAttentionData | np.ndarray,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> np.ndarray:
    """Predict for every window.

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
        close. Finite where inputs are missing.

    Raises
    ------
    InvalidInputError
        Other symbols, features, lookback or horizon than the model's, or a wrong shape.
    """
    parts = [p.cpu().numpy() for p in _answers(model, data_or_X, device, batch_size)]
    answers = np.concatenate(parts)
    if isinstance(data_or_X, CrossAttentionData) and model.symbols is not None:
        answers = answers[:, [model.symbols.index(symbol) for symbol in data_or_X.symbols]]
    return answers


def attention_batches(
    model: CrossAttentionMultiAsset,
    data_or_X: CrossAttentionData | np.ndarray,
    *,
    device: str | torch.device = "auto",
    batch_size: int = 256,
) -> Iterator[list[dict[str, torch.Tensor]]]:
    """Yield the attentions of every window, a batch at a time (a whole data set may not fit)."""
    for _, attentions in _answers(model, data_or_X, device, batch_size, return_attention=True):
        yield attentions


def _answers(model, data_or_X, device, batch_size, return_attention=False) -> Iterator:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidInputError(f"batch_size must be a positive integer, got {batch_size!r}")
    device = select_device(device)
    model.to(device).eval()
    if isinstance(data_or_X, CrossAttentionData):
        data = conform(model, data_or_X)
        part = as_part(data, "data")
        ends = torch.from_numpy(part.ends).to(device)
        panel = torch.from_numpy(np.array(part.x)).to(device)
        with torch.no_grad():
            store = model.read_panel(panel, data.lookback)
        inputs = (store.gather(rows) for rows in ends.split(batch_size))
    else:
        X = np.asarray(data_or_X)
        if X.ndim != 4 or len(X) == 0:
            raise InvalidInputError(f"X must have shape (n, N, T, F), got {X.shape}")
        batches = (X[start : start + batch_size] for start in range(0, len(X), batch_size))
        inputs = (_windows(model, batch, device) for batch in batches)
    for batch in inputs:
        with torch.no_grad():
            answer = model.answer(batch, return_attention)
        yield answer


def _windows(model, X: np.ndarray, device: torch.device):
    x = torch.from_numpy(np.array(X, dtype=np.float32)).to(device)
    model.check_windows(x)
    return model.body.read_windows(x)
