"""Typical wrong answers get the points they deserve, and the message that helps.

The cells run here in this process: what is tested are the assignments, not the sandbox.
"""

import inspect
import shutil

import pytest

pytest.importorskip("nbgrader")

import assignments as tool

from . import wrong
from .submissions import ASSIGNMENTS, answers, marked, notebook


def grade(notebook) -> tuple[dict[str, float], dict[str, str]]:
    """Points and messages by test, of a notebook whose hidden tests are its source's."""
    space, scores, messages = {"__name__": "notebook"}, {}, {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        about, failure = cell.metadata.get("nbgrader", {}), ""
        try:
            exec(compile(cell.source, "cell", "exec"), space)
        except Exception as error:
            failure = str(error) or type(error).__name__
        if about.get("grade"):
            name = about["grade_id"].removeprefix("test-")
            scores[name] = 0.0 if failure else float(about["points"])
            messages[name] = failure
    return scores, messages


def with_hidden_tests(assignment: str, **replacements: str):
    tests = marked(notebook(assignment), "grade")
    submission = answers(assignment, **replacements)
    for name, cell in marked(submission, "grade").items():
        cell.source = tests[name].source
    return submission


SCORED_BY_WHAT_IT_READ = """
HALF_LIVES = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
losses = {
    k: qlike(forecast_variance(returns, k)[200:], returns[200:] ** 2).mean() for k in HALF_LIVES
}
best = min(losses, key=losses.get)
"""
RECEIVER = """
size = np.abs(returns) - np.abs(returns).mean(axis=0)
after = size[1:].T @ size[:-1]
hub = int((after.sum(axis=1) - after.sum(axis=0)).argmax())
"""
WEAKEST = """
SIMPLE = ("returns", "with volume", "high volume")
rival = "returns"
"""
ACCUSES_ALL = "guilty = list(FEATURES)"

# assignment, name of the answer, what is given, the test that it fails and others that it may fail
# (...: some, not all), what the first of them says
WRONG = [
    ("ps1", "attention", wrong.attention, "mask nobody", "the mask changes nothing"),
    ("ps2", "multi_head", wrong.multi_head, "join mask led-by", "projection is missing"),
    ("ps3", "tokens", wrong.lag_tokens, "tokens lags leaders", "one bar old"),
    ("ps4", "means", wrong.sector_means, "means across sum", "these are sums"),
    ("ps5", "split", (wrong.split, wrong.clean), "split clean", "purge by the horizon"),
    ("ps5", "guilty", ACCUSES_ALL, "leak-1 leak-2 leak-3 leak-4 leak-5", "innocent"),
    ("ps6", "loss", wrong.sharpe_loss, "gross ...", "the assets' own ratios"),
    ("ps7", "q_values", wrong.q_values, "q-values ...", "Bonferroni"),
    ("ps8", "backtest", wrong.backtest, "costs own-market break-even", "no cost"),
    ("ps8", "metrics", wrong.metrics, "metrics", "loss on the first bar"),
    ("ps9", "variance", wrong.forecast_variance, "variance half-life", "stage 2"),
    ("ps9", "qlike", wrong.qlike, "qlike half-life", "upside down"),
    ("ps9", "half_life", SCORED_BY_WHAT_IT_READ, "half-life", "that it has read"),
    ("ps9", "shares", wrong.shares, "shares total", "depends on the order"),
    ("ps9", "total", wrong.total, "total", "is A turned"),
    ("ps9", "hub", RECEIVER, "hub", "another asset"),
    ("ps10", "gate", wrong.gated, "gaps", "not a bar of ordinary volume"),
    ("ps10", "record", wrong.record, "record", "one product"),
    ("ps10", "content", wrong.content, "content absent", "a quarter of 2"),
    ("ps11", "ensembles", wrong.ensemble_scores, "ensembles ...", "their mean is what came"),
    ("ps11", "interval", wrong.interval, "interval contest", "not the normal law"),
    ("ps11", "rival", WEAKEST, "rival verdict", "the grades are"),
    ("ps12", "filter", wrong.filtered, "filter unseen", "99.5 %"),
    ("ps12", "folds", wrong.folds, "purge folds losses picked", "are left out"),
    ("ps12", "walk", wrong.walk, "walk", "of its own fold"),
    ("ps12", "alarm", wrong.first_alarm, "known alarm", "known at row 21"),
]


def source_of(answer) -> str:
    """Return the text of an answer: one, or that of a function or several."""
    if isinstance(answer, str):
        return answer
    functions = answer if isinstance(answer, tuple) else (answer,)
    return "\n\n".join(map(inspect.getsource, functions))


@pytest.mark.parametrize(
    ("assignment", "answer", "given", "lost", "message"),
    WRONG,
    ids=[f"{w[0]}-{w[3].split()[0]}" for w in WRONG],
)
def test_typical_wrong_answers(assignment, answer, given, lost, message):
    scores, messages = grade(with_hidden_tests(assignment, **{answer: source_of(given)}))
    test, *others = lost.split()
    assert message in messages[test]
    zero = {name for name, points in scores.items() if not points}
    assert test in zero
    if others == ["..."]:
        assert zero != set(scores)
    else:
        assert zero <= {test, *others}, messages


@pytest.mark.parametrize("assignment", ["ps1", "ps5", "ps7", "ps9", "ps10", "ps11", "ps12"])
def test_the_solutions_are_right_for_any_student(assignment, monkeypatch):
    for student in ("ada", "grace"):
        monkeypatch.setenv("CROSSATTN_STUDENT", student)
        scores, messages = grade(with_hidden_tests(assignment))
        assert all(scores.values()), messages


def test_releases_are_what_the_sources_generate(capsys):
    assert tool.main(["--check"]) == 0, capsys.readouterr().out


def test_a_source_that_cannot_be_released_is_named(tmp_path, monkeypatch, capsys):
    shutil.copytree(ASSIGNMENTS / "source" / "ps1", tmp_path / "source" / "ps1")
    shutil.copy(ASSIGNMENTS / "nbgrader_config.py", tmp_path)
    path = tmp_path / "source" / "ps1" / "ps1.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("### END SOLUTION", "### THE END", 1), encoding="utf-8")
    monkeypatch.setattr(tool, "ASSIGNMENTS", tmp_path)
    assert tool.main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ps1 cannot be converted: No end solution statement found")
    assert len(said.splitlines()) == 1 and not (tmp_path / "release").exists()


def test_a_new_term_changes_nothing_else(tmp_path):
    shutil.copytree(ASSIGNMENTS / "source", tmp_path / "source")
    tool.set_term(tmp_path / "source", "autumn 2027")
    for before in sorted(ASSIGNMENTS.glob("source/*/*.ipynb")):
        after = tmp_path / before.relative_to(ASSIGNMENTS)
        old, new = before.read_text(encoding="utf-8"), after.read_text(encoding="utf-8")
        assert new == old.replace('TERM = \\"open\\"', 'TERM = \\"autumn 2027\\"') != old


def test_a_term_that_could_end_its_string_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"error: --term must be letters"):
        tool.set_term(tmp_path, 'a"; b')
