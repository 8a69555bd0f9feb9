"""Write a fitted forecaster to ``model.safetensors`` and ``config.json``, and read it back.

Built in chapter: Training.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array

from crossattn.attention.content import ContentHeads
from crossattn.errors import DamagedFileError
from crossattn.tokens.channels import Tokenizer
from crossattn.tokens.content import HISTORY, ContentPart
from crossattn.tokens.drift import Calendar
from crossattn.tokens.history import UNIT, History
from crossattn.tokens.linear_map import LinearMap
from crossattn.tokens.mixture import Mixture
from crossattn.tokens.regime import Regime
from crossattn.tokens.tracking import Drift
from crossattn.tokens.varying import VaryingPart
from crossattn.tokens.volatility import VolatilityTokenizer
from crossattn.training.checkpoint import (
    CONFIG_FILE,
    MODEL_FILE,
    must_fit,
    read_checksummed_json,
    read_tensors,
    under,
    write_checksummed_json,
    write_tensors,
)

KIND = "forecaster, format 5"
# attributes of a fitted forecaster that are stored as they are, there with an underscore
FITTED = ("symbols", "sources", "channels", "features", "lookback", "horizon")
FITTED += ("volatility_estimator", "weights", "minimum_tail")
REGIME_ARRAYS = ("level", "pull", "stay", "hint")
HISTORY_ARRAYS = ("ticks", "cells", "exogenous", "spacing", "smallest", "earlier_days")
HISTORY_NUMBERS = ("seen", "start", "tail", "common", "own")
STATE_FILE = "state.safetensors"  # the newest bars that were read; absent: nothing to go on from


def save_forecaster(forecaster, directory: Path, **extra) -> None:
    """Write a fitted forecaster, and what else describes it, to a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = forecaster.get_params(deep=False)
    del settings["device"]  # that of the machine that reads
    mixture, tokenizer = forecaster._mixture, forecaster._tokenizer
    matrix = mixture.static.coefficient
    arrays = {
        "static.data": matrix.data,
        "static.indices": matrix.indices.astype(np.int64),
        "static.indptr": matrix.indptr.astype(np.int64),
        "static.offset": mixture.static.offset,
        "centre": mixture.centre,
        "spread": mixture.spread,
        "drift": forecaster.drift_,
        **vars(mixture.calendar),
        **{f"tokenizer.centre.{k}": v for k, v in tokenizer.centre.items()},
        **{f"tokenizer.spread.{k}": v for k, v in tokenizer.spread.items()},
    }
    parts = {"varying": mixture.varying and _varying_to_json(mixture.varying), "content": None}
    heads, state = {}, None
    if mixture.content is not None:
        part = mixture.content
        arrays |= {f"content.{k}": getattr(part, k) for k in ("scale", "centre", "spread")}
        heads = {f"content.heads.{k}": t for k, t in part.heads.state_dict().items()}
        parts["content"] = [*part.heads.source_scale.shape, len(part.centre), part.heads.n_lags]
    if forecaster.state_ is not None:
        state = write_tensors(
            directory / STATE_FILE, _to_tensors(_history_to_arrays(forecaster.state_))
        )
    write_checksummed_json(
        directory / CONFIG_FILE,
        {
            "format": KIND,
            "forecaster": settings,
            **{name: getattr(forecaster, f"{name}_") for name in FITTED},
            "bars_ahead": mixture.bars_ahead,
            "duration": None if forecaster.duration_ is None else str(forecaster.duration_),
            "scaler": {  # for a reader's eye: what is used is in the tensors
                side: {k: np.round(v, 12) for k, v in getattr(tokenizer, side).items()}
                for side in ("centre", "spread")
            },
            "history": forecaster.history_.to_dict("records"),
            "parts": parts,
            "first_row": str(forecaster._first_row),
            "fitted_until": str(forecaster.fitted_until_),
            "spacing_seconds": [
                pd.Timedelta(int(span), unit=UNIT).total_seconds() for span in forecaster._spacing
            ],
            "model_sha256": write_tensors(directory / MODEL_FILE, _to_tensors(arrays) | heads),
            "state_sha256": state,
            **extra,
        },
    )


def is_forecaster(directory: Path) -> bool:
    """Return whether a folder's ``config.json`` is that of a forecaster."""
    return read_checksummed_json(directory / CONFIG_FILE).get("format") == KIND


def load_forecaster(cls, directory: Path):
    """Read what :func:`save_forecaster` wrote."""
    content = read_checksummed_json(directory / CONFIG_FILE)
    if content.get("format") != KIND:
        raise DamagedFileError(f"{directory / CONFIG_FILE} holds no forecaster of this version")
    tensors = read_tensors(directory / MODEL_FILE, content.get("model_sha256", ""))
    state = content.get("state_sha256")
    arrays = {}
    if state:
        arrays = {k: t.numpy() for k, t in read_tensors(directory / STATE_FILE, state).items()}
    with must_fit(f"{directory} holds no forecaster that fits"):
        forecaster = _assembled(cls, content, tensors)
        forecaster.state_ = _history_from_arrays(forecaster, arrays) if arrays else None
    return forecaster


def _assembled(cls, content: dict, tensors: dict[str, torch.Tensor]):
    forecaster = cls(**content["forecaster"])
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    for name in FITTED:
        value = content[name]
        setattr(forecaster, f"{name}_", tuple(value) if isinstance(value, list) else value)
    duration = content["duration"]
    forecaster.duration_ = None if duration is None else pd.Timedelta(duration)
    forecaster.history_ = pd.DataFrame(content["history"], columns=HISTORY)
    forecaster.drift_ = arrays["drift"]
    forecaster._first_row = pd.Timestamp(content["first_row"])
    forecaster.fitted_until_ = pd.Timestamp(content["fitted_until"])
    span = pd.Timedelta(1, unit=UNIT).total_seconds()
    forecaster._spacing = (np.array(content["spacing_seconds"]) / span).round().astype(np.int64)
    scales = {side: under(f"tokenizer.{side}.", arrays) for side in ("centre", "spread")}
    tokenizer = VolatilityTokenizer if forecaster.target == "volatility" else Tokenizer
    forecaster._tokenizer = tokenizer(forecaster.max_lag, **scales)
    forecaster._mixture = _mixture_from(forecaster, content, tensors, arrays)
    return forecaster


def _mixture_from(forecaster, content: dict, tensors: dict, arrays: dict) -> Mixture:
    matrix = tuple(arrays[f"static.{k}"] for k in ("data", "indices", "indptr"))
    shape = (len(forecaster.symbols_), len(arrays["centre"]))
    parts = {"is_log": forecaster.target == "volatility"}
    if content["parts"]["varying"] is not None:
        parts["varying"] = _varying_from_json(content["parts"]["varying"])
    if content["parts"]["content"] is not None:
        heads = ContentHeads(*content["parts"]["content"]).double()
        heads.load_state_dict(under("content.heads.", tensors))
        scales = [arrays[f"content.{k}"] for k in ("scale", "centre", "spread")]
        parts["content"] = ContentPart(*scales, heads.eval(), [])
    return Mixture(
        LinearMap(csr_array(matrix, shape=shape), arrays["static.offset"]),
        forecaster.weights_,
        forecaster.drift_,
        Calendar(arrays["hours"], arrays["weekdays"]),
        arrays["centre"],
        arrays["spread"],
        (shape[0], len(forecaster.sources_), forecaster.max_lag + 1),
        forecaster.channels_,
        content["bars_ahead"],
        **parts,
    )


def _to_tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(np.array(v, order="C")) for k, v in arrays.items()}


def _history_to_arrays(history: History) -> dict[str, np.ndarray]:
    arrays = {k: getattr(history, k) for k in HISTORY_ARRAYS}
    numbers = np.array([int(getattr(history, k)) for k in HISTORY_NUMBERS])
    return {**arrays, "numbers": numbers, **{f"sum.{k}": v for k, v in history.sums.items()}}


def _history_from_arrays(forecaster, arrays: dict[str, np.ndarray]) -> History:
    numbers = dict(zip(HISTORY_NUMBERS, arrays["numbers"].tolist(), strict=True))
    return History(
        symbols=forecaster.symbols_,
        features=forecaster.features_,
        exogenous_names=forecaster.sources_[len(forecaster.symbols_) :],
        sums=under("sum.", arrays),
        **{k: arrays[k] for k in HISTORY_ARRAYS},
        **numbers,
    )


def _varying_to_json(part: VaryingPart) -> dict:
    names = ("n_lags", "scale", "state_mean", "state_spread", "edges", "patterns")
    return {
        **{name: getattr(part, name) for name in names},
        "regime": part.regime and vars(part.regime),
        "drifts": [drift and vars(drift) for drift in part.drifts],
        "groups": [
            [i, *group, beta]
            for i, groups in enumerate(part.groups)
            for group, beta in groups.items()
        ],
    }


def _varying_from_json(content: dict) -> VaryingPart:
    part = VaryingPart(content["n_lags"])
    for name in ("scale", "state_mean", "state_spread"):
        setattr(part, name, np.array(content[name], float))
    for name in ("edges", "patterns"):
        setattr(part, name, {k: np.array(v, float) for k, v in content[name].items()})
    if content["regime"] is not None:
        regime = dict(content["regime"])
        tokens = [tuple(token) for token in regime.pop("tokens")]
        arrays = {k: np.array(regime.pop(k), float) for k in REGIME_ARRAYS}
        part.regime = Regime(tokens, **arrays, **regime)
    part.drifts = [
        drift and Drift(**{**drift, "tokens": [tuple(token) for token in drift["tokens"]]})
        for drift in content["drifts"]
    ]
    part.groups = [{} for _ in part.scale]
    for i, j, l, context, beta in content["groups"]:
        group = (j, l, tuple(context) if isinstance(context, list) else context)
        part.groups[i][group] = np.array(beta, float)
    return part
