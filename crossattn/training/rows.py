"""Training rows on the device: one panel, from which batches are gathered by row number.

Built in chapter: Training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crossattn.errors import InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.windows.data import CrossAttentionData


@dataclass(frozen=True)
class Rows:
    """Everything a model needs of one part of the data, on its device.

    Attributes
    ----------
    store : object with ``gather(rows)``
        Inputs of every row, as the model's body prepared them.
    ends : Tensor of shape (n,), int64
        The rows that end a window, in time order.
    targets, next_returns, noise : Tensor of shape (R, N)
    """

    store: object
    ends: Tensor
    targets: Tensor
    next_returns: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.ends)


def conform(model: CrossAttentionMultiAsset, data: CrossAttentionData) -> CrossAttentionData:
    """Return ``data`` in the model's own order of symbols and features.

    Raises
    ------
    InvalidInputError
        The data has other symbols, lacks a feature, or has another lookback or horizon.
    """
    if model.symbols is None:
        return data
    if set(data.symbols) != set(model.symbols):
        raise InvalidInputError(
            f"data must have the model's symbols {', '.join(model.symbols)}, "
            f"got {', '.join(data.symbols)}"
        )
    for name in ("lookback", "horizon"):
        if getattr(data, name) != getattr(model, name):
            raise InvalidInputError(
                f"data must have the model's {name}={getattr(model, name)}, "
                f"got {getattr(data, name)}"
            )
    missing = [name for name in model.features if name not in data.features]
    if missing:
        raise InvalidInputError(f"data lacks the model's feature {missing[0]!r}")
    return data.select(symbols=model.symbols, features=model.features)


def panel_tensor(data: CrossAttentionData, device: torch.device) -> tuple[Tensor, slice]:
    """Return the part of the panel that the windows of ``data`` read, and which rows it is."""
    part = slice(int(data.ends[0]) - data.lookback + 1, int(data.ends[-1]) + 1)
    return torch.from_numpy(np.array(data.panel[part])).to(device), part


def rows_of(
    model: CrossAttentionMultiAsset, data: CrossAttentionData, device: torch.device
) -> Rows:
    """Put one part of the data on the device, read once by the model's body."""
    panel, part = panel_tensor(data, device)
    with torch.no_grad():
        store = model.read_panel(panel, data.lookback)
        noise = (
            model.body.reader.volatility(
                panel[..., model.features.index("log_return")].T,
                model.config.recipe.volatility_half_life,
                data.lookback,
                True,
            ).mT
            * data.horizon**0.5
        )
    return Rows(
        store=store,
        ends=torch.from_numpy(data.ends - part.start).to(device),
        targets=_tensor(data.targets[part], device),
        next_returns=_tensor(data.next_returns[part], device),
        noise=noise,
    )


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(device)
