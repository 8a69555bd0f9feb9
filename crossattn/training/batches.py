"""Training rows on the device: one panel, from which batches are gathered by row number.

A window is named by the row that ends it. Every row of a part has its target, so each step of the
panel teaches (dense labels) and none is copied: an epoch is a shuffle of row numbers.

Built in chapter: Training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crossattn.config import TrainingConfig
from crossattn.errors import InvalidInputError
from crossattn.model.heads import ClassHead, ReturnsHead
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.model.preprocessing import exponential_mean, root_mean_square
from crossattn.training.losses import Truth
from crossattn.windows.dataset import CrossAttentionData

NOISE_FLOOR = 0.1


@dataclass(frozen=True)
class Part:
    """One part of the data, as arrays, whichever way it was given.

    Attributes
    ----------
    x : ndarray of shape (R, N, F) or (n, N, T, F)
        A panel, or windows of a caller's own.
    ends : ndarray of shape (n,)
        The row of ``x`` that ends each window (of windows: its own number).
    targets, next_returns : ndarray of shape (R, N)
    lookback, horizon : int
    symbols, features : tuple of str or None
    """

    x: np.ndarray
    ends: np.ndarray
    targets: np.ndarray
    next_returns: np.ndarray
    lookback: int
    horizon: int
    symbols: tuple[str, ...] | None
    features: tuple[str, ...] | None

    @property
    def is_panel(self) -> bool:
        """Whether ``x`` is a panel, not windows."""
        return self.x.ndim == 3

    def __len__(self) -> int:
        return len(self.ends)

    def of_the_next_bar(self) -> Part:
        """Return the same windows with the next bar's return as target."""
        return replace(self, targets=self.next_returns, horizon=1)


def as_part(data: CrossAttentionData | tuple, name: str) -> Part:
    """Return data, or ``(X, y)``, as a :class:`Part` that reads nothing but its own windows.

    Raises
    ------
    InvalidInputError
        Neither, no window, or shapes that do not fit.
    """
    if isinstance(data, CrossAttentionData):
        if len(data) == 0:
            raise InvalidInputError(f"{name} has no window")
        rows = slice(int(data.ends[0]) - data.lookback + 1, int(data.ends[-1]) + 1)
        return Part(
            np.asarray(data.panel[rows], np.float32),
            np.asarray(data.ends) - rows.start,
            data.targets[rows],
            data.next_returns[rows],
            data.lookback,
            data.horizon,
            data.symbols,
            data.features,
        )
    try:
        X, y = (np.asarray(array, dtype=np.float32) for array in data)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{name} must be CrossAttentionData or a pair (X, y) of arrays, got {type(data)}"
        ) from None
    if X.ndim != 4 or y.shape != X.shape[:2] or len(X) == 0:
        raise InvalidInputError(
            f"{name} must have X (n, N, T, F) and y (n, N), got {X.shape} and {y.shape}"
        )
    return Part(X, np.arange(len(X)), y, y, X.shape[2], 1, None, None)


@dataclass(frozen=True)
class Rows:
    """A part on the device, read once by the model's body.

    Attributes
    ----------
    store : object with ``gather(rows)``
        Inputs of every row.
    ends : Tensor of shape (n,), int64
    targets, next_returns, noise : Tensor of shape (R, N)
    labels : Tensor of shape (R, N), int64
    """

    store: object
    ends: Tensor
    targets: Tensor
    next_returns: Tensor
    noise: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.ends)

    def truth(self, rows: Tensor, model: CrossAttentionMultiAsset, recipe: TrainingConfig) -> Truth:
        """Return what forecasts made at ``rows`` are held against."""
        return Truth(
            target=self.targets[rows],
            noise=self.noise[rows],
            next_return=self.next_returns[rows],
            label=self.labels[rows],
            quantiles=model.config.quantiles,
            clip=recipe.target_clip,
            transaction_cost=recipe.transaction_cost,
            risk_aversion=recipe.risk_aversion,
            concentration=recipe.concentration,
        )


def rows_of(
    model: CrossAttentionMultiAsset, part: Part, recipe: TrainingConfig, device: torch.device
) -> Rows:
    """Put a part on the device; the model's scales must be fitted."""
    x = torch.from_numpy(np.array(part.x)).to(device)
    with torch.no_grad():
        if part.is_panel:
            store = model.read_panel(x, part.lookback)
        else:
            model.check_windows(x)
            store = model.body.store_windows(x)
        noise = volatility_before(model, x, part, recipe.volatility_half_life)
    targets = _tensor(part.targets, device)
    return Rows(
        store=store,
        ends=torch.from_numpy(np.array(part.ends, dtype=np.int64)).to(device),
        targets=targets,
        next_returns=_tensor(part.next_returns, device),
        noise=noise,
        labels=labels_of(model, targets),
    )


def volatility_before(
    model: CrossAttentionMultiAsset, x: Tensor, part: Part, half_life: float
) -> Tensor:
    """Return the volatility ``(R, N)`` of each row's target, from returns up to the row.

    An exponential mean of squared log returns over the lookback, times the root of the horizon; at
    least a tenth of the target's usual size, and that size where nothing is known.
    """
    usual = model.target_scale
    n_rows = part.targets.shape[0]
    if half_life == 0 or "log_return" not in model.features:
        return usual.expand(n_rows, -1)
    power = x[..., model.features.index("log_return")].square()
    if part.is_panel:
        power = exponential_mean(power.mT, half_life, part.lookback, every_step=True).mT
    else:
        power = exponential_mean(power, half_life, part.lookback, every_step=False)
    noise = (power * part.horizon).sqrt()
    return torch.where(noise.isfinite(), noise, usual).maximum(NOISE_FLOOR * usual)


def labels_of(model: CrossAttentionMultiAsset, targets: Tensor) -> Tensor:
    """Return 0, 1, 2 for targets below, inside and above the neutral band; -1 unknown."""
    if not isinstance(model.head, ClassHead):
        return torch.full(targets.shape, -1, device=targets.device)
    band = model.head.band
    label = 1 + (targets > band).long() - (targets < -band).long()
    return torch.where(targets.isfinite(), label, -1)


def fit_scaling(model: CrossAttentionMultiAsset, part: Part, device: torch.device) -> None:
    """Fit every scale, the drift and the neutral band on the training part alone."""
    x = torch.from_numpy(np.array(part.x)).to(device)
    y = torch.from_numpy(np.array(part.targets[part.ends], dtype=np.float32)).to(device)
    y = torch.where(y.isfinite(), y, float("nan"))
    with torch.no_grad():
        model.body.fit_scaling(x, part.lookback, every_step=part.is_panel)
        model.target_scale.copy_(root_mean_square(y.mT))
        if isinstance(model.head, ReturnsHead):
            model.head.intercept.copy_(_drift(y, part.horizon))
        if isinstance(model.head, ClassHead):
            band = y.abs().nanquantile(1 / 3, dim=0)
            model.head.band.copy_(band.nan_to_num(0.0))


def _drift(y: Tensor, horizon: int) -> Tensor:
    """Return the mean target, shrunk by its own uncertainty: none below two standard errors."""
    mean = y.nanmean(0)
    count = (~y.isnan()).sum(0) / horizon  # overlapping targets repeat themselves
    error = ((y - mean).square().nanmean(0) / count.clamp_min(1)).sqrt()
    share = (1 - 4 * (error / mean).square()).clamp_min(0.0)
    return (share * mean).nan_to_num(0.0)


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


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32)).to(device)
