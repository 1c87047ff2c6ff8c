"""Lines of a text file."""

from __future__ import annotations

from pathlib import Path

from tasks.data.store import DataError


def decoded_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 file; only "\\n" and "\\r\\n" end one.

    Raises:
        DataError: if the file cannot be read, or a line is not UTF-8; names the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    lines = []
    # Decoded line by line, and not by str.splitlines: subtitles hold U+2028 and the like.
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            lines.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: must be UTF-8, got {error.reason}") from error
    return lines
