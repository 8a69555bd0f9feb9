"""Bars of one symbol (frames) or many (panels), when each is known, files and gaps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
