"""Every attention layer on a GPU against the CPU: outputs, attention and gradients to 1e-4."""

import copy

import pytest
import torch

from crossattn.attention.cross import CrossAssetAttention, MultiHeadCrossAttention
from crossattn.attention.hierarchical import HierarchicalCrossAttention
from crossattn.attention.lagged import TemporalCrossAttention
from crossattn.attention.routed import RoutedCrossAttention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]
B, N, T, D, H = 3, 5, 11, 16, 2
SECTORS = {0: "a", 1: "a", 2: "b", 3: "b", 4: "c"}
MARKETS = {0: "x", 1: "x", 2: "x", 3: "y", 4: "y"}
LAYERS = {
    "single query": (CrossAssetAttention, {"n_assets": N}),
    "per step": (MultiHeadCrossAttention, {"n_assets": N, "exclude_self": True}),
    "by lag": (TemporalCrossAttention, {"max_lag": 3, "n_assets": N}),
    "routed": (RoutedCrossAttention, {"n_routers": 3, "n_assets": N}),
    "hierarchical": (
        HierarchicalCrossAttention,
        {"sector_mapping": SECTORS, "market_mapping": MARKETS},
    ),
}


def ask(name, layer, x, known, shown):
    """Call a layer by the tokens that it takes."""
    if name == "single query":
        return layer(x[:, 1], x, key_mask=known, return_attention=shown, query_position=1)
    if name == "hierarchical":
        return layer(x, token_mask=known, return_attention=shown)
    return layer(x, x, key_mask=known, return_attention=shown)


@pytest.mark.parametrize("shown", [True, False], ids=["shown", "fused"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_gpu_answers_as_the_cpu_does(name, shown):
    torch.manual_seed(0)
    kind, options = LAYERS[name]
    layer = kind(d_model=D, n_heads=H, dropout=0.0, **options)
    twin = copy.deepcopy(layer).to("cuda")
    x, known = torch.randn(B, N, T, D), torch.rand(B, N, T) > 0.2
    known[1, 2], known[2, :, 4:6] = False, False

    output, attention = ask(name, layer, x, known, shown)
    theirs, their_attention = ask(name, twin, x.to("cuda"), known.to("cuda"), shown)
    close(theirs, output)
    if shown:
        for ours, other in zip(flat(attention), flat(their_attention), strict=True):
            close(other, ours)

    output.square().sum().backward()
    theirs.square().sum().backward()
    for (label, ours), other in zip(layer.named_parameters(), twin.parameters(), strict=True):
        if ours.grad is not None:
            close(other.grad, ours.grad, label)


def flat(attention):
    """Return the tensors of an attention, which the hierarchy gives by level."""
    return list(attention.values()) if isinstance(attention, dict) else [attention]


def close(found, expected, label="") -> None:
    size = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(
        found.cpu(), expected, rtol=0, atol=1e-4 * size, msg=lambda text: f"{label}: {text}"
    )
