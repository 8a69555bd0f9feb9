"""A mistake is one line that begins ``error:``, exit code 2, and nothing written."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin.commands import exit_code
from standin.exports import MT4

from crossattn.cli import build_parser, main

BARS = "time,open,high,low,close,volume\n"
GOOD = "2024-01-01T00:00:00Z,1.0,2.0,0.5,1.5,10\n2024-01-01T01:00:00Z,1.5,2.0,1.0,1.5,10\n"


@pytest.fixture
def folders(tmp_path):
    texts = {
        "text": BARS + GOOD + "2024-01-01T02:00:00Z,1.5,high,1.0,1.5,10\n",
        "short": BARS + GOOD,
        "metatrader": MT4,
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "A.csv").write_text(text)
        (tmp_path / name / "B.csv").write_text(text if name == "metatrader" else BARS + GOOD)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "a_file").write_text("not a folder")
    return tmp_path


CASES = [
    "",
    "nonsense",
    "simulate",
    "simulate --out IN/a_file",
    "train --run OUT",
    "train --run IN/short --data IN/short",
    "demo --unknown 1",
    "demo --out IN/a_file/below",
    "predict --run IN/missing --data IN/short --out OUT",
    "leadlag --run IN/nothing --data IN/short --alpha 2",
    "leadlag --run IN/nothing --data IN/short --out OUT",
    "leadlag --run IN/nothing --data IN/short --out IN/short/edges.csv",
    "predict --run IN/nothing --data IN/metatrader --out OUT --time-zone UTC",
    "verify --run IN/nothing --data IN/metatrader --time-zone UTC",
    "verify --run IN/nothing --data IN/short",
    "backtest --run IN/nothing --data IN/short --out IN/short",
    "fetch --source nowhere --out OUT",
    "bench --models , --out OUT",
    "check --data IN/metatrader --time-zone UTC --exogenous IN/a_file",
]
# a beginning, and each of its ends that is refused
ENDS = {
    "demo --out OUT": (
        *("--sample no_such_sample", "--scenario no_such_scenario", "--seed minus", "--seed -1"),
        "--sample us_stocks --scenario static",
    ),
    "simulate --out OUT": ("--assets 0", "--assets many", "--steps 1.5", "--scenario sideways"),
    "train --run OUT --data": (
        *("IN/missing", "IN/a_file", "IN/nothing", "IN/text", "IN/short", "IN/metatrader"),
    ),
    "train --run OUT --data IN/metatrader --time-zone": ("", "Mars", "UTC --lookback 99"),
    "train --run OUT --data IN/short": (
        *("--lr -1", "--lr nan", "--epochs 0", "--output-type sideways"),
        *("--seed 99999999999999999999", "--batch-size 9223372036854775808"),
    ),
    "predict --run IN/nothing --data IN/short --out": (
        *("OUT", "IN/missing/x.csv", "IN/nothing", "IN/short/A.csv"),
    ),
    "backtest --run IN/nothing --data IN/short --out OUT": (
        *("", "--start yesterday", "--transaction-cost 1", "--initial-capital 0"),
        *("--start 0001-01-01T00:00:00+14:00", "--end 9999-12-31T23:59:59-14:00"),
    ),
    "report --run IN/nothing --out": ("OUT", "IN/nothing", "IN/a_file/x.html"),
}
CASES += [f"{begin} {end}" for begin, ends in ENDS.items() for end in ends]


@pytest.mark.parametrize("words", CASES)
def test_refusal_is_one_line(words, folders, refused):
    out = folders / "out"
    argv = words.replace("OUT", str(out)).replace("IN", str(folders)).split()
    before = sorted(folders.rglob("*"))
    refused(exit_code(argv))
    assert sorted(folders.rglob("*")) == before


VALUES = [
    "", "0", "-1", "nan", "1e400", "24h", "-3h", "\u0663", "9" * 25, "2024-13-01", "UTC", "Mars",
    "A,B", "a\nb", "\x1b[31m", "%s", "cuda:9", "volatility", "IN/short", "IN/text", "IN/nothing",
    "IN/missing", "IN/a_file", "OUT",
]  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_words_end_in_one_line(folders, capsys, data):
    parsers = build_parser()._subparsers._group_actions[0].choices
    reading = ["train", "predict", "leadlag", "backtest", "report", "verify", "check"]
    argv = [data.draw(st.sampled_from(reading))]
    for action in parsers[argv[0]]._actions[1:]:
        if action.required or data.draw(st.booleans()):
            argv.append(action.option_strings[0])
            argv += [] if action.nargs == 0 else [data.draw(st.sampled_from(VALUES))]
    argv = [w.replace("OUT", str(folders / "out")).replace("IN/", f"{folders}/") for w in argv]
    code = exit_code(argv)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warn")]
    assert (code, [line[:7] for line in lines]) in [(0, []), (2, ["error: "])], (argv, lines)


@pytest.mark.parametrize("command", ["backtest", "bench", "demo"])
def test_a_file_is_no_folder_for_results(command, folders, refused):
    words = ["--run", folders / "run", "--data", folders / "short"] * (command == "backtest")
    words = map(str, [*words, "--out", folders / "a_file"])
    refused(exit_code([command, *words]), "argument --out: must name a folder")


@pytest.mark.parametrize("option", ["--data", "--run"])
def test_an_unset_variable_of_the_shell_is_no_folder(option, folders, refused):
    words = {"--data": str(folders / "short"), "--run": str(folders / "out"), option: ""}
    refused(exit_code(["train", *(word for pair in words.items() for word in pair)]), option)


@pytest.fixture
def demo_raises(monkeypatch):
    """Give a way to run a command that raises an error."""

    def run(error):
        def raise_it(args):
            raise error

        monkeypatch.setattr("crossattn.cli.demo.run", raise_it)
        return main(["demo"])

    return run


NO_DEFECTS = [
    (MemoryError("Unable to allocate 1. TiB for an array"), 2, "error: not enough memory"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"),
        2,
        "error: not enough memory",
    ),
    (KeyboardInterrupt(), 130, "stopped: what was finished is kept"),
]


@pytest.mark.parametrize(("error", "code", "said"), NO_DEFECTS)
def test_lack_of_memory_and_ctrl_c_are_no_defects(demo_raises, error, code, said, capsys):
    assert demo_raises(error) == code
    assert capsys.readouterr().err.startswith(said)


def test_a_defect_is_shown_as_one(demo_raises):
    with pytest.raises(RuntimeError, match="a defect"):
        demo_raises(RuntimeError("a defect"))


def test_a_control_character_cannot_start_a_second_line(refused):
    refused(exit_code(["demo", "--seed", "1\nerror: forged\x1b[31m"]), "forged")


def test_a_market_is_not_written_among_bars_of_another(tmp_path, refused):
    words = ["simulate", "--out", str(tmp_path), "--steps", "300", "--assets"]
    assert main([*words, "3"]) == main([*words, "5"]) == main([*words, "5", "--seed", "2"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused(main([*words, "3"]), "--out", "A03.csv, A04.csv")
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
