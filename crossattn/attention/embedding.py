"""Token embeddings: linear, causal convolution, patch and inverted.

Each maps features (B, N, T, F) to tokens (B, N, T', D), asset by asset, with shared or own weights:
no token depends on another asset, and none on a bar that closed after its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossattn._validation import check_shape
from crossattn.attention._checks import check_sizes
from crossattn.errors import InvalidInputError


class AssetLinear(nn.Module):
    """One linear map per asset, where :class:`torch.nn.Linear` has one for all.

    Parameters
    ----------
    n_assets : int
        Number of assets N, the second axis of the input.
    n_in, n_out : int
        Width before and after.

    Examples
    --------
    >>> AssetLinear(5, 3, 8)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 7, 8])

    Built in chapter: The full model
    """

    def __init__(self, n_assets: int, n_in: int, n_out: int) -> None:
        super().__init__()
        check_sizes(n_assets=n_assets, n_in=n_in, n_out=n_out)
        maps = [nn.Linear(n_in, n_out) for _ in range(n_assets)]
        self.weight = nn.Parameter(torch.stack([m.weight.detach().T for m in maps]))  # (N, in, out)
        self.bias = nn.Parameter(torch.stack([m.bias.detach() for m in maps]))  # (N, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, T, n_in) to (B, N, T, n_out)."""
        _check_assets(x, len(self.weight))
        return x @ self.weight + self.bias[:, None]


class LinearEmbedding(nn.Module):
    """Linear embedding: one token per bar, a linear map of that bar's features.

    Parameters
    ----------
    n_features : int
        Number of features F of a bar.
    d_model : int
        Width D of a token.
    n_assets : int, optional
        Give each of so many assets a map of its own; by default all share one.

    Examples
    --------
    >>> LinearEmbedding(3, 8)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 7, 8])

    Built in chapter: Positions
    """

    def __init__(self, n_features: int, d_model: int, n_assets: int | None = None) -> None:
        super().__init__()
        check_sizes(n_features=n_features, d_model=d_model)
        self.n_features = n_features
        self.projection = _linear(n_features, d_model, n_assets)

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F), known at each bar's close, as tokens (B, N, T, D)."""
        _check_features(x, self.n_features)
        return self.projection(x)


class CausalConvEmbedding(nn.Module):
    """Causal convolution embedding: one token per bar, from that bar and a few before it.

    Parameters
    ----------
    n_features, d_model, n_assets
        As in :class:`LinearEmbedding`.
    kernel_size : int
        Number of bars a token is made of; the bars before the window count as zero.

    Notes
    -----
    The padding is on the left only: ``padding="same"`` would put the next bars into today's token.

    Examples
    --------
    >>> CausalConvEmbedding(3, 8, kernel_size=4)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 7, 8])

    Built in chapter: Positions
    """

    def __init__(
        self, n_features: int, d_model: int, kernel_size: int = 3, n_assets: int | None = None
    ) -> None:
        super().__init__()
        groups = 1 if n_assets is None else n_assets
        check_sizes(
            n_features=n_features, d_model=d_model, kernel_size=kernel_size, n_assets=groups
        )
        self.n_features, self.kernel_size, self.n_assets = n_features, kernel_size, n_assets
        self.convolution = nn.Conv1d(
            groups * n_features, groups * d_model, kernel_size, groups=groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F), known at each bar's close, as tokens (B, N, T, D)."""
        _check_features(x, self.n_features)
        # assets are samples of one convolution, or groups of channels with one each
        _check_assets(x, self.n_assets)
        features = x.transpose(2, 3)  # (B, N, F, T)
        series = features.flatten(0, 1) if self.n_assets is None else features.flatten(1, 2)
        tokens = self.convolution(F.pad(series, (self.kernel_size - 1, 0)))  # (.., .. D, T)
        return tokens.reshape(*x.shape[:2], -1, x.shape[2]).transpose(2, 3)


class PatchEmbedding(nn.Module):
    """Patch embedding: one token for each patch of consecutive bars.

    Patches are counted from the end, so that the last token ends with the last bar; bars left over
    are the oldest.

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
    >>> PatchEmbedding(3, 8, patch_length=4)(torch.zeros(2, 5, 22, 3)).shape
    torch.Size([2, 5, 5, 8])

    Built in chapter: Positions
    """

    def __init__(
        self, n_features: int, d_model: int, patch_length: int, stride: int | None = None
    ) -> None:
        super().__init__()
        stride = patch_length if stride is None else stride
        check_sizes(
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
    """Inverted embedding: the whole window of an asset is one token; attention is between assets.

    Parameters
    ----------
    lookback : int
        Number of bars T of a window.
    n_features, d_model, n_assets
        As in :class:`LinearEmbedding`.

    References
    ----------
    Liu et al. (2024), "iTransformer: Inverted Transformers Are Effective for Time Series
    Forecasting".

    Examples
    --------
    >>> InvertedEmbedding(7, 3, 8)(torch.zeros(2, 5, 7, 3)).shape
    torch.Size([2, 5, 1, 8])

    Built in chapter: Positions
    """

    def __init__(
        self, lookback: int, n_features: int, d_model: int, n_assets: int | None = None
    ) -> None:
        super().__init__()
        check_sizes(lookback=lookback, n_features=n_features, d_model=d_model)
        self.lookback, self.n_features = lookback, n_features
        self.projection = _linear(lookback * n_features, d_model, n_assets)

    def forward(self, x: Tensor) -> Tensor:
        """Embed features (B, N, T, F) as tokens (B, N, 1, D), known at the window's last close."""
        _check_features(x, self.n_features)
        if x.shape[2] != self.lookback:
            raise InvalidInputError(f"x must have lookback={self.lookback} bars, got {x.shape[2]}")
        return self.projection(x.flatten(2).unsqueeze(2))


def _linear(n_in: int, n_out: int, n_assets: int | None) -> nn.Module:
    """One map for all assets, or one for each."""
    return nn.Linear(n_in, n_out) if n_assets is None else AssetLinear(n_assets, n_in, n_out)


def _check_assets(x: Tensor, n_assets: int | None) -> None:
    if n_assets is not None and x.shape[1] != n_assets:
        raise InvalidInputError(f"x must have the {n_assets} assets, got {x.shape[1]}")


def _check_features(x: Tensor, n_features: int) -> None:
    check_shape("x", x, "batch", "assets", "time", n_features)
