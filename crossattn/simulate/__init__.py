"""Simulated markets whose leaders, lags and best possible forecast are known.

Inside this package arrays are (N, T), one asset a row, because an edge of the lead-lag graph reads
one asset's whole path; a :class:`crossattn.SimulatedMarket` publishes them as (T, N).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
