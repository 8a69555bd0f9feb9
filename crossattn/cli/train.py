"""``crossattn train``: train a model on a folder of bars into a run folder; resumable."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

import crossattn as ca
from crossattn import baselines, evidence
from crossattn._io import write_file
from crossattn.cli import _run_folder as runs
from crossattn.cli._argtypes import bars_or_duration, nonnegative_int, positive_float, positive_int
from crossattn.cli._console import echo
from crossattn.cli._money import METRICS_FILE, draw_equity, metrics_of, write_metrics
from crossattn.cli.check import echo_findings, write_check
from crossattn.errors import InvalidInputError
from crossattn.figures import new_axes, png_of, use_style
from crossattn.runtime import select_device

FOLDS_FILE = "folds.csv"

# of CrossAttentionMultiAsset and its training; the forecaster has no use for them
SHAPE_OPTIONS = ("d_model", "n_heads", "n_layers")
NETWORK_OPTIONS = ("batch_size", *SHAPE_OPTIONS, "lr", "checkpoint_every", "tensorboard")
FORECASTER_OPTIONS = ("n_models", "exogenous", "target")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn train``."""
    add = parser.add_argument
    runs.add_folders(parser)
    for name, default in (("lookback", 168), ("horizon", 24)):
        explained = f"bars, or a duration such as 24h (default: {default})"
        add(f"--{name}", type=bars_or_duration, default=default, metavar="SPAN", help=explained)
    explained = "common: keep only the bars that all symbols share (default: outer)"
    add("--how", default="outer", choices=("outer", "common"), help=explained)
    types = ("regression", "classification", "portfolio")
    explained = "default: regression, by the forecaster; the others by a network"
    add("--output-type", default="regression", choices=types, help=explained)
    explained = "of the forecaster: return over the horizon, or its volatility (default: return)"
    add("--target", default="return", choices=("return", "volatility"), help=explained)
    estimators = ("close", "parkinson", "garman_klass")
    explained = "of --target volatility: from closes, or from the bars' ranges (default: close)"
    add("--volatility-estimator", choices=estimators, help=explained)
    add("--n-models", type=positive_int, metavar="N", help="content heads averaged (default: 3)")
    add("--epochs", type=positive_int, metavar="N", help="default: the model's own")
    for name in ("batch-size", "d-model", "n-heads", "n-layers"):
        add(f"--{name}", type=positive_int, metavar="N", help="of a network, which it asks for")
    add("--lr", type=positive_float, metavar="X", help="of a network, which it asks for")
    add("--seed", type=nonnegative_int, default=0, metavar="N", help="default: 0")
    add("--device", default="auto", metavar="NAME", help="default: a GPU if any")
    add("--checkpoint-every", type=positive_int, metavar="STEPS", help="of a network")
    add("--tensorboard", action="store_true", help="of a network: curves in DIR/tensorboard")
    add("--resume", action="store_true", help="continue the run in --run")
    add("--walk-forward", action="store_true", help="also refit fold by fold and score each")


def run(args: argparse.Namespace) -> None:
    """Train on the first 60 % of the windows, choose by the next 10 %, leave the rest unseen."""
    from crossattn.training.distributed import DistributedContext

    is_network = _is_network(args)
    if args.walk_forward and args.target == "volatility":
        raise InvalidInputError("--walk-forward scores returns: leave out --target volatility")
    if args.volatility_estimator and args.target != "volatility":
        raise InvalidInputError("--volatility-estimator needs --target volatility")
    runs.check_output(args.run_dir / runs.BARS_FILE, args.data)
    frames = ca.read_bars(args.data, time_zone=args.time_zone)
    # under torchrun all processes train a network together; a forecaster is fitted by the main one
    is_main = DistributedContext.current().is_main
    report = ca.check_bars(frames) if is_main else None
    if is_main:
        echo_findings(report)
    data = ca.prepare_cross_attention_data(
        frames,
        args.lookback,
        args.horizon,
        exogenous=runs.read_series(args),
        how=args.how,
        volatility_estimator=args.volatility_estimator or "close",
    )
    args.lookback = data.lookback
    train, val, test = data.split(train=0.6, val=0.1)
    for line in runs.spans_of(data) if is_main else ():
        echo(line)
    if is_network or is_main:
        fit = _train_network if is_network else _fit_forecaster
        model, plot_losses, summary = fit(args, train, val)
    run_dir = args.run_dir
    if is_main and (run_dir / runs.BARS_FILE).exists():
        echo(f"already complete: {run_dir} left unchanged")
    elif is_main:
        _write_evidence(run_dir, model, plot_losses, test)
        if args.output_type == "classification":
            _write_class_scores(run_dir, model, train, test)
        if args.target == "volatility" and not is_network:
            _score_volatility(run_dir, model, data, test)
        write_check(run_dir, report, train)
        runs.write_bars_record(run_dir, frames, train, val, how=args.how)
        echo(f"trained: {summary}, in {run_dir}")
        echo(f"unseen: {len(test)} windows from {test.timestamps[0]}")
    if args.walk_forward and not (run_dir / FOLDS_FILE).exists():
        _walk_forward(args, data, is_network=is_network, is_main=is_main)


def _is_network(args: argparse.Namespace) -> bool:
    """Whether the options ask for a network; those of the forecaster are then refused by name."""
    given = [name for name in NETWORK_OPTIONS if getattr(args, name)]
    if args.output_type != "regression":
        reason = f"--output-type {args.output_type}"
    elif given:
        reason = " and ".join(_option(name) for name in given)
        echo(f"network: {reason} given, so a network is trained instead of the forecaster")
    else:
        return False
    for name in FORECASTER_OPTIONS:
        if getattr(args, name) not in (None, "return"):
            raise InvalidInputError(
                f"{_option(name)} is of the forecaster, but {reason} asks for a network: "
                "leave one of them out"
            )
    return True


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _given(args: argparse.Namespace, *names: str) -> dict:
    """Return options by name, without those that were left out and have no default."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _new_forecaster(args: argparse.Namespace) -> ca.CrossAttentionForecaster:
    settings = _given(args, "target", "seed", "device", "n_models", "epochs")
    forecaster = ca.CrossAttentionForecaster(**settings)
    return forecaster.set_params(max_lag=min(forecaster.max_lag, args.lookback - 1))


def _fit_forecaster(args: argparse.Namespace, train, val):
    """Fit the forecaster into the run folder, or read the one that is finished there.

    A fit that was stopped starts again: it takes seconds and gives the same files, byte for byte.
    """
    from crossattn.tokens.storage import is_forecaster
    from crossattn.training.checkpoint import CONFIG_FILE
    from crossattn.training.run_folder import RunFolder, digest_of_windows

    forecaster = _new_forecaster(args)
    select_device(args.device)  # an unknown device is refused before anything is written
    settings = {k: v for k, v in forecaster.get_params().items() if k not in ("device", "progress")}
    run_folder = RunFolder(args.run_dir, resume=args.resume)
    run_folder.claim({"forecaster": settings, "data": digest_of_windows((train, val))})
    config = args.run_dir / CONFIG_FILE
    if config.exists() and is_forecaster(args.run_dir):
        forecaster = ca.CrossAttentionForecaster.load(args.run_dir)
    else:
        forecaster.fit(train, val).catch_up()
        run_folder.write_history(_by_epoch(forecaster.history_))
        forecaster.save(args.run_dir)
    mix = " + ".join(f"{w:.2f} {name}" for name, w in forecaster.weights_.items() if w >= 0.005)
    summary = f"mixed on validation as {mix}" if mix else "nothing beats a constant on validation"
    has_losses = len(forecaster.history_) > 0
    return forecaster, partial(_plot_history, forecaster.history_) if has_losses else None, summary


def _by_epoch(history) -> list[dict]:
    """Return the validation losses of the content heads, one entry per epoch."""
    return [
        {"epoch": int(epoch) + 1, "val_loss": float(losses.mean()), "val_losses": losses.tolist()}
        for epoch, losses in history.groupby("epoch")["val_loss"]
    ]


def _plot_history(history):
    """Draw the validation loss of every content head; return the Axes."""
    ax = new_axes(None)
    for member, rows in history.groupby("member"):
        ax.plot(rows["epoch"] + 1, rows["val_loss"], label=f"content head {member + 1}")
    ax.set(xlabel="epoch", ylabel="validation loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return ax


def _train_network(args: argparse.Namespace, train, val):
    folder = _given(args, "run_dir", "resume", "checkpoint_every", "tensorboard")
    result = _fit_network(args, train, val, **folder)
    summary = (
        f"epoch {result.best_epoch} of {len(result.history)} is the best, "
        f"validation loss {result.best_val_loss:.6g}"
    )
    return result.model, result.plot, summary


def _fit_network(args: argparse.Namespace, train, val, **folder):
    model = ca.CrossAttentionMultiAsset(
        len(train.symbols),
        len(train.features),
        features=train.features,
        **_given(args, "output_type", "seed", *SHAPE_OPTIONS),
    )
    settings = _given(args, "epochs", "batch_size", "lr", "device", "seed")
    return ca.train_cross_attention_model(model, train, val, **settings, **folder)


def _write_evidence(run_dir: Path, model, plot_losses, test) -> None:
    """Write losses, attention, tested leaders and a backtest into the run folder."""
    use_style()
    report = ca.analyze_lead_lag_relationships(model, test)
    write_file(run_dir / "lead_lag.csv", report.edges.to_csv(index=False))
    maps = evidence.attention_maps(model, test, every=max(1, len(test) // 1000))
    with suppress(InvalidInputError):  # too many assets for one page: the figure has to do
        content = json.dumps(evidence.explore_attention(maps).content)
        write_file(run_dir / runs.ATTENTION_FILE, content)
    figures = {"attention": maps.plot(), "leaders": report.plot()}
    if plot_losses is not None:
        figures["loss"] = plot_losses()
    if getattr(model, "target", "return") == "return":  # others are no reason to trade
        strategy = ca.CrossAttentionBacktest(model)
        strategy.run(test)
        write_metrics(run_dir / METRICS_FILE, metrics_of(strategy))
        figures["equity"] = draw_equity(strategy)
    (run_dir / "figures").mkdir(exist_ok=True)
    for name, axes in figures.items():
        write_file(run_dir / "figures" / f"{name}.png", png_of(axes))


def _write_class_scores(run_dir: Path, model, train, test) -> None:
    """Score class probabilities on unseen bars beside the frequencies in training."""
    from scipy.special import softmax

    band = model.head.band.cpu().numpy()
    label, seen = (
        np.where(np.isfinite(part.y), 1 + (part.y > band) - (part.y < -band), -1)
        for part in (train, test)
    )
    often = np.stack([(label == k).sum(axis=0) + 1.0 for k in range(3)], axis=1)
    odds = {"network": softmax(ca.predict(model, test), axis=2)}
    odds["frequencies in training"] = np.broadcast_to(
        often / often.sum(axis=1, keepdims=True), odds["network"].shape
    )
    try:
        table = evidence.score_classes(odds, seen, horizon=test.horizon)
    except InvalidInputError as error:  # too few unseen bars
        echo(f"class probabilities not scored: {error}")
        return
    write_file(run_dir / runs.CLASS_SCORES_FILE, table.to_csv())


def _score_volatility(run_dir: Path, model, data, test) -> None:
    """Write QLIKE and other scores on the unseen bars, beside two models that read one asset."""
    seen = data[: data.count_known_before(len(data) - len(test))]
    seen = seen.with_series(())  # which only the forecaster reads
    try:
        forecasts = {"forecaster": model.predict(test)}
        forecasts["exponential mean"] = baselines.ExponentialVolatility().fit(seen).predict(test)
        forecasts["HAR"] = baselines.HAR("qlike").fit(seen).predict(test)
        realised = test.realised_volatility
        scores = evidence.score_volatility(forecasts, realised, horizon=data.horizon)
    except InvalidInputError as error:
        echo(f"no scores: {error}")
        return
    write_file(run_dir / runs.VOLATILITY_FILE, scores.to_csv())
    shown = ", ".join(f"{name} {loss:.3f}" for name, loss in scores["qlike"].items())
    echo(f"QLIKE on unseen bars: {shown}")


def _walk_forward(args: argparse.Namespace, data, *, is_network: bool, is_main: bool) -> None:
    """Refit on a rolling window; write scores and forecasts of every fold."""
    fold = -(-len(data) // 10)
    result = ca.walk_forward(
        data,
        lambda: _Refit(args) if is_network else _new_forecaster(args),
        train_size=5 * fold,
        test_size=fold,
        val_size=max(1, fold // 2),
    )
    if not is_main:
        return
    run_dir = args.run_dir
    forecasts = runs.forecast_table(result.predictions, result.timestamps, data.symbols)
    write_file(run_dir / runs.WALK_FORWARD_FILE, forecasts.to_csv())
    write_file(run_dir / "figures" / "folds.png", png_of(result.plot()))
    write_file(run_dir / FOLDS_FILE, result.folds.to_csv())  # last: marks completion
    echo(f"walk-forward: {len(result.folds)} folds in {run_dir / FOLDS_FILE}")


class _Refit:
    """The network of ``crossattn train`` behind ``fit`` and ``predict``, for walk_forward."""

    def __init__(self, args: argparse.Namespace):
        self.args = args

    def fit(self, train, val):
        self.model = _fit_network(self.args, train, val).model
        return self

    def predict(self, data):
        return ca.predict(self.model, data, device=self.args.device)
