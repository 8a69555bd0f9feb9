"""The command answers at once: what is heavy is imported by the command that needs it."""

import subprocess
import sys
import time

import pytest
from standin.commands import python

import crossattn
import crossattn.evidence

SLOW = ("sklearn", "scipy.stats", "scipy.signal", "scipy.optimize", "matplotlib", "numba")
FIT = """
import crossattn as ca
data = ca.prepare_cross_attention_data(ca.simulate_market(n_assets=2, n_steps=300).frames, 8, 1)
ca.CrossAttentionForecaster(max_lag=3, n_models=1, epochs=1, progress=False).fit(*data.split()[:2])
"""
HEAVY = ("torch", "pandas", "matplotlib", "scipy", "sklearn", "numba")


UNUSED = {
    "package": ("import crossattn", HEAVY),
    "evidence": ("import crossattn.evidence", HEAVY),
    "commands": ("from crossattn.cli import build_parser; build_parser('')", HEAVY),
    "options": ("from crossattn.cli import build_parser; build_parser()", ("torch", *SLOW)),
    "forecasts": ("import crossattn.forecaster, crossattn.tokens.storage", SLOW),
    "orders": ("import crossattn.portfolio.orders", SLOW),
    "a fit": (FIT, ("torch._dynamo", "matplotlib")),
}


@pytest.mark.parametrize(("code", "unused"), UNUSED.values(), ids=UNUSED)
def test_nothing_is_imported_that_is_not_used(code, unused):
    program = f"{code}\nimport sys; print(*[m for m in {unused} if m in sys.modules])"
    assert python(program, check=True).stdout.strip() == ""


def test_help_answers_in_half_a_second():
    fastest = 60.0
    for _ in range(10):  # a busy machine is given several chances
        if fastest >= 0.5:
            started = time.perf_counter()
            python("from crossattn.cli import main; main(['--help'])", check=True)
            fastest = min(fastest, time.perf_counter() - started)
    assert fastest < 0.5


def test_every_public_name_can_be_imported():
    for package in (crossattn, crossattn.evidence):
        for name in dir(package):
            assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        crossattn.no_such_name


def test_help_fits_on_a_page():
    code = "import crossattn, pydoc; print(pydoc.plain(pydoc.render_doc(crossattn)))"
    page = python(code, check=True).stdout
    assert page.count("\n") < 70
    for name in dir(crossattn):
        assert name in page


def test_a_type_checker_sees_every_public_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import crossattn as ca\n"
        'market = ca.simulate_market("static")\n'
        "reveal_type(market)\n"
        "ca.no_such_name\n" + "".join(f"ca.{name}\n" for name in dir(crossattn))
    )
    ours = "[mypy]\nfollow_imports = skip\n[mypy-crossattn.*]\nfollow_imports = normal\n"
    (tmp_path / "mypy.ini").write_text(ours)  # torch, pandas and others take five times as long
    mypy = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), str(script)]
    told = subprocess.run(mypy, capture_output=True, text=True, cwd=tmp_path).stdout
    assert 'Revealed type is "crossattn.simulate.market.SimulatedMarket"' in told
    assert told.count("error:") == 1
    assert 'Module has no attribute "no_such_name"' in told
