"""Causal features of each asset, known at each bar's close, and their warm-up."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
