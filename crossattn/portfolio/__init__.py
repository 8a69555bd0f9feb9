"""Portfolios and backtests: weights, costs, the account, metrics, significance, walk-forward."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
