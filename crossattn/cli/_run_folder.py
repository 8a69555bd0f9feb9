"""Run folders: open a trained run, its bars record and its out-of-sample windows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossattn.cli._argtypes import folder
from crossattn.errors import DamagedFileError, InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from crossattn.data.frame import Frames
    from crossattn.model.network import CrossAttentionMultiAsset
    from crossattn.windows.dataset import CrossAttentionData

BARS_FILE = "bars.json"
FIGURES = {
    "loss": "Training and validation loss by epoch; the weights of the best epoch are the run's.",
    "attention": "Mean attention out of sample: a row per follower, a column per leader.",
    "folds": "Walk-forward: how each refit did on the bars that followed it.",
    "leaders": "Effects of every pair on unseen bars; a circle marks a significant one.",
}


def add_folders(parser: argparse.ArgumentParser, *, data: bool = True) -> None:
    """Declare ``--run`` and, where the command reads bars, ``--data``."""
    add = parser.add_argument
    add("--run", type=folder, required=True, metavar="DIR", dest="run_dir", help="run folder")
    if data:
        add("--data", type=folder, required=True, metavar="DIR", help="one CSV per symbol")


def check_output_dir(data: Path, output: Path) -> None:
    """Refuse ``--data`` as output folder: a result in it would later be read as a symbol's bars."""
    if output.resolve() == data.resolve():
        raise InvalidInputError(f"results must not be written among the bars of --data {data}")


def open_run(directory: Path) -> CrossAttentionMultiAsset:
    """Read the model of a finished run."""
    from crossattn.training.checkpoint import CONFIG_FILE, load_models

    if not (directory / CONFIG_FILE).is_file():
        raise _unfinished(directory, CONFIG_FILE)
    models, _ = load_models(directory)
    if len(models) != 1:
        raise InvalidInputError(
            f"{directory} holds a forecaster of {len(models)} members, not a run of crossattn "
            "train; open it with CrossAttentionForecaster.load"
        )
    return models[0]


def _unfinished(run: Path, lacking: str) -> InvalidInputError:
    return InvalidInputError(
        f"{run} holds no finished run (there is no {lacking}); train one first, or finish it with "
        "crossattn train --resume"
    )


def load_windows(
    model: CrossAttentionMultiAsset, frames: Frames, *, include_latest: bool = False
) -> CrossAttentionData:
    """Make the windows that the model was trained on, from any bars of its symbols."""
    from crossattn.windows.dataset import prepare_cross_attention_data

    missing = [symbol for symbol in model.symbols if symbol not in frames]
    if missing:
        raise InvalidInputError(f"data lacks the model's symbols {', '.join(missing)}")
    chosen = {symbol: frames[symbol] for symbol in model.symbols}
    return prepare_cross_attention_data(
        chosen,
        lookback=model.lookback,
        horizon=model.horizon,
        features=model.features,
        include_latest=include_latest,
    )


def write_bars_record(run: Path, frames: Frames, train, val) -> None:
    """Record in the run folder, with a checksum, which bars training has used."""
    from crossattn.data.fingerprint import fingerprint_bars
    from crossattn.training.checkpoint import write_checksummed_json

    record = {
        "bars_sha256": fingerprint_bars(frames),
        "train": [str(train.timestamps[0]), str(train.timestamps[-1])],
        "validation": [str(val.timestamps[0]), str(val.timestamps[-1])],
        "seen_until": str(val.clock[val.ends[-1] + val.horizon]),
    }
    write_checksummed_json(run / BARS_FILE, record)


def read_bars_record(run: Path) -> dict:
    """Read the record of :func:`write_bars_record`; an altered file is refused."""
    from crossattn.training.checkpoint import read_checksummed_json

    path = run / BARS_FILE
    if not path.is_file():
        raise _unfinished(run, BARS_FILE)
    record = read_checksummed_json(path)
    if "seen_until" not in record:
        raise DamagedFileError(f"{path} is another file; train the run again")
    return record


def forecast_table(
    forecast: np.ndarray, times: pd.DatetimeIndex, symbols: Sequence[str]
) -> pd.DataFrame:
    """Return forecasts by close time, one column per symbol; of class scores, the likeliest."""
    import pandas as pd

    from crossattn.data.files import iso_times

    if forecast.ndim == 3:
        forecast = forecast.argmax(axis=-1) - 1
    index = pd.Index(iso_times(times), name="close_time")
    return pd.DataFrame(forecast, index=index, columns=list(symbols))


def out_of_sample(data: CrossAttentionData, record: dict) -> CrossAttentionData:
    """Return the windows whose last bar is later than anything that training used."""
    first = int(data.timestamps.searchsorted(record["seen_until"], side="right"))
    if first == len(data):
        raise InvalidInputError(
            f"data ends at {data.timestamps[-1]}, but the run was trained on bars up to "
            f"{record['seen_until']}: add later bars"
        )
    return data[first:]
