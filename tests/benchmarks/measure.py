"""Time and memory of calls, measured beside each other; planted markets, and forecasts of them."""

import os
import statistics
import subprocess
import time

import numpy as np
import torch
from standin.windows import simulated_windows

from crossattn.config import DEFAULT_FEATURES


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


def cpu_seconds(command: list[str], **options) -> float:
    """CPU-seconds of a command that must succeed; its output is not shown."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return usage.ru_utime + usage.ru_stime


def split_market(scenario, seed, *, shares=(0.6, 0.1), **options):
    """Return a market and the windows of its training, validation and test part."""
    options = {"lookback": 32, "features": DEFAULT_FEATURES, "seed": seed, **options}
    market, data = simulated_windows(scenario, **options)
    return market, *data.split(*shares)


def fidelity(forecast, truth) -> float:
    """Return the correlation of a forecast with the true conditional mean."""
    return float(np.corrcoef(forecast.ravel(), truth.ravel())[0, 1])
