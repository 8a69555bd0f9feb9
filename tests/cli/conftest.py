"""A small simulated market and a finished run on it, shared by the tests of commands."""

import shutil

import pytest
from standin.commands import simulate, train_words

from crossattn.cli import main


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    simulate(folder / "bars", "--steps", "3000", "--seed", "3")
    assert main(train_words(folder)) == 0
    shutil.copytree(folder / "run", folder / "untouched")
    return folder


@pytest.fixture
def refused(capsys):
    """Give a check: a command ended with exit code 2 and one error that says all these words."""

    def check(code: int, *words: str) -> None:
        told = capsys.readouterr().err
        lines = [line for line in told.splitlines() if not line.startswith("warning:")]
        assert code == 2 and len(lines) == 1, told
        assert lines[0].startswith("error: ") and len(lines[0]) > 20 and lines[0].isprintable()
        assert all(word in told for word in words), told

    return check
