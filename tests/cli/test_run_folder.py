"""A run folder: what it holds, resumed to the byte, damaged files named."""

import json
import os
import shutil

import pytest
import torch
from standin.commands import copy_run, files_of, run, simulate, train_words
from standin.damage import flipped
from standin.processes import kill_until_done

from crossattn.cli import main
from crossattn.data.files import read_bars


def test_the_run_folder_holds_what_is_promised(work):
    run_dir = work / "run"
    config = json.loads((run_dir / "config.json").read_text())
    assert config["symbols"] == sorted(read_bars(work / "bars"))
    assert config["lookback"] == 24 and config["horizon"] == 1
    assert config["features"][0] == "log_return" and "scaler" in config
    lines = (run_dir / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert b"/" not in (run_dir / "model.safetensors").read_bytes()[:200]
    for name in ("loss", "attention", "leaders"):
        assert (run_dir / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_is_refused_and_resumed_unchanged(work, refused):
    before = {p: p.read_bytes() for p in (work / "run").glob("*.*")}
    refused(main(train_words(work)))
    assert main(train_words(work, "--resume")) == 0
    assert {p: p.read_bytes() for p in (work / "run").glob("*.*")} == before


def test_resume_with_other_bars_is_refused(work, tmp_path, refused):
    simulate(tmp_path, "--steps", "1400")
    words = train_words(work, "--resume")
    words[words.index("--data") + 1] = str(tmp_path)
    refused(main(words))


@pytest.mark.parametrize("names", [("NA", "null"), ("0700", "1e5"), ("TRUE", "nan")])
def test_a_symbol_that_looks_like_another_value_stays_a_text(work, tmp_path, names):
    copy_run(work, tmp_path)
    edge = f"{names[0]},{names[1]},3,0.25,0.001,0.001,True"
    header = "leader,follower,lag,effect,p_value,q_value,significant"
    (tmp_path / "run" / "lead_lag.csv").write_text(f"{header}\n{edge}\n")
    out = tmp_path / "report.html"
    assert run(tmp_path, "report", "--out", out) == 0
    assert f"<tr><th>{names[0]}</th><td>{names[1]}</td><td>3</td><td>0.25</td>" in out.read_text()


def test_a_run_folder_may_have_any_name(work, tmp_path, monkeypatch):
    folder = tmp_path / "\udcff"  # a byte that is no UTF-8
    shutil.copytree(work / "run", folder)
    monkeypatch.chdir(folder)
    assert main(["report", "--run", ".", "--out", "page.html"]) == 0
    assert "<title>Run \\udcff</title>" in (folder / "page.html").read_text(encoding="utf-8")


DAMAGES = [
    ("bars.json", lambda data: data.replace(b"2022", b"2021", 1)),
    ("bars.json", lambda data: data[: len(data) // 2]),
    ("bars.json", lambda data: b'{"seen_until": "2022-01-01"}'),
    ("bars.json", lambda data: b"[" * 100_000),
    ("figures/attention.png", lambda data: data[:-20]),
    ("figures/leaders.png", flipped),
    ("figures/loss.png", lambda data: b""),
    ("lead_lag.csv", lambda data: data[:20]),
    ("attention.json", lambda data: b""),
    ("attention.json", lambda data: b"[]"),
    ("attention.json", lambda data: b'{"symbols": ["A"]}'),
    ("attention.json", lambda data: json.dumps(json.loads(data) | {"times": [0]}).encode()),
]


@pytest.mark.parametrize(("name", "change"), DAMAGES)
def test_a_damaged_file_of_a_run_is_refused(work, tmp_path, refused, name, change):
    path = copy_run(work, tmp_path) / "run" / name
    path.write_bytes(change(path.read_bytes()))
    refused(run(tmp_path, "report", "--out", tmp_path / "page.html"), f"{path} is damaged")
    assert not (tmp_path / "page.html").exists()


def test_a_killed_run_ends_byte_for_byte_as_one_that_was_not(work, tmp_path):
    torch.set_num_threads(1)  # a forked child cannot use its parent's threads
    (tmp_path / "bars").symlink_to(work / "bars")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".checkpoint.json.0123abcd.part").touch()  # of a kill in the first write
    words = train_words(tmp_path, "--resume")
    landed = kill_until_done(lambda: os._exit(main(words)), seed=1, kills=6, longest=1.0)
    assert landed >= 1
    assert files_of(tmp_path / "run") == files_of(work / "untouched")


@pytest.mark.parametrize("missing", ["config.json", "bars.json"])
def test_a_run_stopped_between_two_files_is_finished(work, tmp_path, missing, refused):
    (copy_run(work, tmp_path, "untouched") / "run" / missing).unlink()
    refused(run(tmp_path, "leadlag"), missing)
    assert main(train_words(tmp_path, "--resume")) == 0
    assert files_of(tmp_path / "run") == files_of(work / "untouched")


def test_a_damaged_run_is_refused(work, tmp_path, refused):
    weights = copy_run(work, tmp_path) / "run" / "model.safetensors"
    weights.write_bytes(flipped(weights.read_bytes()))
    refused(run(tmp_path, "predict", "--out", tmp_path / "x.csv"))
