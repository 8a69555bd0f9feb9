"""Words of the commands that tests run on small folders of bars."""

from crossattn.cli import main


def train_words(folder, *more):
    bars, run = str(folder / "bars"), str(folder / "run")
    words = ["train", "--data", bars, "--run", run, "--lookback", "24", "--horizon", "1"]
    return [*words, "--epochs", "3", "--device", "cpu", *more]


def run(work, command, *words):
    return main([command, "--run", str(work / "run"), "--data", str(work / "bars"), *words])


def files_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
