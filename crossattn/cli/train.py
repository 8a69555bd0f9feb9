"""``crossattn train``: train a model on a folder of bars into a run folder; resumable."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossattn.cli._argtypes import nonnegative_int, positive_float, positive_int
from crossattn.cli._console import echo
from crossattn.cli._run_folder import add_folders

FOLDS_FILE = "folds.csv"

HELP = "train a model on a folder of bars; resumes after any interruption"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn train``."""
    add = parser.add_argument
    add_folders(parser)
    add("--lookback", type=positive_int, default=168, metavar="BARS", help="default: 168")
    add("--horizon", type=positive_int, default=24, metavar="BARS", help="default: 24")
    add(
        "--output-type",
        default="regression",
        choices=("regression", "classification", "portfolio"),
    )
    for name in ("epochs", "batch-size", "d-model", "n-heads", "n-layers"):
        add(f"--{name}", type=positive_int, metavar="N", help="default: the model's own")
    add("--lr", type=positive_float, metavar="X", help="default: the model's own")
    add("--seed", type=nonnegative_int, default=0, metavar="N", help="default: 0")
    add("--device", default="auto", metavar="NAME", help="default: a GPU if any")
    add("--checkpoint-every", type=positive_int, metavar="STEPS", help="default: every epoch")
    add("--tensorboard", action="store_true", help="also write curves to DIR/tensorboard")
    add("--resume", action="store_true", help="continue the run in --run")
    add("--walk-forward", action="store_true", help="also refit fold by fold and score each")


def run(args: argparse.Namespace) -> None:
    """Train on the first 60 % of the windows, stop by the next 10 %, leave the rest unseen."""
    from crossattn.cli._run_folder import BARS_FILE, check_output_dir, write_bars_record
    from crossattn.data.files import read_bars
    from crossattn.training.distributed import DistributedContext
    from crossattn.windows.dataset import prepare_cross_attention_data

    check_output_dir(args.data, args.run_dir)
    frames = read_bars(args.data)
    data = prepare_cross_attention_data(frames, args.lookback, args.horizon)
    train, val, test = data.split(train=0.6, val=0.1)
    run_dir = args.run_dir
    model = _new_model(args, data)
    result = _train(
        args,
        model,
        train,
        val,
        run_dir=run_dir,
        resume=args.resume,
        checkpoint_every=args.checkpoint_every,
        tensorboard=args.tensorboard,
    )
    is_main = DistributedContext.current().is_main  # under torchrun only the main process writes
    if is_main and (run_dir / BARS_FILE).exists():
        echo(f"already complete: {run_dir} left unchanged")
    elif is_main:
        _write_evidence(run_dir, result, test)
        write_bars_record(run_dir, frames, train, val)
        echo(
            f"trained: epoch {result.best_epoch} of {len(result.history)} is the best, "
            f"validation loss {result.best_val_loss:.6g}, in {run_dir}"
        )
        echo(f"unseen: {len(test)} windows from {test.timestamps[0]}")
    if args.walk_forward and not (run_dir / FOLDS_FILE).exists():
        _walk_forward(args, data, run_dir)


def _new_model(args: argparse.Namespace, data):
    from crossattn.model.network import CrossAttentionMultiAsset

    shape = {name: getattr(args, name) for name in ("d_model", "n_heads", "n_layers")}
    return CrossAttentionMultiAsset(
        len(data.symbols),
        len(data.features),
        output_type=args.output_type,
        features=data.features,
        seed=args.seed,
        **{name: value for name, value in shape.items() if value is not None},
    )


def _train(args: argparse.Namespace, model, train, val, **folder):
    from crossattn.training.loop import train_cross_attention_model

    return train_cross_attention_model(
        model,
        train,
        val,
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        device=args.device,
        seed=args.seed,
        **folder,
    )


def _write_evidence(run_dir: Path, result, test) -> None:
    """Write loss curve, attention map and tested leaders into the run folder."""
    from crossattn._io import atomic_write
    from crossattn.evidence.leadlag import analyze_lead_lag_relationships
    from crossattn.evidence.maps import attention_maps
    from crossattn.figures import png_of, use_style

    use_style()
    report = analyze_lead_lag_relationships(result.model, test)
    with atomic_write(run_dir / "lead_lag.csv") as temporary:
        report.edges.to_csv(temporary, index=False)
    maps = attention_maps(result.model, test, every=max(1, len(test) // 1000))
    figures = {"loss": result.plot(), "attention": maps.plot(), "leaders": report.plot()}
    (run_dir / "figures").mkdir(exist_ok=True)
    for name, axes in figures.items():
        with atomic_write(run_dir / "figures" / f"{name}.png") as temporary:
            temporary.write_bytes(png_of(axes))


def _walk_forward(args: argparse.Namespace, data, run_dir: Path) -> None:
    """Refit on a rolling window; write scores and forecasts of every fold."""
    from crossattn._io import atomic_write
    from crossattn.cli._run_folder import forecast_table
    from crossattn.figures import png_of
    from crossattn.portfolio.walkforward import walk_forward
    from crossattn.training.distributed import DistributedContext

    fold = -(-len(data) // 10)
    result = walk_forward(
        data,
        lambda: _Refit(args),
        train_size=5 * fold,
        test_size=fold,
        val_size=max(1, fold // 2),
    )
    if not DistributedContext.current().is_main:
        return
    forecasts = forecast_table(result.predictions, result.timestamps, data.symbols)
    with atomic_write(run_dir / "walk_forward.csv") as temporary:
        forecasts.to_csv(temporary)
    with atomic_write(run_dir / "figures" / "folds.png") as temporary:
        temporary.write_bytes(png_of(result.plot()))
    with atomic_write(run_dir / FOLDS_FILE) as temporary:  # last: marks completion
        result.folds.to_csv(temporary)
    echo(f"walk-forward: {len(result.folds)} folds in {run_dir / FOLDS_FILE}")


class _Refit:
    """The model of ``crossattn train`` behind ``fit`` and ``predict``, for walk_forward."""

    def __init__(self, args: argparse.Namespace):
        self.args = args

    def fit(self, train, val):
        self.model = _new_model(self.args, train)
        _train(self.args, self.model, train, val)
        return self

    def predict(self, data):
        from crossattn.training.prediction import predict

        return predict(self.model, data, device=self.args.device)
