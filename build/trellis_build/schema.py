"""What matrix.toml must look like. Every problem is one sentence that names the place, the wish and the fact."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

Check = Callable[[Any], bool]

_VERSION = re.compile(r"\d+(\.\d+)+(\.?post\d+)?")
_TWO_PARTS = re.compile(r"\d+\.\d+")
_ARCHITECTURE = re.compile(r"(sm|compute)_\d{2,3}[af]?")
_ROW_NAME = re.compile(r"cpu|cu(?P<digits>\d{3})(-[a-z0-9]+)?|cu(?P<major>\d{2})-latest")


def _text(pattern: re.Pattern[str] | None = None) -> Check:
    return lambda v: isinstance(v, str) and bool(v) and (pattern is None or pattern.fullmatch(v) is not None)


def _texts(pattern: re.Pattern[str] | None = None) -> Check:
    each = _text(pattern)
    return lambda v: isinstance(v, list) and bool(v) and all(each(i) for i in v)


def _integer(v: Any) -> bool:
    return isinstance(v, int) and not isinstance(v, bool)


def _table(v: Any) -> bool:
    return isinstance(v, dict)


def _tables(v: Any) -> bool:
    return isinstance(v, list) and all(isinstance(i, dict) for i in v)


# key -> (required, check, what is expected)
Fields = dict[str, tuple[bool, Check, str]]

_TOP: Fields = {
    "schema": (True, lambda v: v == 1 and _integer(v), "1"),
    "epoch": (True, lambda v: _integer(v) and v >= 315532800, "seconds since 1970, not before 1980 (zip's first year)"),
    "cuda-only": (True, _texts(), "a list of package name patterns"),
    "groups": (True, _table, "a table of requirement lists"),
    "architectures": (True, _table, "a table of architecture lists"),
    "toolchains": (True, _table, "a table of toolchains"),
    "row": (True, lambda v: _tables(v) and bool(v), "at least one [[row]]"),
    "extra-file": (False, _tables, "[[extra-file]] tables"),
}
_ROW: Fields = {
    "name": (True, _text(_ROW_NAME), "cpu, cu<major><minor>, cu<major><minor>-<word> or cu<major>-latest"),
    "why": (True, _text(), "a sentence"),
    "python": (True, _texts(_TWO_PARTS), 'a list such as ["3.10", "3.11"]'),
    "torch": (True, _text(_VERSION), "a version such as 2.11.0"),
    "cuda": (False, _text(_TWO_PARTS), "major.minor, such as 13.0"),
    "triton": (False, _text(_VERSION), "a version such as 3.6.0"),
    "toolchain": (False, _text(), "the name of a toolchain"),
    "flash-attn": (False, _text(_VERSION), "a version such as 2.8.3"),
    "groups": (True, _texts(), "a list of group names"),
    "automatic": (False, lambda v: isinstance(v, bool), "true or false"),
}
_TOOLCHAIN: Fields = {
    "kind": (True, lambda v: v in ("nvcc-packages", "home-or-clang"), "nvcc-packages or home-or-clang"),
    "cuda": (True, _text(re.compile(r"\d+(\.\d+)?")), "a CUDA version"),
    "requirements": (True, _texts(), "a list of requirements"),
    "nvcc": (False, _text(_VERSION), "a version such as 13.0.88"),
    "clang": (False, _text(re.compile(r"\d+")), "a major version such as 19"),
    "clang-cuda": (False, _text(_TWO_PARTS), "major.minor, such as 12.4"),
}
_EXTRA_FILE: Fields = {
    "row": (True, _text(), "the name of a row"),
    "package": (True, _text(), "a package name"),
    "file": (True, _text(re.compile(r"[^/\\]+\.whl")), "the bare name of a wheel"),
    "sha256": (True, _text(re.compile(r"[0-9a-f]{64}")), "64 lower-case hexadecimal digits"),
}
_GROUPS = ("runtime", "generate", "test", "lint", "build", "lock", "flash-attn")
_EXACT = ("build", "lock", "flash-attn")
_ONLY = {"nvcc-packages": ("nvcc",), "home-or-clang": ("clang", "clang-cuda")}


def problems(raw: dict[str, Any]) -> list[str]:
    """Everything wrong with the parsed matrix.toml; empty when nothing is."""
    shape = list(_fields("matrix.toml", raw, _TOP))
    if shape:
        return shape
    found = list(_groups(raw["groups"]))
    found += _architectures(raw["architectures"])
    for name, toolchain in raw["toolchains"].items():
        found += _toolchain(f'toolchains."{name}"', toolchain)
    named: list[str] = []
    for index, row in enumerate(raw["row"]):
        where = f"row {row['name']!r}" if isinstance(row.get("name"), str) else f"row number {index + 1}"
        before = len(found)
        found += _fields(where, row, _ROW)
        if len(found) == before:
            found += _row(where, row, raw)
        named.append(str(row.get("name")))
    found += [
        f"row {name!r}: defined {named.count(name)} times" for name in sorted(set(named)) if named.count(name) > 1
    ]
    found += _same_contents(raw["row"])
    for index, extra in enumerate(raw.get("extra-file", [])):
        where = f"extra-file number {index + 1}"
        found += _fields(where, extra, _EXTRA_FILE)
        if "row" in extra and extra["row"] not in named:
            found.append(f"{where}: row {extra['row']!r} does not exist")
    return found


def _fields(where: str, table: Any, fields: Fields) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{where}: expected a table, got {table!r}"
        return
    for key in table:
        if key not in fields:
            yield f"{where}: unknown key {key!r}; known keys are {', '.join(fields)}"
    for key, (required, check, wish) in fields.items():
        if key not in table:
            if required:
                yield f"{where}: {key} is missing; expected {wish}"
        elif not check(table[key]):
            yield f"{where}: {key} is {table[key]!r}; expected {wish}"


def _requirements(where: str, items: Any) -> Iterator[tuple[str, str]]:
    """(problem, "") for what cannot be read, ("", requirement) for what can."""
    if not _texts()(items):
        yield f"{where}: expected a list of requirements, got {items!r}", ""
        return
    for item in items:
        try:
            Requirement(item)
            yield "", item
        except InvalidRequirement as error:
            yield f"{where}: {item!r} is not a requirement: {str(error).splitlines()[0]}", ""


def _groups(groups: dict[str, Any]) -> Iterator[str]:
    for name in _GROUPS:
        if name not in groups:
            yield f"groups: {name} is missing; expected the groups {', '.join(_GROUPS)}"
    seen: dict[str, tuple[str, str]] = {}
    for group, items in groups.items():
        if group not in _GROUPS:
            yield f"groups: unknown group {group!r}; known groups are {', '.join(_GROUPS)}"
        for problem, item in _requirements(f"groups.{group}", items):
            if problem:
                yield problem
                continue
            requirement = Requirement(item)
            name = canonicalize_name(requirement.name)
            if name in ("torch", "triton", "flash-attn"):
                yield f"groups.{group}: {name} belongs to the rows, not to a group"
            if group in _EXACT and "==" not in str(requirement.specifier) and requirement.marker is None:
                yield f"groups.{group}: {item!r} must be exact (==), because it shapes what is built"
            bound = str(requirement.specifier)
            other, before = seen.setdefault(name, (group, bound))
            if before != bound:
                yield f"groups.{group}: {name} is {bound!r} here and {before!r} in groups.{other}"


def _architectures(table: dict[str, Any]) -> Iterator[str]:
    for flavour, items in table.items():
        if not re.fullmatch(r"cuda1[0-9]", flavour):
            yield f"architectures: unknown flavour {flavour!r}; expected cuda12 or cuda13"
        if not _texts(_ARCHITECTURE)(items):
            yield f"architectures.{flavour}: {items!r}; expected a list of sm_XX and compute_XX"
        elif len(set(items)) != len(items):
            yield f"architectures.{flavour}: an architecture is listed twice"


def _toolchain(where: str, table: Any) -> Iterator[str]:
    bad = list(_fields(where, table, _TOOLCHAIN))
    yield from bad
    if bad:
        return
    for kind, keys in _ONLY.items():
        for key in keys:
            if (key in table) != (kind == table["kind"]):
                yield f"{where}: {key} belongs to kind {kind}, and this is {table['kind']}"
    for problem, item in _requirements(f"{where}.requirements", table["requirements"]):
        if problem:
            yield problem
        elif "==" not in item:
            yield f"{where}.requirements: {item!r} must be exact (==)"


def _row(where: str, row: dict[str, Any], raw: dict[str, Any]) -> Iterator[str]:
    match = _ROW_NAME.fullmatch(row["name"])
    cuda, has = row.get("cuda"), [key for key in ("cuda", "triton", "toolchain") if key in row]
    if row["name"] == "cpu":
        yield from (f"{where}: {key} does not belong to the cpu row" for key in (*has, "flash-attn") if key in row)
    else:
        missing = [key for key in ("cuda", "triton", "toolchain") if key not in row]
        yield from (f"{where}: {key} is missing; a CUDA row needs cuda, triton and toolchain" for key in missing)
    if match and cuda and (digits := match["digits"] or match["major"]):
        actual = cuda.replace(".", "") if match["digits"] else cuda.split(".")[0]
        if digits != actual:
            yield f"{where}: its name says CUDA {digits}, its cuda is {cuda}"
    if (name := row.get("toolchain")) is not None:
        toolchain = raw["toolchains"].get(name)
        if toolchain is None:
            yield f"{where}: toolchain {name!r} does not exist; there are {', '.join(raw['toolchains'])}"
        elif cuda and isinstance(toolchain, dict):
            have = str(toolchain.get("cuda"))
            if cuda != have and cuda.split(".")[0] != have:
                yield f"{where}: its cuda is {cuda}, its toolchain {name!r} is for CUDA {have}"
            flavour = "cuda" + cuda.split(".")[0]
            if flavour not in raw["architectures"]:
                yield f"{where}: architectures.{flavour} is missing"
    yield from (f"{where}: group {g!r} does not exist" for g in row["groups"] if g not in raw["groups"])
    if len(set(row["python"])) != len(row["python"]):
        yield f"{where}: a Python version is listed twice"


def _same_contents(rows: list[dict[str, Any]]) -> Iterator[str]:
    seen: dict[tuple[Any, ...], str] = {}
    for row in rows:
        key = (row.get("torch"), row.get("cuda"), row.get("triton"))
        first = seen.setdefault(key, str(row.get("name")))
        if first != row.get("name"):
            yield f"row {row.get('name')!r}: same torch, CUDA and Triton as row {first!r}"
