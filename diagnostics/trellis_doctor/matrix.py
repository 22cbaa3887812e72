"""The rows of build/matrix.toml, the only place where versions stand."""

from __future__ import annotations

import ast
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    name: str
    why: str
    python: tuple[str, ...]
    torch: str
    cuda: str | None
    triton: str | None
    flash_attn: str | None


def find() -> Path | None:
    """The file in a checkout around this package, in TRELLIS_MATRIX, or the one its wheel was built with."""
    asked = os.environ.get("TRELLIS_MATRIX")
    candidates = [Path(asked)] if asked else []
    candidates += [HERE.parents[1] / "build" / "matrix.toml", HERE / "facts" / "matrix.toml"]
    return next((c for c in candidates if c.is_file()), None)


def load(file: Path) -> list[Row]:
    """The rows of `file`; ValueError where it cannot be understood."""
    text = file.read_text(encoding="utf-8")
    if sys.version_info >= (3, 11):
        import tomllib

        tables = tomllib.loads(text).get("row", [])
    else:
        tables = _rows_of(text)
    try:
        return [
            Row(
                name=str(t["name"]),
                why=str(t["why"]),
                python=tuple(map(str, t["python"])),
                torch=str(t["torch"]),
                cuda=t.get("cuda"),
                triton=t.get("triton"),
                flash_attn=t.get("flash-attn"),
            )
            for t in tables
        ]
    except KeyError as error:
        raise ValueError(f"{file}: a row has no {error}") from None


def _rows_of(text: str) -> list[dict[str, Any]]:
    """[[row]] tables of strings, booleans and flat lists: all that Python 3.10, which has no TOML reader, needs."""
    rows = []
    for part in re.split(r"^\[\[row\]\][^\n]*\n", text, flags=re.MULTILINE)[1:]:
        body = re.split(r"^\[", part, maxsplit=1, flags=re.MULTILINE)[0]
        row: dict[str, Any] = {}
        for match in re.finditer(r"^([\w-]+)\s*=\s*(\[[^\]]*\]|\"[^\"]*\"|true|false|\d+)", body, re.MULTILINE):
            row[match[1]] = ast.literal_eval(match[2].replace("true", "True").replace("false", "False"))
        rows.append(row)
    return rows
