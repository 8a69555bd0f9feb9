"""Typical wrong answers get the points they deserve, and the message that helps.

The cells run here in this process: what is tested are the assignments, not the sandbox.
"""

import shutil

import pytest

pytest.importorskip("nbgrader")

import assignments as tool

from .submissions import ASSIGNMENTS, answers, marked, notebook, solution


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


SMOOTHED = """beta = [np.ones(len(start))]
    for row in likelihood[:0:-1]:
        beta.append(transition @ (row * beta[-1]))
    both = answer * beta[::-1]
    return both / both.sum(axis=1, keepdims=True)"""

LEAKS = "leak-1 leak-2 leak-3 leak-4 leak-5"
BY_ASSET = {".sum(dim=1)": "", "net.mean() / net.std()": "(net.mean(0) / net.std(0)).mean()"}
BY_MEMBER = {
    ".mean(axis=0)": "",
    "r_squared(mean, came)": "np.mean([r_squared(m, came) for m in mean])",
}
NORMAL = {"t.ppf(0.975, len(gap) - 1)": "norm.ppf(0.975)"}
ONE_LATE = {"(returns)": "(returns[[0, *range(len(returns) - 1)]])"}
ORDERED = {"@ S": "@ np.linalg.cholesky(S)", " / np.diag(S)": ""}

# assignment and answer; what is changed in the solution; the test that fails for it and others that
# may (...: some, not all), and what the first of them says
WRONG = [
    ("ps1 attention", {"mask is not None": "False"}, "mask nobody: the mask changes nothing"),
    ("ps2 multi-head", {" @ w_output": ""}, "join mask led-by: projection is missing"),
    ("ps3 tokens", {"[k:": "[k + 1 :", "- k]": "- k - 1]"}, "tokens lags leaders: one bar old"),
    ("ps4 means", {" / member.sum(dim=0)": ""}, "means across sum: these are sums"),
    ("ps5 split", {" - horizon": "", ".rolling(50)": ""}, "split clean: purge by the horizon"),
    ("ps5 guilty", {" if leaks(feature, prices)": ""}, f"{LEAKS}: innocent"),
    ("ps6 loss", BY_ASSET, "gross ...: the assets' own ratios"),
    ("ps7 q-values", {"return q": "return np.minimum(len(p) * p, 1)"}, "q-values ...: Bonferroni"),
    ("ps8 backtest", {"cost * np": "0 * np"}, "costs own-market break-even: no cost"),
    ("ps8 metrics", {"[1.0], ": ""}, "metrics: loss on the first bar"),
    ("ps9 variance", ONE_LATE, "variance half-life: stage 2"),
    ("ps9 qlike", {"square / variance": "variance / square"}, "qlike half-life: upside down"),
    ("ps9 half-life", {"199:-1": "200:"}, "half-life: that it has read"),
    ("ps9 shares", ORDERED, "shares total: depends on the order"),
    ("ps9 total", {"[1:].T": "[1:]"}, "total: is A turned"),
    ("ps9 hub", {"size[k:].T @ size[:-k]": "size[:-k].T @ size[k:]"}, "hub: another asset"),
    ("ps10 gate", {"* volume": "* np.nan_to_num(volume)"}, "gaps: not a bar of ordinary volume"),
    ("ps10 record", {"range(1, ": "range(", "[t - 1]": "[t]"}, "record: one product"),
    ("ps10 content", {", total,": ", total - weight,"}, "content absent: a quarter of 2"),
    ("ps11 ensembles", BY_MEMBER, "ensembles ...: their mean is what came"),
    ("ps11 interval", NORMAL, "interval contest: not the normal law"),
    ("ps11 rival", {"max(": "min("}, "rival verdict: the grades are"),
    ("ps12 filter", {"return answer": SMOOTHED}, "filter unseen: 99.5 %"),
    ("ps12 folds", {"start - gap": "start"}, "purge folds losses picked: are left out"),
    ("ps12 walk", {"[rows].mean": ".mean", "[rows].std": ".std"}, "walk: of its own fold"),
    ("ps12 alarm", {"(edge, 1)": "(edge)"}, "known alarm: known at row 21"),
]


@pytest.mark.parametrize(("about", "slips", "fails"), WRONG, ids=[wrong[0] for wrong in WRONG])
def test_typical_wrong_answers(about, slips, fails):
    assignment, answer = about.split()
    lost, message = fails.split(": ")
    given = {answer: solution(assignment, answer, slips)}
    scores, messages = grade(with_hidden_tests(assignment, **given))
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
