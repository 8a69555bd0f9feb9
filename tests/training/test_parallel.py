"""Two processes against one: the same losses and weights, one run folder, any number resumes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from training import together

from crossattn.training.checkpoint import load_models
from crossattn.training.distributed import DistributedContext


@pytest.fixture(scope="module")
def folders(tmp_path_factory, interrupt_at):
    """One folder of trainings by one process, one by two."""
    alone, pair = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("pair")
    data = together.parts()
    # left by one process that died in its second epoch
    interrupt_at(lambda: together.train("resumed", pair, data, checkpoint_every=2), 5)
    script = Path(together.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr", "127.0.0.1", "--nproc-per-node", "2", str(script), str(pair)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in together.CASES:
        together.train(case, alone, data)
    return alone, pair


@pytest.mark.parametrize("case", together.CASES)
def test_two_processes_have_the_losses_of_one(folders, case):
    alone, pair = (pd.read_json(folder / case / "history.jsonl", lines=True) for folder in folders)
    assert len(alone) == 2
    np.testing.assert_allclose(pair, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", together.CASES)
def test_two_processes_have_the_weights_of_one(folders, case):
    alone = load_file(folders[0] / case / "model.safetensors")
    first, second = (load_file(folders[1] / f"{case}-{rank}.safetensors") for rank in (0, 1))
    for name, weight in alone.items():
        ours, theirs = first[name.removeprefix("0.")], second[name.removeprefix("0.")]
        assert torch.equal(ours, theirs), f"{name}: the two differ from each other"
        # Adam divides each gradient by its own size, which makes rounding of tiny ones visible
        torch.testing.assert_close(ours, weight, rtol=0, atol=1e-4)


def test_the_run_folder_of_two_is_the_one_of_one(folders):
    for case in together.CASES:
        names = [sorted(p.name for p in (folder / case).iterdir()) for folder in folders]
        assert names[0] == names[1]
        (model,), _ = load_models(folders[1] / case)
        assert model.symbols == together.parts()[0].symbols


class Follower(DistributedContext):
    """A process that does not lead, without peers to wait for."""

    is_main = False


def test_a_process_that_does_not_lead_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(DistributedContext, "current", Follower)
    result = together.train("forecast", tmp_path, checkpoint_every=1)
    assert len(result.history) == 2
    assert list((tmp_path / "forecast").iterdir()) == []


def test_shares_are_the_batch_even_where_there_are_fewer_rows_than_processes():
    for n_rows in (1, 2, 3, 7, 100):
        rows = torch.arange(n_rows) + 40
        shares = [DistributedContext(rank, 3).shard(rows) for rank in range(3)]
        assert torch.equal(torch.cat(shares), rows)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_is_a_team_that_changes_nothing():
    team, answer = DistributedContext.current(), torch.randn(3, 2)
    assert team == DistributedContext(0, 1) and team.is_main
    assert team.all_gather(answer, 3) is answer
    team.check_device(torch.device("cuda"))


@pytest.mark.parametrize("device", ["mps", "cuda"])
def test_a_team_refuses_devices_that_it_cannot_share(device, monkeypatch, refuse_input):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refuse_input(lambda: DistributedContext(1, 2).check_device(torch.device(device)), r"device .*2")
