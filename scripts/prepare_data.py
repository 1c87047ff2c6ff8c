"""Bring a data set into the prepared layout, from its official source or from files you have.

    python -m scripts.prepare_data NAME [--from PATH] [--data-dir DIR]

Verified against the committed checksums, or listed where the project knows none; goes on where an
earlier attempt was cut. Exit status 2 with one line when the set cannot be had.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tasks.data.store import DataError, fetch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.prepare_data",
        description="Bring a data set, verified, into the layout that the tasks read.",
    )
    parser.add_argument("name", metavar="NAME", help="the data set, for example ptb")
    parser.add_argument(
        "--from",
        dest="originals",
        metavar="PATH",
        help="the original file or archive, or the folder that holds them; without it they are "
        "fetched from the official source",
    )
    parser.add_argument(
        "--data-dir",
        default=os.environ.get("KAPPA_DATA") or "data",
        metavar="DIR",
        help="folder of the data sets (default: KAPPA_DATA, or data)",
    )
    options = parser.parse_args(arguments)
    try:
        folder = fetch(options.name, options.data_dir, originals=options.originals)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{options.name} stopped; the same command goes on from there", file=sys.stderr)
        return 130
    print(f"{options.name} is complete in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
