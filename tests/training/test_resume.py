"""Runs that are killed go on as if nothing had happened; damaged files are never loaded."""

import ast
import contextlib
import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
import torch
from standin.damage import corruptions, flipped
from standin.processes import kill_until_done

from crossattn.errors import DamagedFileError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training import loop
from crossattn.training.callables import name_of_callable
from crossattn.training.checkpoint import (
    CONFIG_FILE,
    MODEL_FILE,
    load_models,
    read_checksummed_json,
    save_models,
    write_checksummed_json,
)
from crossattn.training.loop import train_cross_attention_model
from crossattn.training.prediction import predict

ENCODER = {"preset": "encoder", "d_model": 8, "n_heads": 2, "n_layers": 1}


def train(parts, run_dir, *, network=None, **options):
    model = CrossAttentionMultiAsset(4, 7, features=parts[0].features, seed=1, **(network or {}))
    options = {"epochs": 3, "seed": 0, "progress": False, **options}
    return train_cross_attention_model(model, *parts[:2], run_dir=run_dir, **options)


def files_of(run):
    return {p.name: p.read_bytes() for p in run.iterdir() if "checkpoint" not in p.name}


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    return train(parts, run, batch_size=64), run


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        (1, {}),
        (5, {}),
        (12, {}),
        (30, {}),
        (13, {"accumulate": 3}),
        (13, {"network": ENCODER, "epochs": 2}),
        (40, {"schedule": "plateau", "plateau_patience": 1, "lr": 3.0, "epochs": 5}),
    ],
    ids=str,
)
def test_a_run_stopped_at_any_step_goes_on_bit_by_bit(
    parts, whole, tmp_path, interrupt_at, stop, options
):
    options = {"batch_size": 64, **options}
    expected = whole
    if len(options) > 1:
        expected = train(parts, tmp_path / "whole", **options), tmp_path / "whole"
    run = tmp_path / "run"
    interrupt_at(lambda: train(parts, run, checkpoint_every=2, **options), stop)
    result = train(parts, run, resume=True, checkpoint_every=2, **options)
    assert result.history.equals(expected[0].history)
    assert files_of(run) == files_of(expected[1])


@pytest.mark.parametrize("epoch", [2, 4], ids=["the first", "the last"])
def test_a_stop_between_pointer_and_history_loses_no_line(parts, whole, tmp_path, interrupt, epoch):
    run = tmp_path / "run"
    begin = functools.partial(train, parts, run, batch_size=64)
    interrupt(begin, loop.RunFolder, "_reconcile", lambda progress, _: progress.epoch == epoch)
    begin(resume=True)
    assert files_of(run) == files_of(whole[1])
    assert len(list(run.glob("checkpoint-*.safetensors"))) == 1


def test_killed_runs_end_as_if_nothing_had_happened(parts, whole, tmp_path):
    run, options = tmp_path / "run", {"batch_size": 64, "resume": True, "checkpoint_every": 1}
    landed = kill_until_done(lambda: train(parts, run, **options), seed=1, kills=5, longest=0.5)
    assert landed >= 1
    assert files_of(run) == files_of(whole[1])
    assert not list(run.glob(".*.part")), "what a killed save left behind is cleared"


def test_a_finished_run_is_left_as_it_is(parts, whole):
    result, run = whole
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.iterdir()}
    lines = (run / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history.to_dict("records")
    again = train(parts, run, batch_size=64, resume=True)
    assert again.history.equals(result.history)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.iterdir()} == before
    np.testing.assert_array_equal(predict(again.model, parts[2]), predict(result.model, parts[2]))


def test_an_existing_run_is_refused_without_resume(parts, whole, tmp_path, refuse_input):
    refuse_input(lambda: train(parts, whole[1], batch_size=64), "holds a run")
    (tmp_path / "file").write_text("")
    refuse_input(lambda: train(parts, tmp_path / "file"), "must be a folder")


@pytest.mark.parametrize(
    ("options", "word"), [({"seed": 1}, "seed"), ({"lr": 0.2}, "recipe"), ({"epochs": 4}, "recipe")]
)
def test_another_run_is_not_continued(parts, whole, options, word, refuse_input):
    refuse_input(lambda: train(parts, whole[1], batch_size=64, resume=True, **options), word)
    shorter = parts[0][5:], *parts[1:]
    refuse_input(
        lambda: train(shorter, whole[1], batch_size=64, resume=True),
        "data: resume it with the bars",
    )


class Weighted:
    """A loss that is an object; ``kind`` is a local class whose method reads a closure."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, prediction, target):
        return (self.weight * (prediction - target)).square().mean()

    @staticmethod
    def kind(weight):
        class Local:
            def __call__(self, prediction, target):
                return (weight * (prediction - target)).square().mean()

        return Local()


def squares_of(weight):
    return lambda p, t: (weight * (p - t)).square().mean()


def by_default(weight):
    return lambda p, t, w=weight: (w * (p - t)).square().mean()


def among(weight):  # a set in the code has another order in each process
    inside = {1: lambda p, t: "c" in {"a", "b", "c"}, 2: lambda p, t: "c" in {"a", "b", "d"}}
    return inside[weight]


def of_module(weight):
    code = (lambda p, t: (scale * (p - t)).square().mean()).__code__  # noqa: F821
    return FunctionType(code, {"scale": weight})


LOSSES = {
    "closure": squares_of,
    "default": by_default,
    "code": among,
    "module": of_module,
    "partial": lambda weight: functools.partial(torch.nn.functional.huber_loss, delta=weight),
    "torch": lambda weight: torch.nn.HuberLoss(delta=weight),
    "type": lambda weight: [torch.nn.L1Loss(), torch.nn.MSELoss()][weight - 1],
    "tensor": lambda weight: squares_of(torch.tensor([1.0, weight])),
    "state": Weighted,
    "method": lambda weight: Weighted(weight).__call__,
    "local": Weighted.kind,
}


def test_a_loss_has_a_name_of_its_own_in_every_process(monkeypatch):
    names = {
        (k, w): name_of_callable("loss", make(w)) for k, make in LOSSES.items() for w in (1, 2)
    }
    assert len(set(names.values())) == 2 * len(LOSSES)
    code = f"import {__name__} as t; print({{(k, w): t.name_of_callable('loss', make(w))"
    code += " for k, make in t.LOSSES.items() for w in (1, 2)})"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    root = Path(__file__).parents[2]
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True)
    assert ast.literal_eval(printed) == names


@pytest.mark.parametrize("loss", ["closure", "torch", "partial", "local"])
def test_a_run_goes_on_with_its_own_loss_alone(parts, tmp_path, refuse_input, loss):
    begin = functools.partial(train, parts, tmp_path / "run", epochs=1)
    first = begin(loss=LOSSES[loss](1))
    assert begin(loss=LOSSES[loss](1), resume=True).history.equals(first.history)
    refuse_input(lambda: begin(loss=LOSSES[loss](2), resume=True), "another recipe")


def test_a_loss_without_a_readable_state_has_no_run(parts, tmp_path, refuse_input):
    loss = squares_of(threading.Lock())
    refuse_input(lambda: train(parts, tmp_path, loss=loss), "squares_of.<locals>.<lambda> cannot")


def test_a_damaged_checkpoint_is_not_resumed(parts, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    tensors = next(run.glob("checkpoint-*.safetensors"))
    tensors.write_bytes(flipped(tensors.read_bytes()))
    with pytest.raises(DamagedFileError, match="damaged"):
        train(parts, run, batch_size=64, resume=True)


class TestSavedModels:
    @pytest.fixture
    def saved(self, whole, tmp_path):
        save_models([whole[0].model], tmp_path / "saved")
        return tmp_path / "saved"

    def test_a_saved_model_predicts_the_same(self, parts, whole, saved):
        models, content = load_models(saved)
        expected = predict(whole[0].model, parts[2])
        np.testing.assert_array_equal(predict(models[0], parts[2]), expected)
        assert content["symbols"] == list(parts[0].symbols)
        assert content["features"] == list(parts[0].features)
        assert (content["lookback"], content["horizon"]) == (16, 1)
        assert "body.preprocessor.value_scale" in content["scaler"]

    @pytest.mark.parametrize(
        "options",
        [
            {"preset": "encoder", "cross": "hierarchical", "sectors": ("a", "b", "a", "b"),
             "markets": ("x",) * 4},
            {"preset": "inverted", "lookback": 16, "output_type": "distribution"},
            {"output_type": "portfolio", "allow_short": True, "n_layers": 4},
        ],
        ids=["hierarchical", "inverted", "portfolio"],
    )  # fmt: skip
    def test_every_preset_comes_back(self, tmp_path, options):
        model = CrossAttentionMultiAsset(4, 7, d_model=8, n_heads=2, seed=0, **options).eval()
        save_models([model, model], tmp_path)
        x = torch.randn(3, 4, 16, 7)
        for loaded in load_models(tmp_path)[0]:
            assert torch.equal(loaded(x), model(x))

    def test_files_hold_no_time_and_no_path(self, whole, saved, tmp_path):
        time.sleep(0.01)
        save_models([whole[0].model], tmp_path / "elsewhere")
        for name in (MODEL_FILE, CONFIG_FILE):
            assert (saved / name).read_bytes() == (tmp_path / "elsewhere" / name).read_bytes()
            assert str(tmp_path).encode() not in (saved / name).read_bytes()

    @pytest.mark.parametrize("name", [MODEL_FILE, CONFIG_FILE])
    def test_no_damaged_folder_is_loaded(self, saved, name):
        whole, bomb = (saved / name).read_bytes(), (2**62).to_bytes(8, "little") + b"{}"
        foreign = {"a pickle": pickle.dumps({"model": [1, 2]}), "a bomb": bomb + bytes(40)}
        for about, damaged in [*corruptions(whole, 320), *foreign.items()]:
            (saved / name).write_bytes(damaged)
            with contextlib.suppress(DamagedFileError):
                load_models(saved)  # whatever is loaded differs in its layout alone, as by a space
                assert json.loads(damaged) == json.loads(whole), f"{about} was loaded"

    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c["models"][0].update(d_model=8_000_000),
            lambda c: c["models"][0].update(n_layers=3),
            lambda c: c["models"][0].update(max_lag=3),
            lambda c: c["models"][0].update(colour="red"),
            lambda c: c.update(models=[]),
            lambda c: c.update(models=c["models"] * 2),
            lambda c: c.update(format=99),
            lambda c: c.pop("model_sha256"),
            lambda c: c.pop("lookback"),
            lambda c: c.update(models="many"),
        ],
    )
    def test_contradictory_content_with_a_right_checksum_is_refused(self, saved, change):
        """A right checksum does not let names and shapes disagree."""
        content = read_checksummed_json(saved / CONFIG_FILE)
        change(content)
        write_checksummed_json(saved / CONFIG_FILE, content)
        with pytest.raises(DamagedFileError):
            load_models(saved)

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(DamagedFileError, match="nowhere"):
            load_models(tmp_path / "nowhere")
