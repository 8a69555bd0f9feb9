"""What the commands on a run folder share: its bars, its model, and which windows it never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from crossattn.errors import DamagedFileError, InvalidInputError

if TYPE_CHECKING:
    from crossattn import CrossAttentionData, CrossAttentionMultiAsset
    from crossattn.bars.frame import Frames

BARS_FILE = "bars.json"
FIGURES = {
    "loss": "Training and validation loss by epoch; the weights of the best epoch are the run's.",
    "attention": "Mean attention on unseen bars: each row says where that asset's forecast looks.",
    "folds": "Walk-forward: how each refit did on the bars that followed it.",
    "leaders": "Effects of every pair on unseen bars; a circle marks a significant one.",
}


def open_run(directory: str | Path) -> CrossAttentionMultiAsset:
    """Read the model of a finished run."""
    from crossattn.training.checkpoint import CONFIG_FILE, load_models

    if not (Path(directory) / CONFIG_FILE).is_file():
        raise InvalidInputError(
            f"{directory} holds no finished run (there is no {CONFIG_FILE}); train one first"
        )
    models, _ = load_models(directory)
    return models[0]


def load_windows(
    model: CrossAttentionMultiAsset, frames: Frames, *, include_latest: bool = False
) -> CrossAttentionData:
    """Make the windows that the model was trained on, from any bars of its symbols."""
    from crossattn.windows.data import prepare_cross_attention_data

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


def write_record(run: Path, frames: Frames, train, val) -> None:
    """Note in the run folder which bars the model may have seen."""
    from crossattn.bars.digest import digest_of
    from crossattn.runtime import atomic_write

    record = {
        "digest": digest_of(frames),
        "train": [str(train.timestamps[0]), str(train.timestamps[-1])],
        "validation": [str(val.timestamps[0]), str(val.timestamps[-1])],
        "seen_until": str(val.clock[val.ends[-1] + val.horizon]),
    }
    with atomic_write(run / BARS_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(run: Path) -> dict:
    """Read what :func:`write_record` noted."""
    import pandas as pd

    path = run / BARS_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        pd.Timestamp(record["seen_until"])
        str(record["digest"])
    except FileNotFoundError:
        raise InvalidInputError(
            f"{run} holds no finished run (there is no {BARS_FILE}); train one first"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DamagedFileError(f"{path} is damaged; train the run again") from None
    return record


def unseen(data: CrossAttentionData, record: dict) -> CrossAttentionData:
    """Return the windows whose last bar is later than anything that training used."""
    first = int(data.timestamps.searchsorted(record["seen_until"], side="right"))
    if first == len(data):
        raise InvalidInputError(
            f"data ends at {data.timestamps[-1]}, but the run was trained on bars up to "
            f"{record['seen_until']}: add later bars"
        )
    return data[first:]
