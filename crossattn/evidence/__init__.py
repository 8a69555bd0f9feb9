"""Evidence about fitted models: attention maps, lead-lag tests, faithfulness, leakage, regimes.

Names are imported on first use: most of them need torch.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
