"""Sources of bars: Bybit, Yahoo, samples in installed packages; calendars of exchanges."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
