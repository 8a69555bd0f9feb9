"""Train, predict, save and load models; losses and callbacks.

Built in chapter: Training.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
