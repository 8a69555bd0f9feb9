"""Training data on the device: one batch of all windows, from which training draws by number."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crossattn._validation import check_array
from crossattn.config import TrainingConfig
from crossattn.errors import InvalidInputError
from crossattn.model.batch import Batch, by_window
from crossattn.model.heads import ClassHead, ReturnsHead
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.model.preprocessing import exponential_mean, root_mean_square
from crossattn.windows.checks import check_windows, match_training
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.spans import check_spans

NOISE_FLOOR = 0.1


def as_data(
    data: CrossAttentionData | tuple, name: str, model: CrossAttentionMultiAsset
) -> CrossAttentionData:
    """Return data as it is, and a pair (X, y) wrapped, in the model's order of features."""
    if isinstance(data, CrossAttentionData):
        check_windows(name, data)
        return data
    try:
        X, y = (np.asarray(array, dtype=np.float32) for array in data)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{name} must be CrossAttentionData or a pair (X, y) of arrays, got {type(data)}"
        ) from None
    n_assets, n_features = model.config.n_assets, model.config.n_features
    X = check_array(f"{name}: X", X, (None, n_assets, None, n_features), np.float32)
    return CrossAttentionData.from_arrays(X, y, features=model.features)


def make_batch(
    model: CrossAttentionMultiAsset,
    data: CrossAttentionData,
    recipe: TrainingConfig,
    device: torch.device,
) -> Batch:
    """Put all windows of a data set on the device, read once; the model's scales must be fitted."""
    series = series_of(data, device)
    target = _tensor(data.y, device)
    with torch.no_grad():
        batch = model.read(series, data.lookback)
        noise = target_noise(model, series, data, recipe.volatility_half_life)
    return replace(
        batch,
        target=target,
        noise=noise,
        next_return=_tensor(data.bar_returns, device) if model.output_type == "portfolio" else None,
        label=labels_of(model, target) if model.output_type == "classification" else None,
        quantiles=model.config.quantiles,
        clip=recipe.target_clip,
        transaction_cost=recipe.transaction_cost,
        risk_aversion=recipe.risk_aversion,
        concentration=recipe.concentration,
    )


def series_of(data: CrossAttentionData, device: torch.device) -> Tensor:
    """Return the rows that the windows cover, (S, N, T, F), on the device."""
    rows = data.series.transpose(0, 2, 1, 3)  # as they lie in memory: one copy, one transfer
    return _tensor(rows, device).transpose(1, 2)


def target_noise(
    model: CrossAttentionMultiAsset, series: Tensor, data: CrossAttentionData, half_life: float
) -> Tensor:
    """Return the volatility ``(n, N)`` of each window's target, from returns in the window.

    An exponential mean of squared log returns over the lookback, times the root of the horizon; at
    least a tenth of the target's usual size, and that size where nothing is known.
    """
    usual = torch.where(model.target_scale > 0, model.target_scale, 1.0)
    if half_life == 0 or "log_return" not in model.features:
        return usual.expand(len(data), -1)
    power = series[..., model.features.index("log_return")].square()  # (S, N, T)
    power = by_window(exponential_mean(power, half_life, data.lookback))  # (n, N)
    noise = (power * data.horizon).sqrt()
    return torch.where(noise.isfinite(), noise, usual).maximum(NOISE_FLOOR * usual)


def labels_of(model: CrossAttentionMultiAsset, target: Tensor) -> Tensor:
    """Return 0, 1, 2 for targets below, inside and above the neutral band; -1 unknown."""
    band = model.head.band
    label = 1 + (target > band).long() - (target < -band).long()
    return torch.where(target.isfinite(), label, -1)


def fit_scaling(
    model: CrossAttentionMultiAsset, data: CrossAttentionData, device: torch.device
) -> None:
    """Fit every scale, the drift and the neutral band on the training part alone."""
    y = _tensor(data.y, device)
    y = torch.where(y.isfinite(), y, float("nan"))
    with torch.no_grad():
        model.body.fit_scaling(series_of(data, device), data.lookback)
        # of a price that never moved 0, and so are its forecasts
        model.target_scale.copy_(root_mean_square(y.mT, 0.0))
        if isinstance(model.head, ReturnsHead):
            model.head.intercept.copy_(_drift(y, data.horizon))
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


def align_to_model(model: CrossAttentionMultiAsset, data: CrossAttentionData) -> CrossAttentionData:
    """Return ``data`` in the model's own order of symbols and features."""
    if model.symbols is None:
        return data
    check_spans("data", data, model.lookback, model.horizon, model.config.duration)
    return match_training("data", data, model.symbols, model.features)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32)).to(device)
