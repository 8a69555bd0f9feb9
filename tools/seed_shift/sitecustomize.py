"""Shift every seed of NumPy, torch and the package in this process and in those it starts.

Python imports a module of this name at its start where its folder is on ``PYTHONPATH``;
``SEED_SHIFT`` in the environment is added to whatever integer seeds a generator.
"""

import os
from functools import wraps

import numpy as np
import torch

import crossattn.runtime

SHIFT = int(os.environ["SEED_SHIFT"])


def shifted(seed):
    """Return a seed, or the first of a sequence of them, plus the shift; all else as it is."""
    if isinstance(seed, (int, np.integer)):
        return int(seed) + SHIFT
    if isinstance(seed, (list, tuple)) and seed:
        return [shifted(seed[0]), *seed[1:]]
    return seed


def shifting(function):
    """Return a function whose first argument, a seed, is shifted."""

    @wraps(function)
    def call(seed=None, *args, **options):
        return function(shifted(seed), *args, **options)

    return call


class Generator(torch.Generator):
    """torch's generator, seeded with a shift."""

    def manual_seed(self, seed):
        return super().manual_seed(shifted(seed))


for name in ("default_rng", "SeedSequence"):
    setattr(np.random, name, shifting(getattr(np.random, name)))
np.random.seed = shifting(np.random.seed)
crossattn.runtime.seed_draws = shifting(crossattn.runtime.seed_draws)
torch.manual_seed = torch.random.manual_seed = shifting(torch.manual_seed)
torch.Generator = Generator
