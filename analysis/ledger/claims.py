"""The claims of the papers as data: analysis/claims.yaml, read and checked.

A claim has an id, its place in the paper, what it says in our words, the published number if there
is one, and the rule that decides it. It is judged by at least one entry, a reading or a scale each,
or says why nothing here can test it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.ledger.forms import complete_rule
from analysis.ledger.quantity_forms import FormError

ANALYSIS = Path(__file__).resolve().parents[1]
PAPERS = {"G": "GGT", "K": "KrADagrad", "N": "NG+", "B": "Block Mean Approximation"}
# How many claims each paper has: their ids run from 1 to this.
NUM_CLAIMS = {"G": 61, "K": 59, "N": 46, "B": 37}

_KEYS = {"id", "place", "claim", "published", "run", "rule", "judged", "not_tested", "note"}
_REQUIRED = ("id", "place", "claim", "published", "run", "rule")
_ENTRY = frozenset({"reading", "scale", "note"})
# How the scale of runs is called that are the paper's own but for what the paper does not say.
PAPERS_MODELS = "paper's models"
_ID = re.compile(r"[GKNB]\d\d")
_RUNS = re.compile(r"[XPSGT](, ?[XPSGT])*|–|-")


class ClaimsError(ValueError):
    """Claims that are not written as they must be; names the claim and the key."""


@dataclass(frozen=True)
class Judged:
    """One way in which a claim is judged.

    Attributes:
        reading: of the paper's formulas, or the scale, in words; empty where there is but one.
        rule: name of the rule.
        spec: its keys, complete.
        note: what a reader must know of this entry.
        scale: of its runs, in words that begin with `PAPERS_MODELS`; empty: as the records say.
    """

    reading: str
    rule: str
    spec: Mapping[str, Any]
    note: str = ""
    scale: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim; `judged` is empty where `not_tested` says why."""

    id: str
    place: str
    claim: str
    published: Any
    run: str
    rule: str
    judged: tuple[Judged, ...] = ()
    not_tested: str = ""
    note: str = ""

    @property
    def paper(self) -> str:
        """The paper's short name."""
        return PAPERS[self.id[0]]


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-9 is a number, as it is in the configuration."""


_Loader.yaml_implicit_resolvers = {
    key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _read(text: str) -> Any:
    """The document; published numbers as they are written, 1e3 and not 1000.0."""
    loader = _Loader(text)
    try:
        document = loader.get_single_node()
        claims = document.value if isinstance(document, yaml.SequenceNode) else []
        for claim in (node for node in claims if isinstance(node, yaml.MappingNode)):
            for key, value in claim.value:
                if key.value == "published":
                    _as_written(value)
        return loader.construct_document(document) if document is not None else None
    finally:
        loader.dispose()


def _as_written(node: yaml.Node) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _as_written(item)
    elif node.tag == "tag:yaml.org,2002:float":
        node.tag = "tag:yaml.org,2002:str"


def load(path: Path | str | None = None) -> list[Claim]:
    """Read and check claims, in the order of the papers and of the claims' numbers.

    Args:
        path: a file; by default analysis/claims.yaml.
    Raises:
        ClaimsError: if there are none, an id is unknown or comes twice, a key is unknown or
            missing, or a claim has no rule; names the claim and the key.
    """
    path = ANALYSIS / "claims.yaml" if path is None else Path(path)
    if not path.is_file():
        raise ClaimsError(f"{path} holds no claims")
    try:
        entries = _read(path.read_text())
    except yaml.YAMLError as error:
        raise ClaimsError(f"{path.name} is no YAML: {error}") from None
    if not isinstance(entries, list):
        raise ClaimsError(f"{path.name} must be a list of claims")
    claims: dict[str, Claim] = {}
    for entry in entries:
        claim = read_claim(entry)
        if claim.id in claims:
            raise ClaimsError(f"claim {claim.id} comes twice")
        claims[claim.id] = claim
    order = list(PAPERS)
    return sorted(claims.values(), key=lambda c: (order.index(c.id[0]), c.id))


def read_claim(entry: Any) -> Claim:
    """Check one claim's mapping.

    Raises:
        ClaimsError: see `load`.
    """
    if not isinstance(entry, Mapping):
        raise ClaimsError(f"a claim must be a mapping, got {entry!r}")
    name = f"claim {entry.get('id')}"
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise ClaimsError(f"{name}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    missing = [key for key in _REQUIRED if key not in entry]
    if missing:
        raise ClaimsError(f"{name}: {missing[0]} is missing")
    for key in ("place", "claim", "run", "rule"):
        if not str(entry[key] or "").strip():
            raise ClaimsError(f"{name}: {key} is empty")
    letter, number = str(entry["id"])[:1], str(entry["id"])[1:]
    if not _ID.fullmatch(str(entry["id"])) or not 1 <= int(number) <= NUM_CLAIMS[letter]:
        raise ClaimsError(f"{name}: ids are G01-G61, K01-K59, N01-N46 and B01-B37")
    if not _RUNS.fullmatch(str(entry["run"])):
        raise ClaimsError(f"{name}: run must be letters of X, P, S, G, T, got {entry['run']!r}")
    if bool(entry.get("judged")) == bool(entry.get("not_tested")):
        raise ClaimsError(f"{name}: exactly one of judged and not_tested is needed")
    return Claim(
        id=str(entry["id"]),
        place=str(entry["place"]),
        claim=_line(entry["claim"]),
        published=entry["published"],
        run=str(entry["run"]),
        rule=_line(entry["rule"]),
        judged=tuple(_entries(entry.get("judged") or [], name)),
        not_tested=_line(entry.get("not_tested") or ""),
        note=_line(entry.get("note") or ""),
    )


def _entries(entries: Any, name: str) -> list[Judged]:
    if not isinstance(entries, list):
        raise ClaimsError(f"{name}: judged must be a list")
    found = []
    for number, entry in enumerate(entries, 1):
        where = f"{name}, judged {number}"
        try:
            rule, spec = complete_rule(entry, _ENTRY, where)
        except FormError as error:
            raise ClaimsError(str(error)) from None
        reading, note, scale = (_line(entry.get(key) or "") for key in ("reading", "note", "scale"))
        if scale and not scale.startswith(PAPERS_MODELS):
            raise ClaimsError(f"{where}: scale must begin with {PAPERS_MODELS!r}, got {scale!r}")
        found.append(Judged(reading, rule, spec, note, scale))
    return found


def _line(text: Any) -> str:
    return " ".join(str(text).split())
