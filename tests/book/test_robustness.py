"""The robustness study: seeds shift below an unedited notebook, and its asserts record."""

import json

import nbformat
import pytest
import robustness

pytest.importorskip("sphinx")
import robustness_page

CELLS = [
    """
import numpy as np
import torch
from joblib import Parallel, delayed

from crossattn import simulate_market
from crossattn.runtime import seed_draws
""",
    """
draw = np.random.default_rng(0).normal()
torch.manual_seed(0)
torch_draw = float(torch.randn(()))
first = simulate_market(n_assets=3, n_steps=50, seed=0).returns[0, 0]
assert draw == 0.1257302210933933
assert torch_draw == 1.5409960746765137, "the message does not matter"
np.testing.assert_allclose(first, -0.001987455933746789)
""",
    """
assert np.random.default_rng(0).normal() == draw
seed_draws(0, torch.device("cpu"))
assert float(torch.randn(())) == torch_draw
generator = torch.Generator().manual_seed(0)
assert float(torch.randn((), generator=generator)) == torch_draw
assert np.random.default_rng(0).normal() != np.random.default_rng(1).normal()
""",
    """
def elsewhere():
    return np.random.default_rng(0).normal()
assert Parallel(2)(delayed(elsewhere)() for _ in range(2)) == [draw, draw]
""",
    "def never_called():\n    assert False",
    "1 / 0\nassert draw, 'not reached'",
    "assert True",
]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "01_claims.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return robustness.study([path], 2)["01_claims"]


def test_claims_on_one_seed_fail_and_parity_holds(result):
    failed = {entry["assert"]: entry for entry in result["failed"]}
    on_one_seed = {
        "draw == 0.1257302210933933",
        "torch_draw == 1.5409960746765137",
        "np.testing.assert_allclose(first, -0.001987455933746789)",
    }
    assert set(failed) == on_one_seed | {"raises ZeroDivisionError: division by zero"}
    assert {entry["cell"] for entry in failed.values()} == {1, 5}
    assert all(entry["shifts"] == [1, 2] for entry in failed.values())


def test_counts(result):
    """Nine asserts are reached; one is never called, another stands after an error."""
    assert result["asserts"] == 9
    assert result["held"] == [6, 6]


def test_an_assert_that_an_error_hides_at_one_shift_fails_there():
    claim = {"cell": 1, "assert": "x > 0", "times": 1, "failures": 0}
    hidden = claim | {"times": 0}
    runs = [{"claims": {"a": claim}, "raised": {}}, {"claims": {"a": hidden}, "raised": {"0": "E"}}]
    result = robustness.summary(json.loads(json.dumps(runs)))
    assert result["held"] == [1, 0]
    assert {"cell": 1, "assert": "x > 0", "shifts": [2]} in result["failed"]


def test_an_unknown_chapter_is_refused_by_name(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["robustness.py", "99"])
    with pytest.raises(SystemExit):
        robustness.main()
    assert "no chapter '99'" in capsys.readouterr().err


def test_the_page_counts_claims_and_marks_rows_that_are_old(tmp_path):
    chapter = tmp_path / "book" / "part" / "01_claims.ipynb"
    chapter.parent.mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text("root: index\nchapters: [{file: book/part/01_claims}]\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert True")])
    nbformat.write(notebook, chapter)
    failed = [
        {"cell": 0, "assert": "once", "shifts": [4]},
        {"cell": 0, "assert": "twice", "shifts": [4, 5]},
        {"cell": 0, "assert": "raises KeyError: 1", "shifts": [4, 5]},
    ]
    row = {"asserts": 5, "held": [5, 5, 5, 3, 4, 5, 5, 5, 5, 5], "failed": failed}
    held = tmp_path / "book" / "robustness.json"
    for digest, mark in ((robustness.code_digest(chapter), ""), ("other", " †")):
        robustness.write_json(held, {"01_claims": {"code": digest, **row}})
        page = robustness_page.markdown(tmp_path)
        assert f"| {{doc}}`/book/part/01_claims`{mark} | 5 | 3 | 4 | 60.0% |" in page
        assert "| **all** | 5 | 3 | 4 | |" in page
        assert ("† The chapter's code has changed since." in page) == bool(mark)
        assert sum("twice` fails at 2 of 10" in line for line in page) == 1
