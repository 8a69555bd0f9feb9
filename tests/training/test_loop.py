"""Training: learns, scales on the training part alone, repeats, refuses what cannot be learned."""

import dataclasses
import functools
import itertools
import sys

import numpy as np
import pytest
import torch

from crossattn.config import OUTPUT_TYPES
from crossattn.errors import CrossAttentionWarning, MissingDependencyError
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.training import loop
from crossattn.training.batches import fit_scaling, make_batch
from crossattn.training.callbacks import Callback
from crossattn.training.loop import Trainer, train_cross_attention_model
from crossattn.training.prediction import attention_batches, predict
from crossattn.training.schedule import make_optimizer, plateau_cuts
from crossattn.windows.prepare import prepare_cross_attention_data

CPU = torch.device("cpu")


def make(data, **options):
    options = {"seed": 1, **options}
    return CrossAttentionMultiAsset(
        len(data.symbols), len(data.features), features=data.features, **options
    )


def train(parts, epochs=3, model=None, **options):
    model = model or make(parts[0])
    options = {"epochs": epochs, "progress": False} | options
    return train_cross_attention_model(model, *parts[:2], **options)


def test_an_interrupted_training_leaves_the_best_model_so_far(market):
    best = {}

    class Stop(Callback):
        def on_step(self, trainer):
            if trainer.progress.epoch == 3:
                best.update(trainer.best)
                raise KeyboardInterrupt

    parts = prepare_cross_attention_data(market.frames, lookback=16, horizon=6).split(0.6, 0.2)
    model = make(parts[0])
    with pytest.raises(KeyboardInterrupt):
        train(parts, epochs=9, model=model, callbacks=[Stop()])
    best["head.intercept"] = best["head.intercept"] * 6  # learned on next bars
    found = model.state_dict()
    config = [name for name in found if name.endswith("_extra_state")]
    assert all(torch.equal(found[name], best[name]) for name in found if name not in config)
    assert predict(model, parts[2]).shape == parts[2].y.shape and not model.training


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
def test_nothing_is_predicted_where_an_asset_has_no_bar(make_frames, output_type):
    frames = make_frames(90, 3)
    frames["S1"] = frames["S1"].iloc[30:].drop(frames["S1"].index[[60, 61]])
    names = ["log_return", "range"]
    data = prepare_cross_attention_data(frames, lookback=9, horizon=1, features=names)
    predictions = predict(make(data, output_type=output_type), data)
    missing = np.isnan(predictions).reshape(*data.y.shape, -1)
    gone = np.isnan(data.closes[data.ends])
    assert gone[:, 1].sum() == 30 - data.ends[0] + 2 and not gone[:, ::2].any()
    np.testing.assert_array_equal(missing, np.broadcast_to(gone[..., None], missing.shape))
    assert np.isfinite(predict(make(data, output_type=output_type), data.X)).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output_type": "classification"},
        {"output_type": "portfolio"},
        {"output_type": "portfolio", "allow_short": True},
        {"output_type": "distribution"},
        {"preset": "encoder", "d_model": 8, "n_heads": 2, "n_layers": 1},
        {"preset": "inverted", "lookback": 16, "d_model": 8, "n_heads": 2, "n_layers": 1},
    ],
    ids=str,
)
def test_the_training_loss_falls(parts, options):
    result = train(parts, epochs=6, model=make(parts[0], **options))
    history = result.history
    assert list(history.columns) == ["epoch", "train_loss", "val_loss", "lr"]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert np.isfinite(predict(result.model, parts[2])).all()


def test_the_best_weights_are_restored(parts):
    result = train(parts, epochs=5)
    best = result.history["val_loss"].min()
    assert result.best_val_loss == best
    recipe = result.model.config.recipe.with_options(epochs=5)
    trainer = Trainer(result.model, *parts[:2], recipe, 0, CPU)
    assert trainer.evaluate(trainer.val) == pytest.approx(best, abs=1e-12)


def test_patience_ends_training(parts):
    result = train(parts, epochs=12, patience=1, lr=1e-9)
    assert result.stopped_early == (len(result.history) < 12)
    loud = train(parts, epochs=12, patience=1, lr=30.0)
    assert loud.stopped_early and len(loud.history) == loud.best_epoch + 1


def test_two_runs_are_one_and_the_global_generator_is_left_alone(parts):
    before = torch.random.get_rng_state()
    first, second = train(parts), train(parts)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.history.equals(second.history)
    states = (result.model.state_dict().values() for result in (first, second))
    assert all(itertools.starmap(torch.equal, zip(*states, strict=True)))
    assert not train(parts, seed=5).history.equals(first.history)


def test_nothing_after_the_training_part_reaches_the_scales(parts, data):
    """Other prices after the training part, same scales, same drift."""
    model, other = make(data), make(data)
    fit_scaling(model, parts[0], CPU)
    panel, targets = data.panel.copy(), data.targets.copy()
    for values in (panel, targets):
        values[parts[0].ends[-1] + 1 :] *= 50.0
    changed = dataclasses.replace(parts[0], panel=panel, targets=targets)
    fit_scaling(other, changed, CPU)
    buffers = zip(model.buffers(), other.buffers(), strict=True)
    assert all(itertools.starmap(torch.equal, buffers))


def test_windows_and_panel_train_alike(parts):
    windows = [(np.array(part.X), np.array(part.y)) for part in parts]
    by_panel = train(parts, epochs=2)
    by_windows = train(windows, epochs=2, model=make(parts[0]))
    losses = (result.history["val_loss"] for result in (by_windows, by_panel))
    np.testing.assert_allclose(*losses, atol=2e-3)
    both = predict(by_panel.model, parts[2]), predict(by_panel.model, windows[2][0])
    np.testing.assert_allclose(*both, atol=1e-7)


def test_symbols_and_features_are_put_in_order_by_name(parts):
    model = train(parts).model
    shuffled = parts[2].select(parts[2].symbols[::-1], parts[2].features[::-1])
    forecast = predict(model, shuffled)
    np.testing.assert_array_equal(forecast[:, ::-1], predict(model, parts[2]))
    assert forecast.shape == shuffled.y.shape  # and beside its own targets


@pytest.fixture(scope="module")
def holed(parts):
    """Parts whose training targets have holes."""
    targets = parts[0].targets.copy()
    targets[::3, 1] = np.nan
    return dataclasses.replace(parts[0], targets=targets), *parts[1:]


@pytest.mark.parametrize(
    "loss",
    [torch.nn.functional.l1_loss, lambda forecast, target: (forecast - target).square().mean()],
    ids=["torch", "own"],
)
def test_a_loss_may_be_any_function_of_forecast_and_known_targets(holed, loss):
    history = train(holed, loss=loss).history
    assert np.isfinite(history["train_loss"]).all()
    named = train(holed, loss="mse").history
    assert np.allclose(history, named, rtol=1e-5) == (loss is not torch.nn.functional.l1_loss)


def test_numpy_scalars_are_plain_numbers_in_what_is_written(parts, tmp_path):
    whole = {"seed": 1, "batch_size": 64, "patience": 5, "checkpoint_every": 9, "accumulate": 2}
    real = {"lr": 0.25, "weight_decay": 0.125, "plateau_factor": 0.5}

    def run(folder, integer, number, flag):
        options = {name: integer(value) for name, value in whole.items()}
        options |= {name: number(value) for name, value in real.items()}
        options |= {"lr_factors": {"content_weight": number(2.0)}, "next_bar": flag(False)}
        given = {"dropout": number(0.5), "seed": integer(2), "allow_short": flag(True)}
        model = make(parts[0], horizon=integer(1), **given)
        train(parts, integer(1), model, run_dir=tmp_path / folder, **options)
        return [(tmp_path / folder / name).read_text() for name in ("config.json", "history.jsonl")]

    assert run("plain", int, float, bool) == run("numpy", np.int64, np.float32, np.bool_)


def test_exogenous_series_that_a_network_does_not_read_are_named(parts):
    outside = {"exogenous": np.zeros((len(parts[0].panel), 1)), "exogenous_names": ("vix",)}
    given = [dataclasses.replace(part, **outside) for part in parts]
    with pytest.warns(CrossAttentionWarning, match="no exogenous series: vix left out"):
        train(given)


@pytest.mark.parametrize("output_type", ["classification", "distribution", "portfolio"])
def test_a_loss_of_ones_own_suits_every_output(parts, output_type):
    def loss(prediction, target):
        if output_type == "classification":
            return torch.nn.functional.cross_entropy(prediction, target)
        if output_type == "distribution":
            return (prediction - target[:, None]).abs().mean()
        return -(prediction * target).sum(-1).mean()

    model = make(parts[0], output_type=output_type)
    assert np.isfinite(train(parts, model=model, loss=loss).history["val_loss"]).all()


def test_callbacks_see_every_step_and_epoch_and_may_end_training(parts):
    seen = []

    class Watch(Callback):
        def on_start(self, trainer):
            seen.append("start")

        def on_step(self, trainer):
            seen.append((trainer.progress.epoch, trainer.progress.batch))

        def on_epoch_end(self, trainer):
            seen.append(trainer.progress.history[-1]["epoch"])
            trainer.progress.finished = len(trainer.progress.history) == 2

        def on_end(self):
            seen.append("end")

    result = train(parts, epochs=9, batch_size=400, callbacks=[Watch()])
    assert seen == ["start", (1, 1), (1, 2), 1, (2, 1), (2, 2), 2, "end"]
    assert result.stopped_early and len(result.history) == 2


def test_a_step_may_end_training_with_its_epoch(parts):
    class Stop(Callback):
        def on_step(self, trainer):
            trainer.progress.finished = True

    assert len(train(parts, epochs=9, callbacks=[Stop()]).history) == 1


def test_prediction_leaves_the_model_on_its_device_and_gradients_on(parts, refuse_input):
    model, lengths = train(parts).model, []
    for maps in attention_batches(model, parts[2], batch_size=50):
        assert torch.is_grad_enabled()
        lengths.append(len(maps[-1]["cross_asset"]))
    assert lengths[0] == 50 and sum(lengths) == len(parts[2])
    refuse_input(lambda: model(torch.zeros(1, 4, 16, 7, device="meta")), "x is on meta")
    assert next(model.parameters()).device == torch.device("cpu")


def test_other_data_is_refused(parts, data, refuse_input):
    model = train(parts).model
    refuse_input(lambda: predict(model, data.select(data.symbols[:3])), "symbols")
    refuse_input(lambda: predict(model, data.select(features=data.features[:3])), "feature")
    refuse_input(lambda: predict(model, dataclasses.replace(data, lookback=9)), "lookback")
    refuse_input(lambda: predict(model, dataclasses.replace(data, horizon=9)), "horizon")


def test_unknown_targets_are_skipped(holed):
    """A hole in the targets teaches nothing: filling it with NaN or leaving rows out is one."""
    model = make(holed[0])
    fit_scaling(model, holed[0], CPU)
    recipe = model.config.recipe
    batch = make_batch(model, holed[0], recipe, CPU)
    loss = Trainer(model, holed[0], holed[0], recipe, 0, CPU).evaluate(batch)
    forecast = model.predict_batch(batch).detach().numpy()
    y, noise = holed[0].y, batch.noise.numpy()
    error = forecast / noise - np.clip(y / noise, -6, 6)
    assert loss == pytest.approx(np.nanmean(error**2), rel=1e-5)


def test_nothing_known_is_an_error_and_constant_prices_are_not(parts, refuse_input):
    nothing = dataclasses.replace(parts[0], targets=np.full_like(parts[0].targets, np.nan))
    refuse_input(lambda: train((nothing, *parts[1:])), "no known target")
    blind = dataclasses.replace(parts[1], targets=nothing.targets)

    def still(part, assets):
        """Return the part where some assets never move."""
        arrays = {n: getattr(part, n).copy() for n in ("panel", "targets", "next_returns")}
        for array in arrays.values():
            array[:, assets] = 0
        return dataclasses.replace(part, **arrays)

    flat, one = ([still(part, assets) for part in parts] for assets in (slice(None), 0))
    assert np.abs(predict(train(flat).model, flat[2])).max() == 0.0
    forecast = predict(train(one).model, one[2])
    assert not forecast[:, 0].any() and (np.abs(forecast[:, 1:]).max(axis=0) > 0).all()
    refuse_input(lambda: train((parts[0], blind)), "val_data has no known target")


def test_one_window_trains_and_none_is_refused(parts, refuse_input):
    assert len(train((parts[0][:1], parts[1])).history) == 3
    refuse_input(lambda: train((parts[0], parts[1][:0])), "val_data holds no window")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"patience": 0}, "patience"),
        ({"seed": -1}, "seed"),
        ({"lr_factors": {"gains": 2.0}}, "lr_factors must be one of"),
        ({"seed": 2**63}, "seed"),
        ({"loss": "sharpe"}, "loss"),
        ({"loss": ["mse"]}, "loss"),
        ({"loss": lambda forecast, _: forecast}, "loss must give a tensor of one number, got"),
        ({"loss": lambda forecast, _: forecast.sum() * 1j}, "tensor of one number, got"),
        ({"loss": lambda forecast, _: 0.5}, "loss must give a tensor of one number, got"),
        ({"loss": lambda forecast, _: torch.tensor(1.0)}, "must depend on the prediction"),
        ({"loss": lambda forecast, _: forecast.detach().mean()}, "must depend on the prediction"),
        ({"callbacks": None}, "callbacks must be a sequence"),
        ({"callbacks": ["early"]}, "callbacks must be a sequence"),
        ({"callbacks": [Callback]}, "callbacks must be a sequence"),
        ({"device": "abacus"}, "device"),
        ({"device": "hpu"}, "device"),
        ({"resume": True}, "run_dir"),
        ({"resume": "x"}, "resume must be True or False, got 'x'"),
        ({"progress": "x"}, "progress must be True or False, got 'x'"),
        ({"tensorboard": True}, "run_dir"),
    ],
)
def test_wrong_arguments_are_named(parts, options, word, refuse_input):
    refuse_input(lambda: train(parts, **options), word)


@pytest.mark.parametrize("wrong", [None, 3, "run", np.ones(3)])
def test_what_is_no_model_is_refused(parts, wrong, refuse_input):
    words = "model must be a CrossAttentionMultiAsset, got"
    refuse_input(lambda: predict(wrong, parts[2]), words)
    refuse_input(lambda: train_cross_attention_model(wrong, *parts[:2]), words)


def test_what_cannot_learn_is_refused(parts, data, refuse_input):
    halved, frozen = make(data).bfloat16(), make(data).requires_grad_(False)
    refuse_input(lambda: train(parts, model=halved), "float64, got torch.bfloat16")
    refuse_input(lambda: train(parts, model=frozen), "all are frozen")
    for off in (torch.no_grad, torch.inference_mode):
        refuse_input(off()(lambda: train(parts)), "cannot be trained in torch.no_grad")
    assert len(train(parts, epochs=1, model=make(data).double()).history) == 1


def test_data_that_does_not_fit_the_model_is_refused(parts, data, refuse_input):
    refuse_input(lambda: train(parts, model=make(data, max_lag=16)), "max_lag")
    refuse_input(lambda: train(parts, model=CrossAttentionMultiAsset(5, 7)), "assets")
    refuse_input(lambda: train((3, 4), model=make(data)), "train_data")
    refuse_input(lambda: train((parts[0], dataclasses.replace(parts[1], horizon=2))), "horizon")


def test_a_model_made_without_names_takes_those_of_the_data(parts):
    three = [part.select(features=("range", "log_return", "rsi")) for part in parts]
    model = CrossAttentionMultiAsset(4, 3, seed=1)
    train(three, model=model)
    assert model.features == ("range", "log_return", "rsi")
    assert np.isfinite(predict(model, three[2])).all()


def test_every_parameter_learns_at_its_own_rate(data):
    model = make(data)
    optimizer = make_optimizer(model, model.config.recipe)
    rate = {id(p): g["peak"] for g in optimizer.param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert len(rate) == len(named)
    assert rate[id(named["body.layers.0.content_weight"])] == pytest.approx(1.0)
    assert rate[id(named["body.layers.1.gain"])] == pytest.approx(0.05)


def test_labels_are_cut_by_a_band_of_the_training_part(parts):
    model = make(parts[0], output_type="classification")
    fit_scaling(model, parts[0], CPU)
    labels = make_batch(model, parts[0], model.config.recipe, CPU).label.numpy()
    y = parts[0].y
    band = np.nanquantile(np.abs(y), 1 / 3, axis=0).astype(np.float32)
    expected = np.where(np.abs(y) <= band, 1, np.where(y > 0, 2, 0))
    assert (labels == expected).mean() > 0.999
    shares = np.bincount(labels.ravel(), minlength=3) / y.size
    assert (np.abs(shares - 1 / 3) < 0.03).all(), "down, neutral and up are all there to be learned"


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_a_plateau_cuts_where_torch_cuts(patience):
    rng = np.random.default_rng(patience)
    losses = np.maximum.accumulate(rng.random(60))[::-1] + 0.3 * rng.random(60)
    losses[7] = np.nan
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=0.0
    )
    for epoch, loss in enumerate(losses):
        theirs.step(loss)
        ours = 0.5 ** plateau_cuts(losses[: epoch + 1], patience)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(ours)
    assert ours < 1, "this history has plateaus"


def test_a_plateau_lowers_the_rate_after_epochs_without_gain(parts):
    options = {"schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.5, "lr": 3.0}
    history = train(parts, epochs=8, warmup=0.1, **options).history
    cuts = [plateau_cuts(history["val_loss"][:k], 1) for k in range(len(history))]
    assert cuts[-1] >= 1
    np.testing.assert_allclose(history["lr"], 3.0 * 0.5 ** np.array(cuts))


def test_tensorboard_shows_the_history_of_a_stopped_and_resumed_run_once(
    parts, tmp_path, interrupt
):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    begin = functools.partial(train, parts, run_dir=run, epochs=4, tensorboard=True)
    # epoch 2 is on the board, and in no checkpoint
    interrupt(begin, loop.RunFolder, "save", lambda progress, *_: progress.epoch == 3)
    result = begin(resume=True)
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {"train_loss", "val_loss", "lr"}
    for name in board.Tags()["scalars"]:
        shown = board.Scalars(name)
        assert [event.step for event in shown] == [1, 2, 3, 4]
        np.testing.assert_allclose([e.value for e in shown], result.history[name], rtol=1e-6)


def test_tensorboard_that_is_not_installed_is_named(parts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match="crossattn\\[tensorboard\\]"):
        train(parts, run_dir=tmp_path / "run", tensorboard=True)
