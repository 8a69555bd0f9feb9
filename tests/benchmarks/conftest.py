"""Every benchmark runs on one thread; what it measures can be kept for the book's page of speed."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import joblib
import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--figures", type=Path, help="JSON file to keep what is measured in")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def keep(request):
    """Keep figures by name: ``keep("comparisons", name, {...})`` or ``keep("curves", ...)``."""

    def add(kind: str, name: str, figures: dict) -> None:
        print(f"\n{name}: {json.dumps(figures)}", end="")
        path = request.config.getoption("--figures")
        if path is None:
            return
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        held["machine"] = f"{joblib.cpu_count()} cores {platform.machine()}"
        held["versions"] = {p: version(p) for p in ("numpy", "pandas", "torch", "vectorbt", "bt")}
        rows = held.setdefault(kind, {})
        rows[name] = figures
        held[kind] = dict(sorted(rows.items()))
        path.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    return add


@pytest.fixture
def compared(keep):
    """Keep CPU-seconds of ours, of theirs and the ratio asked for; return theirs / ours."""

    def add(name: str, ours: float, theirs: float, *, beside: str, asked: float = 0.0) -> float:
        figures = {"beside": beside, "ours": ours, "theirs": theirs, "asked": asked}
        keep("comparisons", name, figures)
        return theirs / ours

    return add
