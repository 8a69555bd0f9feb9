"""From features to tokens: what one token of an asset is made of.

Each embedding maps features (B, N, T, F) to tokens (B, N, T', D), asset by asset with shared
weights, so that no token knows of another asset before the attention. No token holds a bar that
closed after its own.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from crossattn.attention.functional import check_positive
from crossattn.errors import InvalidInputError


class LinearEmbedding(nn.Module):
    """One token a bar: a linear map of that bar's features.

    Parameters
    ----------
    n_features : int
        Number of features F of a bar.
    d_model : int
        Width D of a token.

    Examples
    --------
    >>> import torch
    >>> LinearEmbedding(3, 8)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 7, 8])

    Built in chapter: Positions
    """

    def __init__(self, n_features: int, d_model: int) -> None:
        super().__init__()
        check_positive(n_features=n_features, d_model=d_model)
        self.n_features = n_features
        self.projection = nn.Linear(n_features, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F), known at each bar's close, as tokens (B, N, T, D)."""
        _check_features(x, self.n_features)
        return self.projection(x)


class CausalConvEmbedding(nn.Module):
    """One token a bar, made of that bar and the few before it.

    Parameters
    ----------
    n_features, d_model : int
        Number of features F and width D of a token.
    kernel_size : int
        Number of bars a token is made of; the bars before the window count as zero.

    Notes
    -----
    The padding is on the left only. A convolution with ``padding="same"`` would put the next bars
    into today's token: a leak that no later causal mask can undo.

    Examples
    --------
    >>> import torch
    >>> CausalConvEmbedding(3, 8, kernel_size=4)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 7, 8])

    Built in chapter: Positions
    """

    def __init__(self, n_features: int, d_model: int, kernel_size: int = 3) -> None:
        super().__init__()
        check_positive(n_features=n_features, d_model=d_model, kernel_size=kernel_size)
        self.n_features, self.kernel_size = n_features, kernel_size
        self.convolution = nn.Conv1d(n_features, d_model, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F), known at each bar's close, as tokens (B, N, T, D)."""
        _check_features(x, self.n_features)
        by_asset = x.flatten(0, 1).transpose(1, 2)  # (B N, F, T)
        tokens = self.convolution(F.pad(by_asset, (self.kernel_size - 1, 0)))  # (B N, D, T)
        return tokens.transpose(1, 2).unflatten(0, x.shape[:2])


class PatchEmbedding(nn.Module):
    """One token for each patch of consecutive bars: fewer tokens, each with a history.

    Patches are counted from the end of the window, so that the last token always ends with the
    last bar; where the patches do not fill the window its oldest bars are left out.

    Parameters
    ----------
    n_features, d_model : int
        Number of features F and width D of a token.
    patch_length : int
        Number of bars in a patch.
    stride : int, optional
        Bars from one patch to the next; by default ``patch_length``, patches side by side.

    References
    ----------
    Nie et al. (2023), "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers".

    Examples
    --------
    >>> import torch
    >>> PatchEmbedding(3, 8, patch_length=4)(torch.zeros(2, 5, 22, 3)).shape
    torch.Size([2, 5, 5, 8])

    Built in chapter: Positions
    """

    def __init__(
        self, n_features: int, d_model: int, patch_length: int, stride: int | None = None
    ) -> None:
        super().__init__()
        stride = patch_length if stride is None else stride
        check_positive(
            n_features=n_features, d_model=d_model, patch_length=patch_length, stride=stride
        )
        self.n_features, self.patch_length, self.stride = n_features, patch_length, stride
        self.projection = nn.Linear(patch_length * n_features, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F) as tokens (B, N, P, D), known at the close of each patch."""
        _check_features(x, self.n_features)
        spare = x.shape[2] - self.patch_length
        if spare < 0:
            raise InvalidInputError(
                f"x must have at least patch_length={self.patch_length} bars, got {x.shape[2]}"
            )
        patches = x[:, :, spare % self.stride :].unfold(2, self.patch_length, self.stride)
        return self.projection(patches.flatten(-2))  # (B, N, P, F patch_length) -> (B, N, P, D)


class InvertedEmbedding(nn.Module):
    """One token an asset: the whole window is the token, and attention is between assets alone.

    Parameters
    ----------
    lookback : int
        Number of bars T of a window.
    n_features, d_model : int
        Number of features F and width D of a token.

    References
    ----------
    Liu et al. (2024), "iTransformer: Inverted Transformers Are Effective for Time Series
    Forecasting".

    Examples
    --------
    >>> import torch
    >>> InvertedEmbedding(7, 3, 8)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 1, 8])

    Built in chapter: Positions
    """

    def __init__(self, lookback: int, n_features: int, d_model: int) -> None:
        super().__init__()
        check_positive(lookback=lookback, n_features=n_features, d_model=d_model)
        self.lookback, self.n_features = lookback, n_features
        self.projection = nn.Linear(lookback * n_features, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F) as tokens (B, N, 1, D), known at the window's last close."""
        _check_features(x, self.n_features)
        if x.shape[2] != self.lookback:
            raise InvalidInputError(f"x must have lookback={self.lookback} bars, got {x.shape[2]}")
        return self.projection(x.flatten(2)).unsqueeze(2)


def _check_features(x: Tensor, n_features: int) -> None:
    if x.dim() != 4 or x.shape[-1] != n_features:
        raise InvalidInputError(
            f"x must have shape (batch, assets, time, {n_features}), got {tuple(x.shape)}"
        )
