"""Presets, the forecaster and resumed runs on a GPU against the CPU.

Forecasts and attention of equal weights agree to 1e-4 of their spread in float32. Training repeats
its rounding many times: the lag preset, which trains in float32, agrees to a hundredth of the
forecasts' spread; the encoder presets train in bfloat16 there, and agree in their losses.
"""

import numpy as np
import pytest
import torch

from crossattn.forecaster import CrossAttentionForecaster
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training.loop import train_cross_attention_model
from crossattn.training.prediction import attention_batches, predict

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]
SMALL = {"max_lag": 7, "progress": False}
ENCODER = {"preset": "encoder", "d_model": 16, "n_heads": 2, "n_layers": 2}
LABELS = {"sectors": ("a", "a", "b", "b"), "markets": ("x", "x", "x", "y")}
MODELS = {
    "lag": {},
    "classes": {"output_type": "classification"},
    "weights": {"output_type": "portfolio"},
    "inverted": {"preset": "inverted", "lookback": 16, "d_model": 16, "n_heads": 2},
    "lagged encoder": ENCODER,
    "asset encoder": {**ENCODER, "cross": "asset", "embedding": "conv"},
    "routed encoder": {**ENCODER, "cross": "routed"},
    "hierarchical encoder": {**ENCODER, "cross": "hierarchical", **LABELS},
}


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Convolutions in float32: by default a GPU rounds their inputs to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def train(name, parts, device, seed=1, **options):
    model = CrossAttentionMultiAsset(
        4, 7, features=parts[0].features, seed=seed, dropout=0.0, **MODELS[name]
    )
    options = {"epochs": 2, "progress": False, "device": device, **options}
    return train_cross_attention_model(model, *parts[:2], **options)


def apart(found, expected) -> float:
    """Return the largest difference, in standard deviations of what is expected."""
    return float(np.abs(found - expected).max() / np.std(expected))


@pytest.mark.parametrize("name", MODELS)
def test_equal_weights_give_equal_answers(parts, name):
    model, test = train(name, parts, "cpu").model, parts[2]
    on_cpu = predict(model, test, device="cpu")
    maps_cpu = [maps[-1]["cross_asset"] for maps in attention_batches(model, test, device="cpu")]
    on_gpu = predict(model, test, device="cuda")
    maps_gpu = [maps[-1]["cross_asset"] for maps in attention_batches(model, test, device="cuda")]

    assert apart(on_gpu, on_cpu) < 1e-4
    assert maps_gpu[0].is_cuda
    torch.testing.assert_close(torch.cat(maps_gpu).cpu(), torch.cat(maps_cpu), rtol=0, atol=1e-4)
    windows = predict(model, np.array(test.X), device="cuda")
    assert apart(windows, on_cpu) < 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_training_on_a_gpu_learns_what_the_cpu_learns(parts, name):
    on_cpu, on_gpu = (train(name, parts, device) for device in ("cpu", "cuda"))
    assert not next(on_gpu.model.parameters()).is_cuda, "back where it came from"
    assert all(p.dtype == torch.float32 for p in on_gpu.model.parameters())
    tolerance = 1e-3 if MODELS[name].get("preset", "lag") == "lag" else 2e-2  # in bfloat16
    np.testing.assert_allclose(on_gpu.history, on_cpu.history, rtol=0, atol=tolerance)


def test_the_forecaster_gives_the_same_forecasts(parts):
    train_part, val, test = parts
    cpu, gpu = (
        CrossAttentionForecaster(**SMALL, n_models=2, epochs=3, device=device).fit(train_part, val)
        for device in ("cpu", "cuda")
    )
    assert set(cpu.weights_) == set(gpu.weights_)
    assert apart(gpu.predict(test), cpu.predict(test)) < 1e-2
    assert np.abs(gpu.attention(test) - cpu.attention(test)).max() < 1e-2
    assert (gpu.leaders(test) == cpu.leaders(test)).mean() > 0.98


def test_what_a_gpu_saved_a_cpu_reads(parts, tmp_path):
    train_part, val, test = parts
    forecaster = CrossAttentionForecaster(**SMALL, n_models=1, epochs=1, device="cuda")
    forecaster.fit(train_part, val).save(tmp_path / "model")
    loaded = CrossAttentionForecaster.load(tmp_path / "model")
    loaded.device = "cpu"
    assert apart(loaded.predict(test), forecaster.predict(test)) < 1e-4


@pytest.mark.parametrize("name", ["lag", "weights"])
def test_a_run_stopped_on_a_gpu_goes_on_bit_by_bit(parts, tmp_path, interrupt_at, name):
    options = {"batch_size": 64, "checkpoint_every": 3}
    straight = train(name, parts, "cuda", run_dir=tmp_path / "straight", **options)
    options["run_dir"] = tmp_path / "run"
    interrupt_at(lambda: train(name, parts, "cuda", **options), 16)
    resumed = train(name, parts, "cuda", resume=True, **options)

    assert resumed.history.equals(straight.history)
    expected = straight.model.state_dict()
    assert all(torch.equal(t, expected[k]) for k, t in resumed.model.state_dict().items())


def test_a_run_begun_on_a_gpu_goes_on_without_one(parts, tmp_path, interrupt_at):
    options = {"batch_size": 64, "checkpoint_every": 3, "run_dir": tmp_path / "run"}
    straight = train("lag", parts, "cuda", batch_size=64)
    interrupt_at(lambda: train("lag", parts, "cuda", **options), 16)
    resumed = train("lag", parts, "cpu", resume=True, **options)
    np.testing.assert_allclose(resumed.history, straight.history, rtol=0, atol=1e-3)
