"""Neural baselines: each of the architectures that cross-attention is usually compared with.

All are small, seeded, trained with early stopping on later data and restored to their best epoch.

Built in chapter: Honest comparison.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from crossattn._io import progress
from crossattn._validation import check_bool, check_float, check_int
from crossattn.baselines import networks
from crossattn.baselines.base import Baseline
from crossattn.baselines.linear import CLIP, VOLATILITY_HALF_LIFE
from crossattn.runtime import select_device
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import recent_volatility
from crossattn.windows.splits import hold_out
from crossattn.windows.variance import known_moments


@dataclass(eq=False, repr=False)
class NeuralBaseline(Baseline):
    """A small network with the training recipe that all neural baselines share.

    Parameters
    ----------
    window : int, optional
        Bars that the network reads, the newest of each lookback; by default 16 or the lookback,
        whichever is less.
    width : int
        Size of the hidden state or token.
    epochs, patience : int
        At most so many passes; stop after ``patience`` passes without a better validation error.
    batch_size : int
    lr : float
        Adam's learning rate.
    volatility_weights : bool
        Divide the errors by the asset's volatility, known at the window's last bar, and clip
        targets there at ±6, as in :class:`crossattn.baselines.linear.VAR`.
    seed : int
        Of the initial weights and the order of the batches.
    device : str
        ``"auto"`` takes a GPU where there is one.
    progress : bool
        Show a progress bar on stderr.

    Attributes
    ----------
    network_ : torch.nn.Module
        The fitted network, on standardised features.
    history_ : list of float
        Validation error by epoch, as a share of the error of forecasting zero.

    Notes
    -----
    Features are standardised on the training part; a missing value becomes the mean. A network that
    forecasts at every step is trained on all steps of disjoint windows.
    """

    architecture: ClassVar[type[nn.Module]]
    every_step: ClassVar[bool] = False  # whether it forecasts at each bar of its window

    _: KW_ONLY
    window: int | None = None
    width: int = 32
    epochs: int = 20
    patience: int = 4
    batch_size: int = 256
    lr: float = 2e-3
    volatility_weights: bool = False
    seed: int = 0
    device: str = "auto"
    progress: bool = False

    def _fit(self, train, val):
        for name in ("epochs", "patience", "batch_size"):
            check_int(name, getattr(self, name))
        width = check_int("width", self.width)
        window = 16 if self.window is None else check_int("window", self.window)
        check_float("lr", self.lr, above=0)
        check_bool("volatility_weights", self.volatility_weights)
        seed = check_int("seed", self.seed, at_least=0)
        if val is None:
            train, val = hold_out(train)
        self.bars_ = min(window, train.lookback)
        self._measure(train)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            shape = (len(self.symbols_), len(self.features_), self.bars_, width)
            self.network_ = self.architecture(*shape).to(select_device(self.device))
            self._train(_Windows(self, train), _Windows(self, val))

    def _measure(self, train) -> None:
        rows = slice(train.ends[0] - train.lookback + 1, train.ends[-1] + 1)
        self.mean_, self.spread_ = known_moments(train.panel[rows].astype(float))  # (N, F)
        # of an asset without a known return 0, and so are its forecasts
        self.target_scale_ = np.sqrt(known_moments(train.y**2)[0])

    def _train(self, batches: "_Windows", later: "_Windows") -> None:
        generator = np.random.default_rng(self.seed)
        optimizer = torch.optim.Adam(self.network_.parameters(), lr=self.lr)
        stride = self.bars_ if self.every_step else 1
        best, best_state, stale = np.inf, None, 0
        self.history_ = []
        for _ in progress(range(self.epochs), shown=self.progress, desc=type(self).__name__):
            self.network_.train()
            chosen = generator.permutation(
                np.arange(generator.integers(stride), len(batches), stride)
            )
            size = max(self.batch_size // stride, 1)
            for start in range(0, len(chosen), size):
                x, target, weight = batches.take(chosen[start : start + size], stride)
                error = weight * (self.network_(x) - target) ** 2
                loss = error.sum() / weight.sum().clamp_min(1e-12)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network_.parameters(), 1.0)
                optimizer.step()
            self.history_.append(self._validate(later))
            stale = 0 if self.history_[-1] < best else stale + 1
            if stale == 0:
                best = self.history_[-1]
                best_state = {k: v.detach().clone() for k, v in self.network_.state_dict().items()}
            elif stale >= self.patience:
                break
        if best_state is not None:
            self.network_.load_state_dict(best_state)
        self.network_.eval()

    @torch.no_grad()
    def _validate(self, later: "_Windows") -> float:
        self.network_.eval()
        error = scale = 0.0
        for chosen in self._batches(later):
            x, target, weight = later.take(chosen, 1)
            error += float((weight * (self.network_(x)[..., -1:] - target) ** 2).sum())
            scale += float((weight * target**2).sum())
        return error / max(scale, 1e-30)

    def _batches(self, windows: "_Windows") -> Iterator[np.ndarray]:
        """Iterate over the numbers of all windows, as many at a time as fit without gradients."""
        numbers, size = np.arange(len(windows)), 4 * self.batch_size
        return (numbers[start : start + size] for start in range(0, len(numbers), size))

    @torch.no_grad()
    def _predict(self, data):
        self.network_.eval()
        windows, forecast = _Windows(self, data), np.empty((len(data), len(self.symbols_)))
        for chosen in self._batches(windows):
            forecast[chosen] = self.network_(windows.inputs(chosen))[..., -1].cpu().numpy()
        return forecast * self.target_scale_


class SingleAssetLSTM(NeuralBaseline):
    """LSTM of single assets: each is forecast from its own past alone.

    References
    ----------
    Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", Neural Computation 9(8).
    """

    architecture = networks.AssetLSTM
    every_step = True


class MultiAssetRNN(NeuralBaseline):
    """LSTM over the vector of all assets: cross-asset, without attention."""

    architecture = networks.JointLSTM
    every_step = True


class DLinear(NeuralBaseline):
    """DLinear: two linear maps, of each asset's moving average and of the rest.

    References
    ----------
    Zeng, Chen, Zhang and Xu (2023), "Are Transformers Effective for Time Series Forecasting?".
    """

    architecture = networks.DecompositionLinear


class PatchTST(NeuralBaseline):
    """PatchTST: self-attention over patches of each asset's own past.

    Notes
    -----
    Patches of four bars in place of sixteen, since a window has sixteen bars; the paper's instance
    normalisation is left out, since returns have no level to remove.

    References
    ----------
    Nie, Nguyen, Sinthong and Kalagnanam (2023), "A Time Series is Worth 64 Words: Long-term
    Forecasting with Transformers", ICLR.
    """

    architecture = networks.PatchTransformer


class Crossformer(NeuralBaseline):
    """Crossformer: attention across time, then across assets through routers.

    Notes
    -----
    One layer, without the paper's hierarchy of merged segments and its decoder: one step is
    forecast, by a linear map of all segments.

    References
    ----------
    Zhang and Yan (2023), "Crossformer: Transformer Utilizing Cross-Dimension Dependency for
    Multivariate Time Series Forecasting", ICLR.
    """

    architecture = networks.SegmentTransformer


class MarketGatedTransformer(NeuralBaseline):
    """MASTER: market-gated features, attention within and across stocks.

    Notes
    -----
    The paper gates by the state of market indices; here it is the mean of the assets' features. As
    in the paper no layer knows which asset is which: a fixed leader shows only in what it does.

    References
    ----------
    Li, Liu, Shen, Guo, Shi and Xu (2024), "MASTER: Market-Guided Stock Transformer for Stock Price
    Forecasting", AAAI 38.
    """

    architecture = networks.GatedTransformer


class VariateTokenTransformer(NeuralBaseline):
    """iTransformer: self-attention over assets, one token an asset.

    Notes
    -----
    A token is a linear map of the asset's whole window; the paper's instance normalisation is left
    out, since returns have no level to remove.

    References
    ----------
    Liu, Hu, Zhang, Wu, Wang, Ma and Long (2024), "iTransformer: Inverted Transformers Are
    Effective for Time Series Forecasting", ICLR.
    """

    architecture = networks.VariateTransformer

    @torch.no_grad()
    def attention(self, data: CrossAttentionData) -> np.ndarray:
        """Return the last layer's attention, averaged over heads: (n, N, N), self included."""
        windows, place = _Windows(self, self._as_fitted(data)), self._places(data)
        self.network_.eval()
        maps = np.empty((len(data), len(place), len(place)))
        for chosen in self._batches(windows):
            _, attentions = self.network_(windows.inputs(chosen), return_attention=True)
            maps[chosen] = attentions[-1].mean(dim=1).cpu().numpy()
        return maps[:, place][:, :, place]


class _Windows:
    """Windows, targets and weights as tensors, gathered by index from one panel on the device."""

    def __init__(self, model: NeuralBaseline, data: CrossAttentionData) -> None:
        device = next(model.network_.parameters()).device
        first = data.ends[0] - data.lookback + 1
        rows = slice(first, data.ends[-1] + 1)
        self.ends = torch.as_tensor(data.ends - first, device=device)
        panel = (data.panel[rows] - model.mean_) / model.spread_
        self.panel = torch.as_tensor(np.nan_to_num(panel), dtype=torch.float32, device=device)
        self.back = torch.arange(model.bars_ - 1, -1, -1, device=device)
        usual = np.where(model.target_scale_ > 0, model.target_scale_, 1.0)
        targets = data.targets[rows] / usual
        weights = np.isfinite(targets).astype(float)
        if model.volatility_weights:
            every_row = replace(data, ends=np.arange(len(data.panel)))
            scale = recent_volatility(every_row, slice(None), VOLATILITY_HALF_LIFE)[rows]
            scale = scale * np.sqrt(model.horizon_) / usual
            targets = np.clip(targets, -CLIP * scale, CLIP * scale)
            weights = weights / scale**2
        self.targets = torch.as_tensor(np.nan_to_num(targets), dtype=torch.float32, device=device)
        self.weights = torch.as_tensor(weights, dtype=torch.float32, device=device)

    def __len__(self) -> int:
        return len(self.ends)

    def inputs(self, chosen: np.ndarray) -> Tensor:
        return self.panel[self.ends[chosen, None] - self.back].transpose(1, 2)  # (B, N, T, F)

    def take(self, chosen: np.ndarray, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.ends[chosen, None] - self.back[-steps:]
        target, weight = self.targets[rows], self.weights[rows]  # (B, S, N)
        return self.inputs(chosen), target.transpose(1, 2), weight.transpose(1, 2)
