"""Write the small cross-reference inventories in ``book/_inv``, so that the build needs no network.

Each lists the names of another project that the book refers to, with their place in that project's
documentation. Usage: ``python tools/make_inventory.py`` after adding a name below.
"""

import zlib
from pathlib import Path

INVENTORIES = Path(__file__).resolve().parent.parent / "book" / "_inv"
GENERATED = "generated/{name}.html#{name}"
REFERENCE = "reference/" + GENERATED
API = "reference/api/{name}.html#{name}"

PROJECTS = {
    "python": {
        "library/stdtypes.html#{name}": ["class bool dict frozenset list range set str tuple"],
        "library/functions.html#{name}": ["class float int object slice type"],
        "library/constants.html#{name}": ["data None True False"],
        "library/pathlib.html#{name}": ["class pathlib.Path"],
        "library/os.html#{name}": ["class os.PathLike"],
        "library/random.html#{name}": ["module random"],
        "library/collections.abc.html#{name}": [
            "class collections.abc.Callable collections.abc.Iterable collections.abc.Iterator",
            "class collections.abc.Mapping collections.abc.Sequence",
        ],
        "library/exceptions.html#{name}": [
            "exception Exception ImportError KeyError RuntimeError TypeError UserWarning ValueError"
        ],
    },
    "numpy": {
        "reference/random/generator.html#{name}": ["class numpy.random.Generator"],
        REFERENCE: [
            "class numpy.ndarray",
            "function numpy.corrcoef numpy.linalg.lstsq numpy.cumsum",
            "function numpy.lib.stride_tricks.sliding_window_view",
        ],
    },
    "pandas": {
        API: [
            "class pandas.DataFrame pandas.DatetimeIndex pandas.Index pandas.MultiIndex",
            "class pandas.Series pandas.Timedelta pandas.Timestamp",
            "function pandas.concat pandas.merge_asof pandas.read_csv",
            "method pandas.DataFrame.ewm pandas.DataFrame.ffill pandas.DataFrame.pct_change",
            "method pandas.DataFrame.resample pandas.DataFrame.rolling pandas.DataFrame.shift",
        ],
    },
    "torch": {
        "tensors.html#{name}": ["class torch.Tensor"],
        "tensor_attributes.html#{name}": ["class torch.device torch.dtype"],
        "generated/torch.optim.lr_scheduler.OneCycleLR.html#{name}": [
            "class torch.optim.lr_scheduler.OneCycleLR"
        ],
        "utils.html#{name}": ["module torch.utils"],
        GENERATED: [
            "class torch.Generator torch.nn.Conv1d torch.nn.Dropout torch.nn.Embedding",
            "class torch.nn.GRU torch.nn.LayerNorm torch.nn.Linear torch.nn.LSTM torch.nn.Module",
            "class torch.nn.ModuleList torch.nn.MultiheadAttention torch.nn.Parameter",
            "class torch.nn.Transformer torch.nn.TransformerEncoder",
            "class torch.optim.Adam torch.optim.AdamW",
            "function torch.compile torch.einsum torch.softmax torch.no_grad torch.inference_mode",
            "function torch.nn.functional.scaled_dot_product_attention",
            "function torch.nn.functional.softmax torch.nn.functional.dropout",
            "method torch.Tensor.unfold torch.Tensor.backward",
        ],
    },
    "matplotlib": {
        "api/_as_gen/matplotlib.axes.Axes.html#{name}": ["class matplotlib.axes.Axes"],
        "api/figure_api.html#{name}": ["class matplotlib.figure.Figure"],
        "api/_as_gen/{name}.html#{name}": ["function matplotlib.pyplot.subplots"],
    },
    "sklearn": {
        "modules/generated/{name}.html#{name}": [
            "class sklearn.linear_model.Lasso sklearn.linear_model.LassoCV",
            "class sklearn.linear_model.LinearRegression sklearn.linear_model.Ridge",
            "class sklearn.model_selection.TimeSeriesSplit sklearn.preprocessing.StandardScaler",
        ],
    },
}


def inventory(project: str, places: dict[str, list[str]]) -> bytes:
    """Return one inventory in Sphinx's format, version 2."""
    rows = []
    for place, groups in places.items():
        for group in groups:
            kind, *names = group.split()
            rows += [f"{name} py:{kind} 1 {place.format(name=name)} -\n" for name in names]
    head = (
        "# Sphinx inventory version 2\n"
        f"# Project: {project}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    return head.encode() + zlib.compress("".join(sorted(rows)).encode(), 9)


if __name__ == "__main__":
    INVENTORIES.mkdir(exist_ok=True)
    for project, places in PROJECTS.items():
        (INVENTORIES / f"{project}.inv").write_bytes(inventory(project, places))
