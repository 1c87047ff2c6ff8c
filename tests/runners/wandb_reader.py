"""Reader of W&B's offline files, for which wandb 0.31 has no public one.

A file is a LevelDB log: blocks of 32 KiB holding chunks of (checksum 4 bytes, length 2, kind 1),
after a header of 7 bytes; each whole entry is a `Record` of `wandb.proto.wandb_internal_pb2`. It
is complete only after the writing process has ended.
"""

import json
import math
import struct
from pathlib import Path

BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def entries(path):
    """Yield the file's entries as bytes; a chunk cut off at the end is an error."""
    content = Path(path).read_bytes()
    assert content[:4] == b":W&B"
    position, partial = 7, b""
    while position + 7 <= len(content):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        chunk = content[position + 7 : position + 7 + length]
        assert len(chunk) == length and kind in (FULL, FIRST, MIDDLE, LAST)
        position += 7 + length
        partial = chunk if kind in (FULL, FIRST) else partial + chunk
        if kind in (FULL, LAST):
            yield partial


def read(path):
    """Read one offline file.

    Returns:
        dict with `run` (the run's protobuf), `config`, `summary`, `history` ({step: {key: value}},
        W&B's own keys left out), `steps` (the steps in the order they were logged) and
        `exit_code`.
    """
    from wandb.proto import wandb_internal_pb2

    found = {"run": None, "config": {}, "summary": {}, "history": {}, "steps": []}
    found["exit_code"] = None
    for entry in entries(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(entry)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"].update(_items(record.run.config.update))
        elif kind == "config":
            found["config"].update(_items(record.config.update))
        elif kind == "summary":
            found["summary"].update(_items(record.summary.update))
        elif kind == "history":
            values = _items(record.history.item)
            step = int(values.pop("_step"))
            found["steps"].append(step)
            found["history"].setdefault(step, {}).update(
                {key: value for key, value in values.items() if not key.startswith("_")}
            )
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found


def _items(items):
    return {"/".join(item.nested_key) or item.key: _number(item.value_json) for item in items}


def _number(text):
    value = json.loads(text)
    # JSON has no such numbers, so W&B writes them as strings.
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return special.get(value, value) if isinstance(value, str) else value
