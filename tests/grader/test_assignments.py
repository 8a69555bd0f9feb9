"""Typical wrong answers get the points they deserve, and the message that helps.

The cells run here in this process: what is tested are the assignments, not the sandbox.
"""

import shutil
import sys

import pytest

pytest.importorskip("nbgrader")

from .submissions import ASSIGNMENTS, answers

sys.path.insert(0, str(ASSIGNMENTS.parents[1] / "tools"))
import assignments as tool


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
    from .submissions import notebook

    source = {
        c.metadata.nbgrader.grade_id: c.source
        for c in notebook(assignment).cells
        if c.metadata.get("nbgrader", {}).get("grade")
    }
    submission = answers(assignment, **replacements)
    for cell in submission.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = source.get(name, cell.source)
    return submission


NO_MASK = """
def attention(query, key, value, mask=None):
    shares = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
    return shares @ value, shares
"""
NO_PROJECTION = """
def multi_head(x, w_query, w_key, w_value, w_output, n_heads, mask=None):
    n, d = x.shape
    q, k, v = (
        (x @ w).reshape(n, n_heads, d // n_heads).transpose(0, 1)
        for w in (w_query, w_key, w_value)
    )
    scores = q @ k.transpose(1, 2) / (d // n_heads) ** 0.5
    shares = scores.softmax(-1)
    return (shares @ v).transpose(0, 1).reshape(n, d), shares
"""
OLD_TOKENS = """
def lag_tokens(returns, n_lags):
    tokens = np.full((*returns.shape, n_lags), np.nan)
    for k in range(n_lags):
        tokens[k + 1 :, :, k] = returns[: len(returns) - k - 1]
    return tokens
"""
SUMS = """
def sector_means(x, sector_of):
    return torch.nn.functional.one_hot(sector_of).to(x).T @ x
"""
NO_PURGE = """
def split(n_rows, train_share, horizon):
    first = round(n_rows * train_share)
    return np.arange(first), np.arange(first, n_rows)


def clean(prices):
    return (prices - prices.mean()) / prices.std()
"""
BY_ASSET = """
def sharpe_loss(positions, returns, cost=0.0):
    orders = positions.diff(dim=0, prepend=torch.zeros_like(positions[:1])).abs()
    earned = positions * returns - cost * orders
    return -(earned.mean(0) / earned.std(0)).mean()
"""
BONFERRONI = """
def q_values(p):
    return np.minimum(np.asarray(p) * len(p), 1)
"""
NO_COST = """
def backtest(prices, targets, cost):
    cash, shares, equity = 1.0, np.zeros(prices.shape[1]), []
    for price, target in zip(prices, targets):
        if not np.isnan(target).any():
            value = cash + shares @ price
            shares = target * value / price
            cash = value - target.sum() * value
        equity.append(cash + shares @ price)
    return np.array(equity)
"""
FORGETS_START = """
def metrics(returns, periods):
    wealth = np.cumprod(1 + returns)
    ratio = returns.mean() / returns.std(ddof=1) * periods**0.5
    return {
        "sharpe_ratio": ratio, "max_drawdown": (wealth / np.maximum.accumulate(wealth) - 1).min()
    }
"""
A_BAR_LATE = """
def forecast_variance(returns, half_life):
    keep, total, weight = 0.5 ** (1 / half_life), returns[0] ** 2, 1.0
    variance = [total]
    for row in returns[:-1]:
        total, weight = keep * total + row**2, keep * weight + 1
        variance.append(total / weight)
    return np.array(variance)
"""
UPSIDE_DOWN = """
def qlike(variance, square):
    return variance / square - np.log(variance / square) - 1
"""
SCORED_BY_WHAT_IT_READ = """
HALF_LIVES = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
losses = {
    k: qlike(forecast_variance(returns, k)[200:], returns[200:] ** 2).mean() for k in HALF_LIVES
}
best = min(losses, key=losses.get)
"""
CHOLESKY = """
def shares(A, S, steps):
    root = np.linalg.cholesky(S)
    total = sum((np.linalg.matrix_power(A, h) @ root) ** 2 for h in range(steps))
    return total / total.sum(axis=1, keepdims=True)
"""
TURNED = """
def total(x, steps):
    z = np.column_stack([np.ones(len(x) - 1), x[:-1]])
    beta = np.linalg.lstsq(z, x[1:], rcond=None)[0]
    left = x[1:] - z @ beta
    table = shares(beta[1:], left.T @ left / len(left), steps)
    return 1 - np.trace(table) / len(table)
"""
RECEIVER = """
size = np.abs(returns) - np.abs(returns).mean(axis=0)
after = size[1:].T @ size[:-1]
hub = int((after.sum(axis=1) - after.sum(axis=0)).argmax())
"""
NO_VOLUME_IS_ORDINARY = """
def gated(returns, volume, u, b):
    gate = 2 / (1 + np.exp(-(u * np.nan_to_num(volume) + b)))
    return np.nan_to_num(returns * gate)
"""
SAME_BAR = """
def record(forecast, returns, half_life):
    keep, total, square, z = 0.5 ** (1 / half_life), 0.0, 1e-12, []
    for product in forecast * returns:
        total, square = keep * total + product, keep**2 * square + product**2
        z.append(total / np.sqrt(square))
    return np.clip(z, -4, 4)
"""
WITHOUT_ITSELF = """
def content(looks, moves, w):
    weight = np.exp(looks @ w)
    pulled = weight * moves
    others = weight.sum(1, keepdims=True) - weight
    return np.nan_to_num((pulled.sum(1, keepdims=True) - pulled) / others)
"""
MEAN_OF_GRADES = """
def ensemble_scores(members, came, size):
    grades = np.array([r_squared(member, came) for member in members])
    return grades[: len(grades) // size * size].reshape(-1, size).mean(axis=1)
"""
NORMAL_LAW = """
def interval(first, second):
    gap = np.asarray(first) - np.asarray(second)
    half = 1.959964 * gap.std(ddof=1) / len(gap) ** 0.5
    return gap.mean(), gap.mean() - half, gap.mean() + half
"""
WEAKEST = """
SIMPLE = ("returns", "with volume", "high volume")
rival = "returns"
"""
SMOOTHED = """
def filtered(likelihood, transition, start):
    alpha = [start * likelihood[0]]
    for row in likelihood[1:]:
        alpha.append((alpha[-1] @ transition) * row)
    beta = [np.ones(len(start))]
    for row in likelihood[:0:-1]:
        beta.append(transition @ (row * beta[-1]))
    both = np.array(alpha) * np.array(beta[::-1])
    return both / both.sum(axis=1, keepdims=True)
"""
NO_GAP = """
def folds(n, train, test, horizon, embargo, expanding):
    starts = range(train + horizon + embargo, n, test)
    first = [0 if expanding else start - train for start in starts]
    return [
        (np.arange(a, start), np.arange(start, min(start + test, n)))
        for a, start in zip(first, starts)
    ]
"""
SCALED_BY_ALL = """
def walk(x, y, plan, fit):
    forecast, z = np.full(y.shape, np.nan), (x - x.mean(0)) / x.std(0)
    for rows, later in plan:
        forecast[later] = fit(z[rows], y[rows])(z[later])
    return forecast
"""
A_ROW_EARLY = """
def first_alarm(edge, half_life, wait):
    import pandas as pd

    mean = pd.Series(edge).ewm(halflife=half_life).mean()
    rows = np.flatnonzero((mean < 0) & (np.arange(len(edge)) >= wait))
    return int(rows[0]) if len(rows) else None
"""

ACCUSES_ALL = "guilty = list(FEATURES)"

# assignment, answer, text, what it costs, a test, what that test says
WRONG = [
    ("ps1", "attention", NO_MASK, {"mask", "nobody"}, "mask", "the mask changes nothing"),
    (
        "ps2",
        "multi_head",
        NO_PROJECTION,
        {"join", "mask", "led-by"},
        "join",
        "projection is missing",
    ),
    ("ps3", "tokens", OLD_TOKENS, {"tokens", "lags", "leaders"}, "tokens", "one bar old"),
    ("ps4", "means", SUMS, {"means", "across", "sum"}, "means", "these are sums"),
    ("ps5", "split", NO_PURGE, {"split", "clean"}, "split", "purge by the horizon"),
    ("ps5", "guilty", ACCUSES_ALL, {f"leak-{k}" for k in range(1, 6)}, "leak-1", "innocent"),
    ("ps6", "loss", BY_ASSET, None, "gross", "the assets' own ratios"),
    ("ps7", "q_values", BONFERRONI, None, "q-values", "Bonferroni"),
    ("ps8", "backtest", NO_COST, {"costs", "own-market", "break-even"}, "costs", "no cost"),
    ("ps8", "metrics", FORGETS_START, {"metrics"}, "metrics", "loss on the first bar"),
    ("ps9", "variance", A_BAR_LATE, {"variance", "half-life"}, "variance", "stage 2"),
    ("ps9", "qlike", UPSIDE_DOWN, {"qlike", "half-life"}, "qlike", "upside down"),
    ("ps9", "half_life", SCORED_BY_WHAT_IT_READ, {"half-life"}, "half-life", "that it has read"),
    ("ps9", "shares", CHOLESKY, {"shares", "total"}, "shares", "depends on the order"),
    ("ps9", "total", TURNED, {"total"}, "total", "is A turned"),
    ("ps9", "hub", RECEIVER, {"hub"}, "hub", "another asset"),
    ("ps10", "gate", NO_VOLUME_IS_ORDINARY, {"gaps"}, "gaps", "not a bar of ordinary volume"),
    ("ps10", "record", SAME_BAR, {"record"}, "record", "one product"),
    ("ps10", "content", WITHOUT_ITSELF, {"content", "absent"}, "content", "a quarter of 2"),
    ("ps11", "ensembles", MEAN_OF_GRADES, None, "ensembles", "their mean is what came"),
    ("ps11", "interval", NORMAL_LAW, {"interval", "contest"}, "interval", "not the normal law"),
    ("ps11", "rival", WEAKEST, {"rival", "verdict"}, "rival", "the grades are"),
    ("ps12", "filter", SMOOTHED, {"filter", "unseen"}, "filter", "99.5 %"),
    ("ps12", "folds", NO_GAP, {"folds", "purge", "losses", "picked"}, "purge", "are left out"),
    ("ps12", "walk", SCALED_BY_ALL, {"walk"}, "walk", "of its own fold"),
    ("ps12", "alarm", A_ROW_EARLY, {"alarm", "known"}, "known", "known at row 21"),
]


@pytest.mark.parametrize(
    ("assignment", "answer", "text", "lost", "test", "message"),
    WRONG,
    ids=[f"{w[0]}-{w[4]}" for w in WRONG],
)
def test_typical_wrong_answers(assignment, answer, text, lost, test, message):
    scores, messages = grade(with_hidden_tests(assignment, **{answer: text}))
    assert message in messages[test]
    zero = {name for name, points in scores.items() if not points}
    if lost is None:
        assert test in zero and zero != set(scores)
    else:
        assert zero <= lost and test in zero, messages


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
