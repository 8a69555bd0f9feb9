"""The published long-horizon protocol of forecasting transformers, on any table of prices.

Papers report the mean squared error of hundreds of future values, each series standardised by its
training part; here the protocol runs on prices that the papers did not choose.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import pandas as pd
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from crossattn.baselines.networks import VariateTransformer
from crossattn.errors import InvalidInputError
from crossattn.runtime import select_device
from crossattn.windows.variance import known_moments

PART = 256  # windows that are forecast at a time
Forecaster = Callable[[np.ndarray], np.ndarray]
Fit = Callable[[np.ndarray, np.ndarray, int, int], Forecaster]


def repeat_last(train: np.ndarray, val: np.ndarray, lookback: int, horizon: int) -> Forecaster:
    """Repeat the last value: the optimal forecast of a random walk."""
    return lambda past: np.repeat(past[:, -1:], horizon, axis=1)  # (B, T, N) -> (B, H, N)


def drift(train: np.ndarray, val: np.ndarray, lookback: int, horizon: int) -> Forecaster:
    """Random walk with drift: each series goes on as it has on average."""
    slope = (train[-1] - train[0]) / max(len(train) - 1, 1)  # (N,), a row
    path = np.arange(1, horizon + 1)[:, None] * slope  # (H, N)
    return lambda past: past[:, -1:] + path


def training_mean(train: np.ndarray, val: np.ndarray, lookback: int, horizon: int) -> Forecaster:
    """Forecast the mean of the training part (0 after standardising)."""
    mean = train.mean(axis=0)
    return lambda past: np.broadcast_to(mean, (len(past), horizon, len(mean)))


@dataclass
class Linear:
    """Linear baseline: one ridge regression from past to future, shared by all series.

    After Zeng et al. (2023): past and future relative to the last value, least squares instead of
    their gradient descent.
    """

    penalty: float = 1e-3  #: of the ridge, relative to the mean square of the inputs

    def __call__(self, train, val, lookback: int, horizon: int) -> Forecaster:
        """Fit on the training part and return the forecaster."""
        past, future = _pairs(train, lookback, horizon)  # (n, T, N), (n, H, N)
        last = past[:, -1:]
        inputs = (past - last).transpose(0, 2, 1).reshape(-1, lookback)
        targets = (future - last).transpose(0, 2, 1).reshape(-1, horizon)
        gram = inputs.T @ inputs
        ridge = self.penalty * np.trace(gram) / lookback * np.eye(lookback)
        matrix = np.linalg.solve(gram + ridge, inputs.T @ targets)  # (T, H)

        def forecast(past: np.ndarray) -> np.ndarray:
            last = past[:, -1:]
            change = np.einsum("btn,th->bhn", past - last, matrix)
            return last + change

        return forecast


@dataclass
class InvertedTransformer:
    """iTransformer (Liu et al., 2024): one token a series, attention across series."""

    width: int = 64
    n_heads: int = 4
    n_layers: int = 2
    _: KW_ONLY
    epochs: int = 3  #: of Adam; the one with the lowest validation error is kept
    batch_size: int = 64
    lr: float = 1e-3
    seed: int = 0
    device: str = "auto"

    def __call__(self, train, val, lookback: int, horizon: int) -> Forecaster:
        """Train and return the forecaster."""
        device = select_device(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            shape = self.width, self.n_heads, self.n_layers
            model = _Inverted(lookback, horizon, *shape).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr)
        past, future = _tensors(_pairs(train, lookback, horizon), device)
        late = _tensors(_pairs(np.concatenate([train[-lookback:], val]), lookback, horizon), device)
        best, kept = np.inf, None
        generator = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            model.train()
            order = torch.from_numpy(generator.permutation(len(past))).to(device)
            for rows in order.split(self.batch_size):
                optimizer.zero_grad(set_to_none=True)
                nn.functional.mse_loss(model(past[rows]), future[rows]).backward()
                optimizer.step()
            error = float(nn.functional.mse_loss(_in_parts(model, late[0]), late[1]))
            if error < best:
                best = error
                kept = {k: v.clone() for k, v in model.state_dict().items()}
        if kept is None:
            raise InvalidInputError(f"training never reached a finite error: lower lr={self.lr}")
        model.load_state_dict(kept)

        def forecast(past: np.ndarray) -> np.ndarray:
            return _in_parts(model, _tensors((past,), device)[0]).cpu().numpy()

        return forecast


def long_horizon_errors(
    prices: pd.DataFrame,
    models: Mapping[str, Fit],
    *,
    lookback: int = 96,
    horizons: Sequence[int] = (96, 192, 336, 720),
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2),
) -> pd.DataFrame:
    """Run the published protocol: split 7:1:2 in time, standardise, forecast every test window.

    Parameters
    ----------
    prices : DataFrame of shape (T, N)
        Series in columns, time order in rows, as ``pandas.read_csv(..., index_col=0)`` gives them;
        no missing value.
    models : mapping of str to callable
        ``fit(train, val, lookback, horizon)`` gets standardised arrays (rows, N) and returns a
        function from pasts (B, lookback, N) to forecasts (B, horizon, N):
        :func:`repeat_last`, :func:`drift`, :class:`Linear`, :class:`InvertedTransformer`.
    lookback : int
        Rows that a forecast may look back over.
    horizons : sequence of int
        How many next rows are forecast; one result each.
    shares : tuple of float
        Of training, validation and test rows.

    Returns
    -------
    DataFrame
        Mean squared error, a row a horizon, a column a model, over all series and steps and *every*
        test window (implementations that drop the last incomplete batch report another number).

    Notes
    -----
    Mean and standard deviation are those of the training part. A test window may look back into
    the validation part, as in the papers; its targets lie in the test part.

    References
    ----------
    Zhou et al. (2021), "Informer", AAAI; Zeng et al. (2023), "Are Transformers Effective for Time
    Series Forecasting?", AAAI.

    Built in chapter: Honest comparison.

    Examples
    --------
    >>> walk = np.random.default_rng(0).normal(size=(400, 2)).cumsum(axis=0)
    >>> errors = long_horizon_errors(
    ...     pd.DataFrame(walk), {"repeat": repeat_last, "mean": training_mean},
    ...     lookback=8, horizons=[4],
    ... )
    >>> bool((errors["repeat"] < errors["mean"]).all())
    True
    """
    try:
        values = prices.to_numpy(dtype=float)
    except (AttributeError, TypeError, ValueError):
        raise InvalidInputError("prices must be a DataFrame of numbers") from None
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InvalidInputError("prices must be a table of finite numbers without gaps")
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise InvalidInputError(
            f"shares must be three positive numbers that sum to 1, got {shares}"
        )
    first = int(len(values) * shares[0])
    last = len(values) - int(len(values) * shares[2])
    if lookback < 1 or min(horizons) < 1:
        raise InvalidInputError(
            f"lookback and horizons must be positive, got {lookback} and {list(horizons)}"
        )
    shortest = min(first - lookback, last - first, len(values) - last)
    if shortest < max(horizons):
        raise InvalidInputError(
            f"prices: {len(values)} rows are too few for lookback {lookback} and horizon "
            f"{max(horizons)}"
        )
    mean, deviation = known_moments(values[:first])
    scaled = (values - mean) / deviation
    train, val = scaled[:first], scaled[first:last]
    rows = {}
    for horizon in horizons:
        past, future = _pairs(scaled[last - lookback :], lookback, horizon)
        rows[horizon] = {
            name: _mean_squared_error(fit(train, val, lookback, horizon), past, future)
            for name, fit in models.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("horizon")


class _Inverted(nn.Module):
    """Each window by its own mean and deviation, one token a series, all future steps at once."""

    def __init__(self, lookback: int, horizon: int, width: int, n_heads: int, n_layers: int):
        super().__init__()
        self.network = VariateTransformer(1, 1, lookback, width, n_heads, n_layers)
        self.network.head = nn.Linear(width, horizon)

    def forward(self, past: torch.Tensor) -> torch.Tensor:  # (B, T, N) -> (B, H, N)
        mean = past.mean(1, keepdim=True)
        deviation = (past.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        tokens = ((past - mean) / deviation).mT.unsqueeze(-1)  # (B, N, T, 1)
        return self.network(tokens).mT * deviation + mean


def _pairs(values: np.ndarray, lookback: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Every window of ``values`` and what follows it, as views: (n, T, N) and (n, H, N)."""
    windows = sliding_window_view(values, lookback + horizon, axis=0).transpose(0, 2, 1)
    return windows[:, :lookback], windows[:, lookback:]


def _mean_squared_error(forecast: Forecaster, past, future) -> float:
    total = 0.0
    for start in range(0, len(past), PART):
        rows = slice(start, start + PART)
        total += float(((forecast(past[rows]) - future[rows]) ** 2).sum())
    return total / future.size


def _tensors(arrays, device) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.array(a, dtype=np.float32)).to(device) for a in arrays)


@torch.no_grad()
def _in_parts(model: nn.Module, past: torch.Tensor) -> torch.Tensor:
    model.eval()
    return torch.cat([model(part) for part in past.split(PART)])
