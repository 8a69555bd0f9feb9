"""Content part of the forecaster: attend to the source that volume, range or a move marks."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.optim.adam import adam

from crossattn.attention.content import ContentHeads
from crossattn.tokens.channels import TokenSeries
from crossattn.tokens.linear_map import running_sum
from crossattn.tokens.sparse import TARGET_CLIP
from crossattn.training.schedule import one_cycle

HISTORY = ["member", "epoch", "val_loss"]  # of a record of training
MOVE_BARS = (2, 3, 4, 6, 8, 12, 16, 24)
RISE_BARS = (1, 6, 24)
RECENT_BARS = (6, 24)
LIMIT = 8.0
EPOCHS, BATCH, WARMUP = 12, 256, 0.2
LEARNING_RATES = {
    "token_weight": 0.5,
    "source_weight": 0.5,
    "lag_bias": 0.25,
    "own_bias": 0.05,
    "source_scale": 0.01,
    "gain": 0.05,
}
WEIGHT_PENALTY = 2e-4  # L1, on the two vectors that score sources and tokens
TOLERATED_LOSS = 0.002
CHUNK = 128  # rows computed together
EVALUATED = 1024
COEFFICIENTS = 20_000_000  # numbers held at a time


def content_channels(series: TokenSeries, scale: np.ndarray) -> np.ndarray:
    """Return features that content heads score sources by, ``(C, n_assets, n_rows)``.

    Relative volume, log range and size of the newest bar; the absolute move over 2 to 24 bars; the
    signed move over 1, 6 and 24; mean volume and range over 6 and 24 bars.
    """
    returns, volume = (series.returns[:, : len(scale)] / scale).T, series.volume.T
    log_range = series.log_range.T  # (n_assets, n_rows), as the other two
    channels = [volume, log_range, np.abs(returns)]
    channels += [np.abs(running_sum(returns, k)) / math.sqrt(k) for k in MOVE_BARS]
    channels += [running_sum(returns, k) / math.sqrt(k) for k in RISE_BARS]
    channels += [running_sum(x, k) / k for k in RECENT_BARS for x in (volume, log_range)]
    return np.stack(channels)


class _Adam:
    """Adam with a learning rate per parameter, as :class:`torch.optim.Adam`.

    Making one of those imports the compiler of torch, which takes as long as the fit.
    """

    def __init__(self, rates: Iterable[tuple[Tensor, float]]):
        self.state = [
            (p, rate, torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device))
            for p, rate in rates
        ]

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Follow the gradients, at a share of each learning rate."""
        settings = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
        settings |= {"amsgrad": False, "maximize": False, "fused": True}
        for p, rate, mean, square, count in self.state:
            adam([p], [p.grad], [mean], [square], [], [count], lr=rate * share, **settings)


@dataclass
class ContentPart:
    """Content heads with their scales: fitted on next-bar returns, several members averaged."""

    scale: np.ndarray  #: (n_assets,): root mean square return of each asset on training rows
    centre: np.ndarray  #: (C,): means of the content channels on training rows, over all assets
    spread: np.ndarray  #: (C,): their standard deviations
    heads: ContentHeads  #: members whose validation loss is within 0.002 of the best one's
    history: list[dict]  #: ``member, epoch, val_loss``

    @classmethod
    def fit(
        cls,
        series: TokenSeries,
        train: np.ndarray,
        val: np.ndarray,
        *,
        n_members: int,
        n_lags: int,
        seed: int,
        device: torch.device,
        epochs: int = EPOCHS,
    ) -> Self:
        """Train all members together on ``train`` rows; ``val`` rows choose each one's epoch."""
        scale = series.usual_sizes(train)
        raw = content_channels(series, scale)
        centre, spread = raw[:, :, train].mean((1, 2)), raw[:, :, train].std((1, 2))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = ContentHeads(n_members, len(scale), len(raw), n_lags).to(device)
        spread = np.where(spread > 0, spread, 1.0)
        part = cls(scale, centre, spread, heads, [])
        part._train(series, train, val, seed, epochs)
        return part

    def _train(self, series, train, val, seed, epochs) -> None:
        heads = self.heads
        returns, content = self.inputs(series)
        noise = series.volatility / self.scale
        target = np.clip(series.next_returns / series.volatility, -TARGET_CLIP, TARGET_CLIP)
        known = self._tensor(np.isfinite(target))
        target, noise = self._tensor(np.nan_to_num(target)), self._tensor(noise)

        def losses(rows: slice) -> Tensor:  # (M,)
            span = slice(rows.start - heads.n_lags + 1, rows.stop)
            forecast = heads(returns[:, span], content[:, :, span]) / noise[rows]
            error = (target[rows] - forecast).square() * known[rows]
            return error.sum((1, 2)) / known[rows].sum().clamp_min(1)

        optimizer = _Adam((p, LEARNING_RATES[name]) for name, p in heads.named_parameters())
        first, stop = max(int(train[0]), heads.n_lags - 1), int(train[-1]) + 1
        batch = max(1, min(BATCH, (stop - first) // 4))
        step, total = 0, epochs * max(1, (stop - first) // batch)
        generator = np.random.default_rng(seed)
        best_loss = np.full(len(heads.gain), np.inf)
        best = {name: t.detach().clone() for name, t in heads.state_dict().items()}
        for epoch in range(epochs):
            starts = np.arange(first + generator.integers(batch), stop - batch + 1, batch)
            for start in generator.permutation(starts):
                loss = losses(slice(int(start), int(start) + batch)).sum()
                sizes = heads.token_weight.abs().sum() + heads.source_weight.abs().sum()
                heads.zero_grad()
                (loss + WEIGHT_PENALTY * sizes).backward()
                optimizer.step(one_cycle(min(step / total, 1.0), WARMUP))
                step += 1
            val_loss = self._evaluate(losses, val)
            for member in np.flatnonzero(val_loss < best_loss):
                best_loss[member] = val_loss[member]
                for name, tensor in heads.state_dict().items():
                    best[name][member] = tensor[member]
            self.history += [
                {"member": m, "epoch": epoch, "val_loss": float(v)} for m, v in enumerate(val_loss)
            ]
        kept = np.flatnonzero(best_loss <= best_loss.min() + TOLERATED_LOSS)
        shape = len(self.scale), len(self.centre), heads.n_lags
        # forecasts are made in double precision, so that contributions add up to them
        self.heads = ContentHeads(len(kept), *shape).double()
        self.heads.load_state_dict({name: t[kept].cpu().double() for name, t in best.items()})

    @torch.no_grad()
    def _evaluate(self, losses, rows: np.ndarray) -> np.ndarray:
        stop = rows[-1] + 1
        bounds = [(a, min(a + EVALUATED, stop)) for a in range(rows[0], stop, EVALUATED)]
        sums = sum((b - a) * losses(slice(int(a), int(b))) for a, b in bounds)
        return (sums / len(rows)).cpu().numpy()

    @torch.no_grad()
    def forecast(self, series: TokenSeries, rows: np.ndarray) -> np.ndarray:
        """Return the members' mean forecast of the next bar's return, ``(n, n_assets)``."""
        returns, content = self.inputs(series)
        out = [self.heads(r, c).mean(0) for r, c in self._chunks(rows, returns, content)]
        return torch.cat(out)[rows - rows[0] // CHUNK * CHUNK].numpy() * self.scale

    @torch.no_grad()
    def coefficients(self, content: Tensor, rows: np.ndarray, followers: np.ndarray) -> np.ndarray:
        """Return coefficients of raw returns ``(n, F, n_assets, n_lags)``, newest first."""
        before, n_sources = self.heads.n_lags - 1, len(self.scale)
        per_row = len(self.heads.gain) * len(followers) * n_sources * self.heads.n_lags
        span = max(1, COEFFICIENTS // per_row)  # rows whose coefficients fit in memory
        parts, stop = [], 0
        while stop < len(rows):
            start, stop = stop, int(np.searchsorted(rows, rows[stop] + span))
            here = rows[start:stop]
            known = content[..., here[0] - before : here[-1] + 1]
            parts.append(self.heads.coefficients(known, followers).mean(0)[here - here[0]])
        found = torch.cat(parts).numpy()
        found *= self.scale[followers, None, None]
        found /= self.scale[:, None]
        return found

    def _chunks(self, rows: np.ndarray, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield equal chunks of what answers consecutive rows, cut at multiples of their length.

        The same row is then computed in the same place of the same shape, and comes out the same to
        the last bit, whatever other rows are asked for.
        """
        before = self.heads.n_lags - 1
        first, stop = int(rows[0]) // CHUNK * CHUNK, int(rows[-1]) + 1
        n_rows = values[0].shape[-1]
        padded = [pad(x, (before, -n_rows % CHUNK)) for x in values]
        for start in range(first, stop, CHUNK):
            yield tuple(x[..., start : start + before + CHUNK] for x in padded)

    def inputs(self, series: TokenSeries) -> tuple[Tensor, Tensor]:
        """Return what the heads read of every row: returns ``(N, T)``, content ``(C, N, T)``."""
        raw = content_channels(series, self.scale)
        content = (raw - self.centre[:, None, None]) / self.spread[:, None, None]
        returns = series.returns[:, : len(self.scale)] / self.scale
        return self._tensor(returns.T), self._tensor(np.clip(content, -LIMIT, LIMIT))

    def _tensor(self, values: np.ndarray) -> Tensor:
        like = self.heads.gain
        return torch.tensor(np.ascontiguousarray(values), dtype=like.dtype, device=like.device)
