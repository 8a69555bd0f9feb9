"""Mutation checks: break the package on purpose, one way at a time; its tests must notice.

A test that cannot fail proves nothing. Each entry replaces one text in a copy of the package
and runs the tests that are there to notice. Usage: ``python tools/mutation_checks.py [NAME ...]``.
"""

import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS_FAILED = 1  # pytest's exit code; 2 to 5 mean that the tests were not run
LIBRARIES = ["pytest", "hypothesis", "torch", "pandas", "scipy.stats", "sklearn.linear_model"]


class Mutation(NamedTuple):
    """One deliberate defect: where, what becomes what, and which tests must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(
        "scores lose their 1/sqrt(d)",
        "crossattn/attention/functional.py",
        "scores = query @ key.mT / math.sqrt(query.shape[-1])",
        "scores = query @ key.mT",
        "tests/attention/test_functional.py",
    ),
    Mutation(
        "the mask's meaning is turned round",
        "crossattn/attention/functional.py",
        "return scores.masked_fill(~mask, lowest)",
        "return scores.masked_fill(mask, lowest)",
        "tests/attention/test_functional.py",
    ),
    Mutation(
        "a fully masked row attends to every key",
        "crossattn/attention/functional.py",
        ".softmax(dim=-1).masked_fill(~mask, 0.0)",
        ".softmax(dim=-1)",
        "tests/attention/test_functional.py",
    ),
    Mutation(
        "a clock that is early counts as one that meets",
        "crossattn/data/_clock_faults.py",
        "off = near & (offset != 0)",
        "off = near & (offset > 0)",
        "tests/data/test_doctor.py -k clock",
    ),
    Mutation(
        "a feature sees the next bar",
        "crossattn/features/indicators.py",
        "(logs - mean.shift(1))",
        "(logs - mean.shift(-1))",
        "tests/features",
    ),
    Mutation(
        "the first rows of a tail, which lack their lags, are read",
        "crossattn/tokens/memory.py",
        "skipped = self.lags if self.before else 0",
        "skipped = 0",
        "tests/tokens/test_parts.py",
    ),
    Mutation(
        "a bar that has changed is ignored",
        "crossattn/tokens/history.py",
        "known & ~equal.all(1),",
        "known & equal.all(1) & ~known,",
        "tests/tokens/test_history.py -k refused",
    ),
    Mutation(
        "a table of bar opens passes as a panel",
        "crossattn/data/panel.py",
        'panel.index.name != "close_time"',
        "False",
        "tests/data/test_tables.py -k panel",
    ),
    Mutation(
        "a local clock passes as UTC",
        "crossattn/data/_times.py",
        "refuse(times != times.normalize(),",
        "refuse(times != times,",
        "tests/data/test_csv_refusals.py",
    ),
    Mutation(
        "a row that is cut short is padded",
        "crossattn/data/_tables.py",
        "if len(row) < width:",
        "if False:",
        "tests/data/test_csv_refusals.py",
    ),
    Mutation(
        "a return across a gap counts",
        "crossattn/features/wide_bars.py",
        "        change[self.across_gap] = np.nan\n",
        "",
        "tests/features/test_features.py",
    ),
    Mutation(
        "RSI with a plain rolling mean",
        "crossattn/features/indicators.py",
        ".ewm(alpha=alpha, adjust=False, ignore_na=True).mean().to_numpy()",
        ".rolling(round(1 / alpha)).mean().to_numpy()",
        "tests/features/test_indicators.py",
    ),
    Mutation(
        "a missing bar is filled with the last price",
        "crossattn/data/panel.py",
        """    if how != "outer":
        panel = _shared""",
        """    panel = panel.ffill()
    if how != "outer":
        panel = _shared""",
        "tests/data/test_panel.py",
    ),
    Mutation(
        "bars are dated by their open",
        "crossattn/data/frame.py",
        """return (frame.index + modal_spacing(frame.index, symbol)).rename("close_time")""",
        """return frame.index.rename("close_time")""",
        "tests/data/test_frame.py tests/data/test_panel.py",
    ),
    Mutation(
        "targets start one bar late",
        "crossattn/windows/spans.py",
        "returns[:-horizon] = closes[horizon:] / closes[:-horizon] - 1",
        "returns[: -horizon - 1] = closes[horizon + 1 :] / closes[1:-horizon] - 1",
        "tests/windows/test_data.py",
    ),
    Mutation(
        "a target over 24 hours ends after them",
        "crossattn/windows/spans.py",
        "last = last - (clock[last] > clock + duration)",
        "last = last + (clock[last] > clock + duration)",
        "tests/windows/test_spans.py -k outage",
    ),
    Mutation(
        "a target over 24 hours is known at its last close",
        "crossattn/windows/spans.py",
        "return clock.searchsorted(clock + horizon).astype(np.int64)",
        'return clock.searchsorted(clock + horizon, side="right").astype(np.int64) - 1',
        "tests/windows/test_spans.py -k hourly_clock",
    ),
    Mutation(
        "the split is not purged",
        "crossattn/windows/dataset.py",
        "self[: self.count_known_before(first_val)]",
        "self[:first_val]",
        "tests/windows/test_data.py -k purged",
    ),
    Mutation(
        "walk-forward is not purged",
        "crossattn/windows/splits.py",
        "known = data.count_known_before(start) - embargo",
        "known = start - embargo",
        "tests/windows/test_splits.py",
    ),
    Mutation(
        "the scaler is fitted on everything",
        "crossattn/windows/dataset.py",
        "rows = self.panel[self._first_rows.start : self._end_rows.stop]",
        "rows = self.panel[self._first_rows.start :]",
        "tests/training/test_loop.py",
    ),
    Mutation(
        "orders act one bar late",
        "crossattn/portfolio/engine.py",
        'rows = rows + check_int("execution_lag", execution_lag, at_least=0)',
        'rows = rows + check_int("execution_lag", execution_lag, at_least=0) + 1',
        "tests/portfolio/test_engine.py",
    ),
    Mutation(
        "rebalancing is free",
        "crossattn/portfolio/_account.py",
        "return cash - costs, costs, traded, count",
        "return cash, costs, traded, count",
        "tests/portfolio/test_engine.py tests/portfolio/test_accounting.py",
    ),
    Mutation(
        "drawdown forgets the first bar",
        "crossattn/portfolio/metrics.py",
        "wealth = np.concatenate([[1.0], np.cumprod(1 + values)])",
        "wealth = np.cumprod(1 + values)",
        "tests/portfolio/test_metrics.py",
    ),
    Mutation(
        "q-values are raw p-values",
        "crossattn/evidence/inference.py",
        "return stats.false_discovery_control(p, axis=None).reshape(p.shape)",
        "return p",
        "tests/evidence/test_inference.py",
    ),
    Mutation(
        "a symbol name is written as markup",
        "crossattn/report.py",
        "autoescape=True",
        "autoescape=False",
        "tests/cli/test_report_page.py",
    ),
    Mutation(
        "a damaged checkpoint is loaded",
        "crossattn/training/checkpoint.py",
        "if hashlib.sha256(data).hexdigest() != digest:",
        "if not data:",
        "tests/training/test_resume.py -k damaged_checkpoint",
    ),
    Mutation(
        "the smoothed state passes for the filtered one",
        "crossattn/evidence/_two_graphs.py",
        "expit(self._odds_before(second - first) + second - first)",
        "smoothed_odds(second - first, *self._chain(len(target)))[0]",
        "tests/evidence/test_regimes.py",
    ),
    Mutation(
        "the leakage audit forgives changes of a per cent",
        "crossattn/evidence/leakage.py",
        "TOLERANCE = 4e-6",
        "TOLERANCE = 1e-2",
        "tests/evidence/test_leakage.py -k rounding",
    ),
    Mutation(
        "the leakage audit measures a change against its own row",
        "crossattn/evidence/leakage.py",
        "np.fmax(np.abs(old), usual)",
        "np.abs(old)",
        "tests/evidence/test_leakage.py -k rounding",
    ),
    Mutation(
        "a lead is traded in bars that did not trade",
        "crossattn/evidence/tradability.py",
        "return known & ~still",
        "return known",
        "tests/evidence/test_tradability.py",
    ),
    Mutation(
        "late closes pass as leads",
        "crossattn/evidence/tradability.py",
        "if left < 3 < t_clock - left and bounced > 1.5:",
        "if False:",
        "tests/evidence/test_tradability.py",
    ),
    Mutation(
        "rows with fewer assets than quantiles count",
        "crossattn/evidence/cross_section.py",
        "group[count[:, 0] < n_quantiles] = np.nan",
        "pass",
        "tests/evidence/test_cross_section.py",
    ),
    Mutation(
        "an asset that waits is left out of the limits",
        "crossattn/portfolio/limits.py",
        "wanted = np.where(known, decided, held)",
        "wanted = np.where(known, decided, 0.0)",
        "tests/portfolio/test_limits.py",
    ),
    Mutation(
        "equal weights trade what has not begun",
        "crossattn/portfolio/strategy.py",
        "listed = known.cummax()",
        "listed = known | True",
        "tests/portfolio/test_strategy.py",
    ),
    Mutation(
        "a correlation divides a return by a volatility that knows it",
        "crossattn/baselines/covariance.py",
        "moves[1:] = returns[1:] / np.sqrt(variance[:-1])",
        "moves[1:] = returns[1:] / np.sqrt(variance[1:])",
        "tests/baselines/test_covariance.py",
    ),
    Mutation(
        "a range leaves the night out",
        "crossattn/features/registry.py",
        "np.sqrt(_overnight_gap(bars) ** 2 + _range",
        "np.sqrt(0 * _overnight_gap(bars) ** 2 + _range",
        "tests/windows/test_data.py -k realised",
    ),
    Mutation(
        "connectedness takes shocks as uncorrelated",
        "crossattn/evidence/decomposition.py",
        "(a @ covariance) ** 2",
        "(a @ np.diag(np.diag(covariance))) ** 2",
        "tests/evidence/test_decomposition.py",
    ),
    Mutation(
        "a value at risk reads returns before they are known",
        "crossattn/portfolio/tail_risk.py",
        "width[horizon:] = (total / count)[:-horizon]",
        "width[:] = total / count",
        "tests/portfolio/test_tail_risk.py",
    ),
    Mutation(
        "a network forecasts in single precision",
        "crossattn/training/prediction.py",
        "else torch.float64",
        "else torch.float32",
        "tests/training/test_prediction.py",
    ),
    Mutation(
        "live orders forget what waiting assets hold",
        "crossattn/portfolio/orders.py",
        "shares * marks / equity)[0]",
        "0 * shares)[0]",
        "tests/portfolio/test_orders.py",
    ),
]


def run_tests(mutation: Mutation, folder: str) -> tuple[int, str]:
    """Run a mutation's tests on the copy in a folder; return pytest's exit code and its output.

    For a process of its own that has not imported the package yet.
    """
    os.chdir(folder)
    sys.path.insert(0, folder)
    os.environ |= {"PYTHONPATH": folder, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with Path("output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        options = "-x -q --no-header -p no:cacheprovider -p pytest_timeout"
        code = pytest.main(shlex.split(f"{options} {mutation.tests}"))
        sys.stdout.flush()
    origin = Path(sys.modules["crossattn"].__file__).parent.parent
    assert origin == Path(folder).resolve(), f"the tests ran on {origin}"
    return int(code), Path("output").read_text()


def check(mutation: Mutation, pool: ProcessPoolExecutor) -> str:
    """Apply one mutation to a copy and return what went wrong; empty where the tests noticed."""
    source = (ROOT / mutation.file).read_text(encoding="utf-8")
    if source.count(mutation.old) != 1:
        return f"its text occurs {source.count(mutation.old)} times in {mutation.file}"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("crossattn", "tests"):
            shutil.copytree(ROOT / part, copy / part)  # compiled code is bound to its source's time
        shutil.copy(ROOT / "pyproject.toml", copy)
        broken = source.replace(mutation.old, mutation.new)
        (copy / mutation.file).write_text(broken, encoding="utf-8")
        code, output = pool.submit(run_tests, mutation, folder).result()
    if code == 0:
        return "its tests stayed green"
    if code != TESTS_FAILED:
        return f"its tests did not run: {output.strip()[-300:]}"
    return ""


def main(names: list[str]) -> int:
    """Check the named mutations (all by default), side by side."""
    if unknown := set(names) - {b.name for b in MUTATIONS}:
        print(f"error: no mutation {sorted(unknown)}", file=sys.stderr)
        return 2
    chosen = [b for b in MUTATIONS if not names or b.name in names]
    workers = max(1, min(4, os.cpu_count() or 1))
    # each process is forked from one that has imported the libraries, never the package
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with (
        ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool,
        ThreadPoolExecutor(workers) as threads,
    ):
        failed = 0
        problems = threads.map(check, chosen, repeat(pool))
        for mutation, problem in zip(chosen, problems, strict=True):
            print(f"  {'NOT NOTICED' if problem else 'noticed':13}{mutation.name}", flush=True)
            if problem:
                failed += 1
                print(f"    {problem}")
    print(f"{len(chosen) - failed} of {len(chosen)} deliberate mutations were noticed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
