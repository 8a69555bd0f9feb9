"""Folds against exact dates, against skfolio, and against the definition of a leak."""

import numpy as np
import pandas as pd
import pytest

import crossattn as ca
from crossattn.baselines.naive import Zero
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.splits import combinatorial_folds, fold_table, walk_forward_folds


@pytest.fixture
def daily(make_frames):
    """Windows that end on 2024-01-06 .. 2024-02-07: one a day, dated by the day's close."""
    frames = make_frames(40, 3, freq="D")
    return ca.prepare_cross_attention_data(frames, lookback=4, horizon=3, features=["log_return"])


def days(data) -> str:
    return "..".join(data.timestamps[[0, -1]].strftime("%m-%d"))


def positions(blocks, data) -> list[int]:
    return [int(end - data.ends[0]) for block in blocks for end in block.ends]


SHORT = {"train_size": 10, "test_size": 6}
TESTS = "01-20..01-25 01-26..01-31 02-01..02-06 02-07..02-07"


DATES = [
    ({}, "01-06..01-15 01-12..01-21 01-18..01-27 01-24..02-02", TESTS),
    ({"expanding": True}, "01-06..01-15 01-06..01-21 01-06..01-27 01-06..02-02", TESTS),
    (
        {"embargo": 0, "step": 9},
        "01-06..01-15 01-15..01-24 01-24..02-02",
        "01-19..01-24 01-28..02-02 02-06..02-07",
    ),
]


@pytest.mark.parametrize(
    ("options", "trains", "tests"), DATES, ids=["rolling", "expanding", "step"]
)
def test_walk_forward_has_exact_dates(daily, options, trains, tests):
    folds = walk_forward_folds(daily, **SHORT, **{"embargo": 1} | options)
    assert [days(fold.train[0]) for fold in folds] == trains.split()
    assert [days(fold.test[0]) for fold in folds] == tests.split()


def test_combinatorial_folds_equal_skfolio(daily):
    selection = pytest.importorskip("skfolio.model_selection")
    sizes = {"purged_size": daily.horizon, "embargo_size": 2}
    reference = selection.CombinatorialPurgedCV(n_folds=4, n_test_folds=2, **sizes)
    folds = combinatorial_folds(daily, n_blocks=4, n_test_blocks=2, embargo=2)
    theirs = list(reference.split(np.zeros((len(daily), 1))))
    assert len(folds) == len(theirs) == 6
    for fold, (train, tests) in zip(folds, theirs, strict=True):
        assert positions(fold.train, daily) == train.tolist()
        assert positions(fold.test, daily) == sorted(np.concatenate(tests).tolist())
    # an embargo of zero leaves only the purge
    (fold, *_) = combinatorial_folds(daily, n_blocks=3, n_test_blocks=1, embargo=0)
    assert positions(fold.test, daily) == list(range(11))
    assert positions(fold.train, daily) == list(range(14, 33))


def test_fold_table_has_when_targets_are_known(daily):
    table = fold_table(walk_forward_folds(daily, **SHORT))
    assert table["part"].tolist()[:2] == ["train", "test"]
    first = table.iloc[0]
    assert first["start"] == pd.Timestamp("2024-01-06", tz="UTC")
    assert first["known"] == pd.Timestamp("2024-01-18", tz="UTC")
    assert first["windows"] == 10
    train, test = table[table["part"] == "train"], table[table["part"] == "test"]
    assert (train["known"].array < test["start"].array).all()


@pytest.mark.parametrize("name", ["train_size", "test_size", "step", "embargo"])
@pytest.mark.parametrize("wrong", [-1, 2.5, "3", True])
def test_walk_forward_refuses_wrong_sizes(daily, name, wrong, refuse_input):
    refuse_input(lambda: walk_forward_folds(daily, **SHORT | {name: wrong}), name)


def test_walk_forward_names_how_many_windows_it_needs(daily, refuse_input):
    words = "33 windows are too few .* 36 are needed"
    refuse_input(lambda: walk_forward_folds(daily, train_size=30, test_size=5, embargo=2), words)
    assert len(walk_forward_folds(daily, train_size=29, test_size=5)) == 1


IMPOSSIBLE = [
    ({"n_blocks": 1}, "n_blocks must be an integer of at least 2"),
    ({"n_blocks": 4, "n_test_blocks": 4}, "n_test_blocks must be below n_blocks=4"),
    ({"n_blocks": 4, "n_test_blocks": 0}, "n_test_blocks must be"),
    ({"n_blocks": 34}, "33 windows are too few for n_blocks=34"),
    ({"embargo": -1}, "embargo must be"),
    ({"n_blocks": 2, "n_test_blocks": 1, "embargo": 30}, "nothing is left to learn from"),
]


@pytest.mark.parametrize(("options", "message"), IMPOSSIBLE)
def test_combinatorial_folds_refuse_what_leaves_nothing(daily, options, message, refuse_input):
    refuse_input(lambda: combinatorial_folds(daily, **options), message)


LEARNERS = {
    "baseline": Zero().fit,
    "forecaster": ca.CrossAttentionForecaster(1, varying=False, content=False).fit,
    "network": lambda train, val: ca.train_cross_attention_model(
        ca.CrossAttentionMultiAsset(3, 1, features=["log_return"], max_lag=1),
        *(train, val),
        epochs=1,
        progress=False,
    ),
}


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
@pytest.mark.parametrize("timed", [True, False], ids=["times", "arrays"])
def test_validation_that_is_not_later_than_training_is_refused(make_frames, learn, timed, refuse):
    frames = make_frames(90, 3, freq="D")
    data = ca.prepare_cross_attention_data(frames, 4, 1, features=["log_return"])
    X, y, *_ = data
    data = data if timed else CrossAttentionData.from_arrays(X, y, features=data.features)
    words = r"val\S* must be later than train.* first window ends at .*, train\S* last one at "
    for train, val in ((data, data), (data[40:], data[:40]), (data[:50], data[49:])):
        refuse(lambda train=train, val=val: learn(train, val), words)
    learn(data[:50], data[50:])


def test_separate_arrays_have_no_order(rng):
    one, two = (
        CrossAttentionData.from_arrays(rng.normal(size=(40, 2, 3, 1)), y, features=["log_return"])
        for y in rng.normal(size=(2, 40, 2))
    )
    assert Zero().fit(one, two).fit(two, one).symbols_ == ("0", "1")
