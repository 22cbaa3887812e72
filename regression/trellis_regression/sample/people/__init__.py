"""Models that people made and gave away (CC0-1.0), as GLBs beside this file; `credits.json` says who, and from where.

`regression/tests/by_people.py pack` writes them from a furniture library of Sweet Home 3D: triangles as they were,
pictures no larger than 256 texels.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TypedDict, cast

FOLDER = Path(__file__).parent


class Credit(TypedDict):
    """Who made a model, and what it was made from here.

    Attributes:
        title, author, url: as the licence file beside the model and the library's catalogue say.
        license: an SPDX identifier.
        library, library_sha256, path: the library's file, its digest, and the model in it.
        sha256: of the GLB in this folder.
    """

    title: str
    author: str
    url: str
    license: str
    library: str
    library_sha256: str
    path: str
    sha256: str


@cache
def catalogue() -> dict[str, Credit]:
    """Each model's credit, in a fixed order."""
    return cast("dict[str, Credit]", json.loads((FOLDER / "credits.json").read_text(encoding="utf-8")))


def build(name: str) -> bytes:
    """The GLB of a model."""
    return (FOLDER / f"{name.replace(' ', '-')}.glb").read_bytes()
