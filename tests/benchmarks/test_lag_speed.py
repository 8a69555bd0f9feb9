"""Lag attention in time and memory: beside a pooled loop over lags, and beside its own loop."""

import math

import pytest
import torch
import torch.nn.functional as F
from benchmarks.measure import kept_bytes, seconds
from torch import nn

from crossattn.attention.lagged import TemporalCrossAttention

pytestmark = pytest.mark.slow

N, T, D, H, L = 20, 168, 64, 4, 25  # lags 0 to 24


class PooledLoop(nn.Module):
    """The obvious lag layer: shift, average over time, attend over assets; once for each lag."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(D, D) for _ in range(4))
        self.norm = nn.LayerNorm(D)
        self.lag = nn.Parameter(torch.zeros(L))

    def forward(self, x):
        answers = []
        for lag in range(L):
            source = x if lag == 0 else F.pad(x[:, :, :-lag], (0, 0, lag, 0))
            query, key, value = (
                layer(tokens.mean(2)).unflatten(-1, (H, D // H)).transpose(1, 2)
                for layer, tokens in ((self.query, x), (self.key, source), (self.value, source))
            )  # (B, H, N, D / H)
            attention = (query @ key.mT / math.sqrt(D // H)).softmax(-1)
            mixed = self.output((attention @ value).transpose(1, 2).flatten(-2))
            answers.append(self.norm(x + mixed[:, :, None].expand_as(x)))
        return sum(w * answer for w, answer in zip(self.lag.softmax(0), answers, strict=True))


def lag_by_lag(layer: TemporalCrossAttention, x):
    """The same layer as a loop: shifted tokens are projected at every lag, every score is kept."""
    by_head = (H, D // H)
    query = (layer.query_projection(x) + layer.query_embedding[:, None]).unflatten(-1, by_head)
    scores, values = [], []
    for lag in range(L):
        source = F.pad(x[:, :, : T - lag], (0, 0, lag, 0))
        key = layer.key_projection(source) + layer.key_embedding[:, None]
        key = (key + layer.lag_embedding[lag]).unflatten(-1, by_head)
        score = torch.einsum("bithd,bjthd->bhtij", query, key) / math.sqrt(D // H)
        exists = torch.arange(T) >= lag
        scores.append(score.masked_fill(~exists[:, None, None], -torch.inf))
        value = layer.value_projection(source).unflatten(-1, by_head)
        values.append(value * 2 * torch.sigmoid(layer.gate(source))[..., None])
    attention = torch.stack(scores, -1).flatten(-2).softmax(-1).unflatten(-1, (N, L))
    mixed = sum(
        torch.einsum("bhtij,bjthd->bithd", attention[..., lag], values[lag]) for lag in range(L)
    )
    return layer.output_projection((mixed * layer.gain[None, :, None, :, None]).flatten(-2))


def test_the_last_step_against_a_pooled_loop(compared):
    torch.manual_seed(0)
    x, layer = torch.randn(8, N, T, D), TemporalCrossAttention(D, H, L - 1, 0.0, n_assets=N)
    loop = PooledLoop()
    with torch.no_grad():
        taken = seconds(
            {
                "pooled loop": lambda: loop(x),
                "last step, map shown": lambda: layer(x[:, :, -1:], x),
                "last step, fused": lambda: layer(x[:, :, -1:], x, return_attention=False),
            }
        )
    print({name: f"{1e3 * t:.1f} ms" for name, t in taken.items()})
    name = "lag attention, last step, 25 lags"
    loop = taken["pooled loop"]
    fused = {"beside": "a pooled loop over lags", "asked": 80}
    assert compared(name, taken["last step, fused"], loop, **fused) >= 12
    assert loop >= 12 * taken["last step, map shown"]


def test_every_step_against_its_own_loop(compared):
    torch.manual_seed(0)
    x, layer = torch.randn(1, N, T, D), TemporalCrossAttention(D, H, L - 1, 0.0, n_assets=N)
    with torch.no_grad():
        difference = (lag_by_lag(layer, x) - layer(x, x)[0]).abs().max()
        taken = seconds(
            {
                "loop": lambda: lag_by_lag(layer, x),
                "map shown": lambda: layer(x, x),
                "fused": lambda: layer(x, x, return_attention=False),
            }
        )
    ours = kept_bytes(lambda: layer(x, x, return_attention=False))
    theirs = kept_bytes(lambda: lag_by_lag(layer, x))
    print({name: f"{1e3 * t:.1f} ms" for name, t in taken.items()}, f"{theirs / ours:.1f} x memory")
    assert difference < 1e-5
    name = "lag attention, every step, 25 lags"
    fused = {"beside": "its own loop over lags", "asked": 4.5}
    assert compared(name, taken["fused"], taken["loop"], **fused) >= 2
    assert theirs >= 5 * ours
