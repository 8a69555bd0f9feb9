"""Causal features of each asset, known at each bar's close, and their warm-up."""

from crossattn.config import DEFAULT_FEATURES
from crossattn.features.build import create_multi_asset_features, usable_features
from crossattn.features.indicators import compute_macd, compute_rsi, relative_volume
from crossattn.features.registry import (
    FEATURE_GROUPS,
    FEATURES,
    FeatureSpec,
    resolve_features,
    warm_up_of,
)

__all__ = [
    "DEFAULT_FEATURES",
    "FEATURES",
    "FEATURE_GROUPS",
    "FeatureSpec",
    "compute_macd",
    "compute_rsi",
    "create_multi_asset_features",
    "relative_volume",
    "resolve_features",
    "usable_features",
    "warm_up_of",
]
