"""Attention layers in pure torch: tensors in, tensors and attention out."""

from crossattn.attention.cross import CrossAssetAttention, MultiHeadCrossAttention
from crossattn.attention.diagnostics import (
    Collapse,
    attention_entropy,
    collapse_meter,
    effective_number,
)
from crossattn.attention.embedding import (
    AssetLinear,
    CausalConvEmbedding,
    InvertedEmbedding,
    LinearEmbedding,
    PatchEmbedding,
)
from crossattn.attention.functional import (
    fused_attention,
    masked_softmax,
    scaled_dot_product_attention,
)
from crossattn.attention.hierarchical import HierarchicalCrossAttention
from crossattn.attention.lag_signal import ContentLagLayer, IdentityLagLayer
from crossattn.attention.lagged import TemporalCrossAttention
from crossattn.attention.positional import (
    CalendarEncoding,
    LearnedPositions,
    RelativePositionBias,
    SinusoidalPositions,
    sinusoidal_encoding,
)
from crossattn.attention.routed import RoutedCrossAttention
from crossattn.attention.sparse import entmax, top_k_softmax
from crossattn.attention.temporal import TemporalSelfAttention

__all__ = [
    "AssetLinear",
    "CalendarEncoding",
    "CausalConvEmbedding",
    "Collapse",
    "ContentLagLayer",
    "CrossAssetAttention",
    "HierarchicalCrossAttention",
    "IdentityLagLayer",
    "InvertedEmbedding",
    "LearnedPositions",
    "LinearEmbedding",
    "MultiHeadCrossAttention",
    "PatchEmbedding",
    "RelativePositionBias",
    "RoutedCrossAttention",
    "SinusoidalPositions",
    "TemporalCrossAttention",
    "TemporalSelfAttention",
    "attention_entropy",
    "collapse_meter",
    "effective_number",
    "entmax",
    "fused_attention",
    "masked_softmax",
    "scaled_dot_product_attention",
    "sinusoidal_encoding",
    "top_k_softmax",
]
