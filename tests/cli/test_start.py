"""The command answers at once: what is heavy is imported by the command that needs it."""

import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "pandas", "matplotlib", "scipy", "sklearn", "numba")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    ["import crossattn", "from crossattn.cli import build_parser; build_parser()"],
    ids=["package", "parser"],
)
def test_start_imports_nothing_heavy(code):
    loaded = python(f"{code}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == ""


def test_help_answers_in_half_a_second():
    times = []
    for _ in range(3):
        started = time.perf_counter()
        python("from crossattn.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5


def test_every_public_name_can_be_imported():
    import crossattn

    for name in crossattn.__all__:
        assert getattr(crossattn, name) is not None
    assert set(crossattn.__all__) <= set(dir(crossattn))
    with pytest.raises(AttributeError, match="no_such_name"):
        crossattn.no_such_name
