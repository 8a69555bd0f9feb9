"""Cross-attention for multi-asset trading: who leads whom, at which lag, and what it is worth.

The names of the public interface are handed out on first use, so that ``import crossattn`` and the
command line stay light: torch is imported by whoever touches a model, and by nobody else.
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "errors": ["CrossAttentionError"],
    "data.panel": ["align_panel"],
    "simulate.market": ["SimulatedMarket", "simulate_market"],
    "sources.samples": ["load_sample", "sample_names"],
    "sources.bybit": ["BybitDataLoader"],
    "sources.yahoo": ["fetch_stock_data"],
    "features": [
        "DEFAULT_FEATURES",
        "compute_macd",
        "compute_rsi",
        "create_multi_asset_features",
    ],
    "windows.dataset": ["CrossAttentionData", "prepare_cross_attention_data"],
    "attention.functional": ["scaled_dot_product_attention"],
    "attention.cross": ["CrossAssetAttention", "MultiHeadCrossAttention"],
    "attention.lagged": ["TemporalCrossAttention"],
    "attention.hierarchical": ["HierarchicalCrossAttention"],
    "model.network": ["CrossAttentionMultiAsset"],
    "training.loop": ["TrainingResult", "train_cross_attention_model"],
    "training.prediction": ["predict"],
    "forecaster": ["CrossAttentionForecaster"],
    "evidence.maps": ["predict_and_visualize"],
    "evidence.leadlag": ["LeadLagReport", "analyze_lead_lag_relationships"],
    "evidence.leakage": ["LeakageReport", "audit_leakage"],
    "portfolio.engine": ["BacktestResult", "backtest_weights"],
    "portfolio.metrics": ["compute_metrics"],
    "portfolio.strategy": ["CrossAttentionBacktest"],
    "portfolio.walkforward": ["WalkForwardResult", "walk_forward"],
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'crossattn' has no attribute {name!r}")
    value = getattr(import_module(f"crossattn.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
