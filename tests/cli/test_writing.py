"""Where results go: whole files at the path that was named, and messages that name it."""

import os
import threading

import pytest

from crossattn._io import atomic_write
from crossattn.runtime import select_device


def written(path, text="new"):
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    written(path)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["missing/a.csv", "folder", "file/a.csv"])
def test_a_failure_names_the_path_that_was_asked_for(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError) as caught:
        written(tmp_path / place)
    assert caught.value.filename == str(tmp_path / place) and caught.value.strerror
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.csv", os.devnull])
def test_a_full_disk_names_the_path_too(tmp_path, name):
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / name):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / name) and caught.value.errno == 28


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_device_is_written_to_and_never_replaced(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    written(pipe)
    reader.join(10)
    assert read == ["new"] and pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.csv", tmp_path / "latest.csv"
    link.symlink_to(target)
    written(link)
    assert link.is_symlink() and target.read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_gets_the_rights_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        written(tmp_path / "a.csv")
    finally:
        assert os.umask(before) == mask
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o666 & ~mask


def test_no_thread_sees_the_mask_of_rights_move(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("umask belongs to the process"))
    written(tmp_path / "a.csv")


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("a" * 251 + ".csv")
    written(path)
    assert path.read_text() == "new"
    written(tmp_path / ("\u65e5" * 80))  # 240 bytes


def test_a_device_without_numbers_is_refused(refuse):
    refuse(lambda: select_device("meta"), "device 'meta' cannot be used here")
