"""Time and memory of calls, measured beside each other; planted markets, and forecasts of them."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from crossattn import prepare_cross_attention_data, simulate_market


def seconds(calls: dict, repeats: int = 9) -> dict:
    """Median CPU-seconds of each call, the calls taking turns so that all meet the same machine."""
    times = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def kept_bytes(call) -> int:
    """Bytes that the forward pass keeps for the backward pass, each storage once."""
    storages = {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = call()
    del kept
    return sum(storages.values())


def split_market(scenario, seed, *, lookback=32, shares=(0.6, 0.1), features=None, **options):
    """Return a market and the windows of its training, validation and test part."""
    market = simulate_market(scenario, seed=seed, **options)
    named = {} if features is None else {"features": features}
    data = prepare_cross_attention_data(market.frames, lookback=lookback, horizon=1, **named)
    return market, *data.split(*shares)


def fidelity(forecast, truth) -> float:
    """Return the correlation of a forecast with the true conditional mean."""
    return float(np.corrcoef(forecast.ravel(), truth.ravel())[0, 1])
