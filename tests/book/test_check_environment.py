"""The environment check runs where packages are missing, and names the remedy for each."""

import textwrap

import check_environment as environment
from standin.commands import python


def test_it_passes_here(capsys):
    assert environment.main() == 0
    assert "everything that the chapters need is here" in capsys.readouterr().out


def test_it_runs_without_any_package_and_names_the_remedy():
    script = textwrap.dedent("""
        import importlib.util, runpy, sys
        class Nothing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {"numpy", "pandas", "torch", "jupyter_client"}:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Nothing())
        found = importlib.util.find_spec
        def find_spec(name, package=None):
            try:
                return found(name, package)
            except ModuleNotFoundError:
                return None
        importlib.util.find_spec = find_spec
        runpy.run_path("tools/check_environment.py", run_name="__main__")
    """)
    done = python(script)
    assert done.returncode == 2, done.stderr
    assert "numpy is not installed  ->  pip install 'numpy>=2'" in done.stdout
    assert "Traceback" not in done.stderr


def test_old_versions_are_named(monkeypatch):
    monkeypatch.setattr(environment.metadata, "version", lambda name: "1.26.4")
    finding = environment.check_package("numpy", "2")
    assert finding.state == "missing" and "1.26.4 is older than 2" in finding.what
