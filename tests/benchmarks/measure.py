"""Time and memory of calls, measured beside each other."""

from __future__ import annotations

import statistics
import time

import torch


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
