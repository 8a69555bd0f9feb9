"""Weights and state on disk: safetensors and JSON, checksummed, written atomically.

A folder holds ``model.safetensors`` (tensors, no time, no path) and ``config.json`` (what they
mean, and their digest). Nothing is parsed before its digest fits, and no tensor made before
configuration and file agree on every name and shape.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from crossattn._io import write_file
from crossattn._validation import check_path
from crossattn.config import ModelConfig
from crossattn.errors import CrossAttentionError, DamagedFileError, InvalidInputError
from crossattn.model.network import CrossAttentionMultiAsset

FORMAT = 1
MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
MAX_JSON_BYTES = 16 * 2**20
MAX_TENSOR_BYTES = 8 * 2**30
_plain = methodcaller("tolist")  # a NumPy array or number as JSON can hold it


def write_checksummed_json(path: Path, content: Mapping) -> None:
    """Write ``content`` as JSON with the SHA-256 of its canonical form beside it.

    NumPy's arrays and numbers are written as lists and numbers.
    """
    checked = {**content, "digest": _digest_of(content)}
    write_file(path, json.dumps(checked, indent=1, default=_plain) + "\n")


def read_checksummed_json(path: Path) -> dict:
    """Read what :func:`write_checksummed_json` wrote; DamagedFileError where it is not that."""
    data = _read(path, MAX_JSON_BYTES)
    try:
        content = json.loads(data.decode("utf-8"))
        digest = content.pop("digest")
        fits = digest == _digest_of(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise DamagedFileError(f"{path} is damaged or was not written by crossattn")
    return content


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write tensors as safetensors, sorted by name, and return the file's SHA-256."""
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    data = save(plain)
    write_file(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path, digest: str) -> dict[str, torch.Tensor]:
    """Read tensors whose file has this SHA-256; DamagedFileError where it is missing or altered."""
    data = _read(path, MAX_TENSOR_BYTES)
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedFileError(f"{path} is damaged: its digest does not fit")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path} holds no tensors: {error}") from None


def under(prefix: str, tensors: Mapping) -> dict:
    """Return the tensors or arrays whose names begin so, named by the rest."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


@contextlib.contextmanager
def must_fit(otherwise: str) -> Iterator[None]:
    """Raise a DamagedFileError, with the reason, where what was read does not fit together."""
    try:
        yield
    except DamagedFileError:
        raise
    except (CrossAttentionError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedFileError(f"{otherwise}: {reason}") from None


def save_models(models: Sequence[CrossAttentionMultiAsset], directory: str | Path, **extra) -> None:
    """Write the members of one forecast, and JSON values ``extra`` about it, to a folder."""
    directory = check_path("directory", directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}.{name}": tensor
        for number, model in enumerate(models)
        for name, tensor in model.state_dict().items()
    }
    digest = write_tensors(directory / MODEL_FILE, tensors)
    first = models[0]
    write_checksummed_json(
        directory / CONFIG_FILE,
        {
            "format": FORMAT,
            "symbols": list(first.symbols) if first.symbols else None,
            "features": list(first.features),
            "lookback": first.lookback,
            "horizon": first.horizon,
            "models": [model.config.to_dict() for model in models],
            "scaler": {  # for a reader's eye: what is used is in the tensors
                name: np.round(buffer.double().cpu().numpy(), 12)
                for name, buffer in first.named_buffers()
            },
            "model_sha256": digest,
            **extra,
        },
    )


def load_models(directory: str | Path) -> tuple[list[CrossAttentionMultiAsset], dict]:
    """Read what :func:`save_models` wrote.

    Returns
    -------
    models : list of CrossAttentionMultiAsset
        In evaluation mode.
    content : dict
        All of ``config.json``.

    Raises
    ------
    DamagedFileError
        A file is missing, damaged, of another format, or its parts do not fit together.
    """
    directory = check_path("directory", directory)
    content = read_checksummed_json(directory / CONFIG_FILE)
    if (given := content.get("format")) != FORMAT:
        raise DamagedFileError(f"{directory / CONFIG_FILE} has format {given!r}, not {FORMAT}")
    with must_fit(f"{directory} holds no model that fits"):
        tensors = read_tensors(directory / MODEL_FILE, content["model_sha256"])
        models = [
            _assembled(ModelConfig.from_dict(values), tensors, f"{number}.", content)
            for number, values in enumerate(content["models"])
        ]
    if not models or len(tensors) != sum(len(model.state_dict()) for model in models):
        raise DamagedFileError(f"{directory}: {MODEL_FILE} and {CONFIG_FILE} do not fit together")
    return models, content


def _assembled(
    config: ModelConfig, tensors: Mapping[str, torch.Tensor], prefix: str, content: Mapping
) -> CrossAttentionMultiAsset:
    """Build a model around the tensors, once its shapes on paper are the file's."""
    with torch.device("meta"):
        model = CrossAttentionMultiAsset.from_config(config)
    expected = model.state_dict()
    state = {name: tensors[prefix + name] for name in expected}
    for name, tensor in state.items():
        if name == "_extra_state":  # the configuration again; its length depends on names
            continue
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise InvalidInputError(f"{name} has shape {tuple(tensor.shape)}")
    model = CrossAttentionMultiAsset.from_config(config)
    model.load_state_dict(state)
    for name in ("symbols", "features", "lookback", "horizon"):
        stored, known = content[name], getattr(model, name)
        if stored != (list(known) if isinstance(known, tuple) else known):
            raise InvalidInputError(f"{name} is {stored!r} here and {known!r} in the model")
    return model.eval()


def _digest_of(content: Mapping) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise DamagedFileError(f"{path} is larger than {limit} bytes")
        return path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from None
