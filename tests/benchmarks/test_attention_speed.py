"""What the layers cost, measured: the fused kernel, routers by number of assets, sparse maps."""

import functools

import pytest
import torch
from benchmarks.measure import kept_bytes, seconds
from torch import nn

from crossattn.attention.cross import MultiHeadCrossAttention
from crossattn.attention.routed import RoutedCrossAttention
from crossattn.attention.sparse import entmax, top_k_softmax

pytestmark = pytest.mark.slow

D, H = 64, 4


def step(layer, forward):
    """Forward and backward."""
    layer.zero_grad(set_to_none=True)
    forward()[0].square().mean().backward()


def fused_step(layer, x):
    step(layer, lambda: layer(x, x, return_attention=False))


def tokens(n_assets, n_steps=8, batch=1):
    return torch.randn(batch, n_assets, n_steps, D, generator=torch.Generator().manual_seed(0))


def test_the_fused_path_against_torchs_multihead_attention(compared):
    x = tokens(n_assets=1000, n_steps=4)
    layer = MultiHeadCrossAttention(D, H, 0.0)
    theirs = nn.MultiheadAttention(D, H, batch_first=True)
    by_bar = x.transpose(1, 2).flatten(0, 1)
    calls = {
        "fused": (layer, lambda: layer(x, x, return_attention=False)),
        "shown": (layer, lambda: layer(x, x)),
        "nn.MultiheadAttention": (theirs, lambda: theirs(by_bar, by_bar, by_bar)),
    }
    taken = seconds({name: functools.partial(step, *call) for name, call in calls.items()})
    kept = {name: kept_bytes(forward) for name, (_, forward) in calls.items()}
    for name in taken:
        print(f"\n{name:>22}: {1e3 * taken[name]:7.1f} ms, {kept[name] / 1e6:7.1f} MB", end="")
    name = "cross-asset attention, forward and backward, 1,000 assets"
    times = taken["fused"], taken["nn.MultiheadAttention"]
    assert compared(name, *times, beside="torch.nn.MultiheadAttention") > 1.3
    assert kept["nn.MultiheadAttention"] > 3 * kept["fused"]


def test_where_routers_begin_to_pay():
    layers = {
        "full": MultiHeadCrossAttention(D, H, 0.0),
        "routed": RoutedCrossAttention(D, H, n_routers=8, dropout=0.0),
    }
    ratio = {}
    for n_assets in (25, 50, 100, 200, 500, 1000):
        x = tokens(n_assets)
        calls = {name: functools.partial(fused_step, layer, x) for name, layer in layers.items()}
        taken = seconds(calls, repeats=7)
        ratio[n_assets] = taken["full"] / taken["routed"]
    print("\nfull / routed:", {n: round(r, 2) for n, r in ratio.items()}, end="")
    assert ratio[1000] > 2 and ratio[500] > 1.3
    assert ratio[25] < 1.3


def test_sparse_maps_cost_more_than_softmax():
    x = tokens(n_assets=200)
    kinds = {
        "softmax, fused": None,
        "top-k": functools.partial(top_k_softmax, k=8),
        "entmax": entmax,
        "sparsemax": functools.partial(entmax, alpha=2.0),
    }
    layers = {n: MultiHeadCrossAttention(D, H, 0.0, normalise=k) for n, k in kinds.items()}
    calls = {name: functools.partial(fused_step, layer, x) for name, layer in layers.items()}
    taken = seconds(calls, repeats=5)
    print("\n", {name: f"{1e3 * t:.1f} ms" for name, t in taken.items()}, end="")
    assert min(t for name, t in taken.items() if name != "softmax, fused") > taken["softmax, fused"]
