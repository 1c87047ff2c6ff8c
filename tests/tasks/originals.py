"""Tiny files in the formats in which data sets are published."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tasks.data import mnist


def random_bytes(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def cifar_records(images: np.ndarray, labels: np.ndarray, coarse: int | None = None) -> bytes:
    """A binary batch of CIFAR-10, or of CIFAR-100 where a coarse label is given."""
    first = b"" if coarse is None else bytes([coarse])
    return b"".join(
        first + bytes([label]) + image.transpose(2, 0, 1).tobytes()
        for image, label in zip(images, labels.tolist(), strict=True)
    )


def tar_of(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members.items():
            package.writestr(name, content)
    return buffer.getvalue()


def write_mnist(originals: Path, splits: Mapping[str, tuple], compress: bool) -> None:
    """The four files of MNIST, from images and labels of each split."""
    originals.mkdir()
    for split, (images, labels) in splits.items():
        for kind, array in (("images", images), ("labels", labels)):
            stem = f"{mnist.STEMS[split]}-{kind}-idx{array.ndim}-ubyte"
            raw = idx_bytes(array)
            if compress:
                (originals / f"{stem}.gz").write_bytes(gzip.compress(raw, 1))
            else:
                (originals / stem).write_bytes(raw)


def write_faces(path: Path, **variables: np.ndarray) -> Path:
    """A MATLAB file."""
    from scipy.io import savemat

    savemat(path, variables, do_compression=True)
    return path
