"""Atomic writes: whole, or not there at all."""

import os
import stat

import pytest

from t2v_mini.files import atomic_path


def test_a_finished_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old", "the old file must stay until the new one is whole"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_folder_as_it_was(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_usual_rights(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    (tmp_path / "b.txt").write_text("plain")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt")]
    assert modes[0] == modes[1]


def test_a_missing_folder_is_refused_with_its_path(tmp_path):
    path = tmp_path / "nowhere" / "a.txt"
    with pytest.raises(ValueError, match="nowhere"), atomic_path(path):
        pytest.fail("the body must not run")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(ValueError, match="folder that can be written to"),
        atomic_path(tmp_path / "file" / "a"),
    ):
        pytest.fail("the body must not run")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="must be a file"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == ["a"]
