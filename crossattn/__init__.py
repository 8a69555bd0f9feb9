"""Cross-attention for multi-asset trading: who leads whom, at which lag, worth what after costs.

bars        simulate_market load_sample sample_names BybitDataLoader fetch_stock_data
            read_bars write_bars align_panel check_bars
features    create_multi_asset_features compute_rsi compute_macd DEFAULT_FEATURES
windows     prepare_cross_attention_data CrossAttentionData
attention   scaled_dot_product_attention CrossAssetAttention MultiHeadCrossAttention
            TemporalCrossAttention HierarchicalCrossAttention
models      CrossAttentionForecaster CrossAttentionMultiAsset train_cross_attention_model predict
            CovarianceForecaster
evidence    analyze_lead_lag_relationships analyze_cross_section audit_leakage
            predict_and_visualize
money       backtest_weights CrossAttentionBacktest compute_metrics walk_forward
results     SimulatedMarket TrainingResult LeadLagReport LeakageReport BacktestResult
            WalkForwardResult BarsReport CrossSectionReport
errors      CrossAttentionError InvalidInputError CrossAttentionWarning

``help(crossattn.simulate_market)`` explains one name. Names are imported on first use (SPEC 1), so
that ``import crossattn`` does not import torch; the stub ``__init__.pyi`` tells editors and type
checkers where each one lives.
"""

import lazy_loader

__version__ = "0.2.0.dev0"

# No ``__all__``: with it, ``help(crossattn)`` prints every class in full.
__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
