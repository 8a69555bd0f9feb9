"""Run folders: open a trained run, its bars record and its out-of-sample windows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

import crossattn as ca
from crossattn import training
from crossattn.cli._argtypes import folder, fraction, positive_float
from crossattn.cli._console import echo
from crossattn.data.durations import span_text
from crossattn.data.files import iso_times, read_exogenous
from crossattn.data.fingerprint import fingerprint_bars
from crossattn.data.frame import Frames, modal_spacing
from crossattn.errors import DamagedFileError, InvalidInputError

ATTENTION_FILE = "attention.json"
BARS_FILE = "bars.json"
VOLATILITY_FILE = "volatility.csv"
WALK_FORWARD_FILE = "walk_forward.csv"
CLASS_SCORES_FILE = "class_scores.csv"
OTHER_SPACING = 1.5  # times that of training
FIGURES = {
    "leaders": "Effects of every pair on unseen bars; a circle marks a significant one.",
    "attention": "Mean attention out of sample: a row per follower, a column per source.",
    "folds": "Walk-forward: how each refit did on the bars that followed it.",
    "loss": "Loss by epoch, of the forecaster's content heads or of the network; the weights of "
    "the epoch with the lowest validation loss are the run's.",
}


def add_folders(
    parser: argparse.ArgumentParser, *, data: bool = True, needs_run: bool = True
) -> None:
    """Declare ``--run`` and, where the command reads bars, ``--data``."""
    add = parser.add_argument
    add("--run", type=folder, required=needs_run, metavar="DIR", dest="run_dir", help="run folder")
    if data:
        add("--data", type=folder, required=True, metavar="DIR", help="a file per symbol")
        explained = "of times without a UTC offset, such as UTC or America/New_York"
        add("--time-zone", metavar="ZONE", help=explained)
        explained = (
            "series that lead and are not forecast: a time column (when a row is known) and one "
            "column each"
        )
        add("--exogenous", type=Path, metavar="FILE.csv", help=explained)


def add_decision_options(parser: argparse.ArgumentParser) -> None:
    """Declare how forecasts become weights, the same for past bars and for the newest."""
    add = parser.add_argument
    explained = "default: 0.001"
    add("--transaction-cost", type=fraction, default=0.001, metavar="FRACTION", help=explained)
    add("--max-position", type=positive_float, default=1.0, metavar="FRACTION", help="default: 1")
    add("--allow-short", action="store_true", help="default: long only")


def decision_settings(args: argparse.Namespace) -> dict:
    """Return the options of :func:`add_decision_options`, as a strategy takes them."""
    names = ("transaction_cost", "allow_short", "max_position")
    return {name: getattr(args, name) for name in names}


def check_output(path: Path, *inputs: Path | None) -> None:
    """Refuse a result over or among files that are read, where it would be taken for one of them.

    A page (``.html``) may lie among them.
    """
    written = path.resolve()
    taken = {written} if written.suffix == ".html" else {written, written.parent}
    for place in filter(None, inputs):
        if place.resolve() in taken:
            raise InvalidInputError(f"{path} would replace or join what is read: {place}")


def inputs_of(args: argparse.Namespace) -> list[Path | None]:
    """Return the files and folders that a command reads, by the options of :func:`add_folders`."""
    return [args.run_dir, args.run_dir / "figures", args.data, args.exogenous]


@dataclass(frozen=True)
class Run:
    """A trained model, what it reads, and its settings."""

    model: ca.CrossAttentionForecaster | ca.CrossAttentionMultiAsset
    symbols: tuple[str, ...]  #: in the order that the model reads, as those below
    features: tuple[str, ...]
    lookback: int
    horizon: int
    duration: pd.Timedelta | None  #: the horizon, where it was given as a duration
    settings: dict  #: of the model, for the report
    exogenous: tuple[str, ...] = ()  #: series that are read and not forecast
    #: which bars it was trained on: all ("outer") or those that all symbols share ("common")
    how: str = "outer"
    volatility_estimator: str = "close"  #: what measures the volatility of a bar
    #: seconds between a symbol's bars in training
    spacing: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of_forecaster(cls, model: ca.CrossAttentionForecaster) -> Run:
        """Describe a fitted forecaster."""
        mix = ", ".join(f"{name} {weight:.3f}" for name, weight in model.weights_.items())
        settings = {name: v for name, v in model.get_params().items() if name != "device"}
        if model.target == "volatility":
            settings["volatility_estimator"] = model.volatility_estimator_
        return cls(
            model,
            model.symbols_,
            model.features_,
            model.lookback_,
            model.horizon_,
            model.duration_,
            {**settings, "mix": mix, "channels": model.channels_},
            model.sources_[len(model.symbols_) :],
            volatility_estimator=model.volatility_estimator_,
        )

    @classmethod
    def of_network(cls, model: ca.CrossAttentionMultiAsset) -> Run:
        """Describe a trained network."""
        duration = model.config.duration
        return cls(
            model,
            tuple(model.symbols),
            tuple(model.features),
            model.lookback,
            model.horizon,
            None if duration is None else pd.Timedelta(duration),
            model.config.to_dict(),
        )

    def forecast(self, data: ca.CrossAttentionData) -> np.ndarray:
        """Forecast every window."""
        own = hasattr(self.model, "predict")
        return self.model.predict(data) if own else ca.predict(self.model, data)


def open_run(directory: Path) -> Run:
    """Read the forecaster or the network of a finished run."""
    from crossattn.tokens.storage import is_forecaster
    from crossattn.training.checkpoint import CONFIG_FILE
    from crossattn.training.run_folder import POINTER

    if not (directory / CONFIG_FILE).is_file():
        raise _unfinished(directory, CONFIG_FILE)
    # a model saved on its own has no record of bars; a run that was killed before its end lacks it
    is_run = any((directory / name).exists() for name in (BARS_FILE, POINTER))
    record = read_bars_record(directory) if is_run else {}
    known = {name: record[name] for name in ("how", "spacing") if name in record}
    if is_forecaster(directory):
        return replace(Run.of_forecaster(ca.CrossAttentionForecaster.load(directory)), **known)
    models, _ = training.load_models(directory)
    if len(models) != 1:
        raise InvalidInputError(f"{directory} holds {len(models)} networks; a run has one")
    return replace(Run.of_network(models[0]), **known)


def _unfinished(run: Path, lacking: str) -> InvalidInputError:
    return InvalidInputError(
        f"{run} holds no finished run (there is no {lacking}); train one first, or finish it with "
        "crossattn train --resume"
    )


def read_run_bars(run: Run, directory: Path, time_zone: str | None = None) -> Frames:
    """Read the run's symbols from a folder of bars, which must be spaced as in training."""
    return bars_of_run(run, ca.read_bars(directory, time_zone=time_zone))


def bars_of_run(run: Run, frames: Frames) -> Frames:
    """Return the run's symbols, name the others on stdout, and refuse another spacing."""
    if missing := [symbol for symbol in run.symbols if symbol not in frames]:
        raise InvalidInputError(f"data lacks the model's symbols {', '.join(missing)}: retrain")
    if others := [symbol for symbol in frames if symbol not in run.symbols]:
        echo(f"left out: {', '.join(others)} (not among the symbols of the run)")
    for symbol in run.symbols:
        found, known = _spacing_of(frames[symbol]), run.spacing.get(symbol, 0.0)
        if found and known and not known / OTHER_SPACING <= found <= known * OTHER_SPACING:
            raise InvalidInputError(
                f"data has bars of {symbol} {span_text(pd.Timedelta(seconds=found))} apart, but "
                f"the run was trained on bars {span_text(pd.Timedelta(seconds=known))} apart"
            )
    return {symbol: frames[symbol] for symbol in run.symbols}


def _spacing_of(frame: pd.DataFrame) -> float:
    """Seconds between most neighbouring bars; 0 where there are too few to tell."""
    return modal_spacing(frame.index).total_seconds() if len(frame) > 2 else 0.0


def load_windows(
    run: Run, frames: Frames, args: argparse.Namespace, *, include_latest: bool = False
) -> ca.CrossAttentionData:
    """Make the windows that the model was trained on, from bars of :func:`bars_of_run`."""
    return ca.prepare_cross_attention_data(
        frames,
        lookback=run.lookback,
        horizon=run.duration or run.horizon,
        features=run.features,
        exogenous=series_of_run(run, args),
        how=run.how,
        include_latest=include_latest,
        volatility_estimator=run.volatility_estimator,
    )


def read_series(args: argparse.Namespace) -> pd.DataFrame | None:
    """Read the exogenous series of ``--exogenous``, None without."""
    path = args.exogenous
    return None if path is None else read_exogenous(path, time_zone=args.time_zone)


def series_of_run(run: Run, args: argparse.Namespace) -> pd.DataFrame | None:
    """Read the exogenous series that the run knows, in its order."""
    if (table := read_series(args)) is None:
        if run.exogenous:
            raise InvalidInputError(
                f"the run reads {', '.join(run.exogenous)}: name their file by --exogenous"
            )
        return None
    if not run.exogenous:
        raise InvalidInputError("the run reads no exogenous series: leave out --exogenous")
    if missing := [name for name in run.exogenous if name not in table]:
        raise InvalidInputError(f"{args.exogenous} lacks the run's series {', '.join(missing)}")
    return table[list(run.exogenous)]


def spans_of(data: ca.CrossAttentionData) -> list[str]:
    """Return a line on what the horizon covers in time, and on targets that are not known."""
    coverage, asked = data.coverage, f"{data.horizon} bars"
    shortest, longest = coverage["span_min"].min(), coverage["span_max"].max()
    covered = span_text(longest)
    if shortest < longest:
        covered = f"{span_text(shortest)} to {covered}"
    if data.duration is not None:
        asked = f"{span_text(data.duration)} (at most {asked})"
    lines = [f"horizon: {asked}: {covered}"]
    share = coverage["known_targets"] / coverage["bars"].clip(lower=1)
    if (share < 1).any():
        few = ", ".join(f"{symbol} {x:.0%}" for symbol, x in share[share < 1].items())
        lines.append(f"known targets, of the symbol's bars: {few}")
    return lines


@contextmanager
def intact(path: Path) -> Iterator[None]:
    """Name a file of a run that is not what was written there."""
    try:
        yield
    except (OSError, SyntaxError, TypeError, ValueError, KeyError):
        raise DamagedFileError(f"{path} is damaged; train the run again") from None


def write_bars_record(run: Path, frames: Frames, train, val, *, how: str) -> None:
    """Record in the run folder, with a checksum, which bars training has used."""
    from crossattn.training.checkpoint import write_checksummed_json

    record = {
        "bars_sha256": fingerprint_bars(frames),
        "how": how,
        "spacing": {symbol: _spacing_of(frame) for symbol, frame in frames.items()},
        "spans": spans_of(train),
        "train": [str(train.timestamps[0]), str(train.timestamps[-1])],
        "validation": [str(val.timestamps[0]), str(val.timestamps[-1])],
        "seen_until": str(val.clock[val.target_rows[val.ends[-1]]]),
    }
    write_checksummed_json(run / BARS_FILE, record)


def read_bars_record(run: Path) -> dict:
    """Read the record of :func:`write_bars_record`; an altered file is refused."""
    from crossattn.training.checkpoint import read_checksummed_json

    path = run / BARS_FILE
    if not path.is_file():
        raise _unfinished(run, BARS_FILE)
    record = read_checksummed_json(path)
    if not {"seen_until", "how", "spacing"} <= set(record):
        raise DamagedFileError(f"{path} is another file; train the run again")
    return record


def forecast_table(
    forecast: np.ndarray, times: pd.DatetimeIndex, symbols: Sequence[str]
) -> pd.DataFrame:
    """Return forecasts by close time, one column per symbol; of class scores, the likeliest."""
    if forecast.ndim == 3:
        known = ~np.isnan(forecast).any(axis=-1)
        forecast = np.where(known, np.nan_to_num(forecast).argmax(axis=-1) - 1, np.nan)
    index = pd.Index(iso_times(times), name="close_time")
    return pd.DataFrame(forecast, index=index, columns=list(symbols))


def out_of_sample(data: ca.CrossAttentionData, record: dict) -> ca.CrossAttentionData:
    """Return the windows whose last bar is later than anything that training used."""
    first = int(data.timestamps.searchsorted(record["seen_until"], side="right"))
    if first == len(data):
        raise InvalidInputError(
            f"data ends at {data.timestamps[-1]}, but the run was trained on bars up to "
            f"{record['seen_until']}: add later bars"
        )
    return data[first:]
