"""Windows of features with their targets, purged splits, lagged returns."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
