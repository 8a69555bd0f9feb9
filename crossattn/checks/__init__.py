"""Checks of learners' answers in stages, and a simulated market for each student."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
