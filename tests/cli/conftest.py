"""A small simulated market and a finished run on it, shared by the tests of commands."""

import shutil

import pytest
from standin.commands import train_words

from crossattn.cli import main


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ["simulate", "--assets", "4", "--steps", "3000", "--seed", "3"]
    assert main([*words, "--out", str(folder / "bars")]) == 0
    assert main(train_words(folder)) == 0
    shutil.copytree(folder / "run", folder / "untouched")
    return folder
