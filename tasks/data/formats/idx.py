"""The IDX format of MNIST: big-endian header, then bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from tasks.data.archives import gunzipped
from tasks.data.store import DataError

_BYTES = 0x08  # the type code of unsigned bytes, the third byte of the header


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes, compressed by gzip or not.

    Args:
        shape: what the file must hold, for example (60000, 28, 28).
    Returns:
        The array, uint8.
    Raises:
        DataError: if the file is truncated, too long, or holds something else.
    """
    raw = gunzipped(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _BYTES:
        raise DataError(
            f"{path} must be an IDX file of unsigned bytes, which begins with 00 00 08, got "
            f"{raw[:3].hex(' ') or 'nothing'}"
        )
    first = 4 + 4 * raw[3]
    if len(raw) < first:
        raise DataError(f"{path} is truncated: its header must have {first} bytes, got {len(raw)}")
    found = struct.unpack(f">{raw[3]}I", raw[4:first])
    if found != shape:
        raise DataError(f"{path} must hold an array of shape {shape}, got {found}")
    expected = first + math.prod(shape)
    if len(raw) != expected:
        what = "is truncated" if len(raw) < expected else "has extra bytes"
        raise DataError(f"{path} {what}: it must have {expected} bytes, got {len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=first).reshape(shape)
