"""A script for torchrun: the same small trainings, whatever the number of processes.

Usage: ``torchrun ... together.py FOLDER`` leaves a run folder a case, and each process's weights.
"""

import sys
from pathlib import Path

import torch

from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.simulate.market import simulate_market
from crossattn.training.checkpoint import write_tensors
from crossattn.training.distributed import DistributedContext
from crossattn.training.loop import train_cross_attention_model
from crossattn.windows.prepare import prepare_cross_attention_data

ENCODER = {"preset": "encoder", "d_model": 8, "n_heads": 2, "n_layers": 1, "dropout": 0.0}
CASES = {  # what the model is; how it is trained
    "forecast": ({}, {"batch_size": 101}),  # 401 rows: shares of 51 and 50, last 49 and 49
    "accumulated": ({}, {"batch_size": 50, "accumulate": 4}),  # the last batch is one row
    "path": ({"output_type": "portfolio"}, {"loss": "sharpe_cost"}),
    "ranks": ({}, {"loss": "rank", "clip": 0.01}),
    "encoder": (ENCODER, {"batch_size": 64}),
    "resumed": ({}, {"batch_size": 101, "resume": True}),
}


def parts():
    """Training and validation windows of a planted market; one asset is missing for a while."""
    market = simulate_market("static", n_assets=4, n_steps=560, predictability=0.05, seed=3)
    frame = list(market.frames.values())[2]
    frame.iloc[200:230] = float("nan")
    data = prepare_cross_attention_data(market.frames, lookback=16, horizon=1)
    return data[:401], data[401:481]


def train(case: str, folder: Path, data=None, **options):
    """Train one case into ``folder / case``."""
    shape, recipe = CASES[case]
    train_part, val_part = data or parts()
    model = CrossAttentionMultiAsset(4, 7, features=train_part.features, seed=1, **shape)
    with torch.no_grad():  # the processes start apart: they must agree on the first one's weights
        for parameter in model.parameters():
            parameter.add_(DistributedContext.current().rank)
    options = {"epochs": 2, "progress": False, "device": "cpu", **recipe, **options}
    return train_cross_attention_model(
        model, train_part, val_part, run_dir=folder / case, **options
    )


def main(folder: Path) -> None:
    """Train every case, and write this process's own weights beside the run."""
    torch.set_num_threads(1)
    data = parts()
    for case in CASES:
        model = train(case, folder, data).model
        write_tensors(
            folder / f"{case}-{DistributedContext.current().rank}.safetensors", model.state_dict()
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
