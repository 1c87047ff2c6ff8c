"""Import torchvision, whether or not its compiled operators fit the installed torch."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

# What torchvision's modules speak of while they are imported.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision() -> ModuleType:
    """Import torchvision and return it.

    Its wheel is compiled against the CUDA build of torch. Beside a CPU build of the same version
    its extension does not load, and the import ends in "operator torchvision::nms does not exist",
    though models and transforms, which are plain Python, need no such operator. The missing
    schemas are therefore declared before the import; calling one of them is still an error. Where
    the extension loads nothing is declared, as a schema must not be declared twice.

    Raises:
        ImportError: if torchvision is not installed.
    """
    _declare_missing()
    return importlib.import_module("torchvision")


@functools.cache  # a declaration lasts as long as its library object
def _declare_missing() -> torch.library.Library | None:
    if _loads_extension():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    return library


def _loads_extension() -> bool:
    """Whether torchvision's operators are there once its extension has been asked for."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return False
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    loader = (importlib.machinery.ExtensionFileLoader, suffixes)
    finder = importlib.machinery.FileFinder(str(Path(package.origin).parent), loader)
    extension = finder.find_spec("_C")
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")
