"""A software bill of materials of a row's wheels: CycloneDX 1.6, JSON."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable
from typing import Any

from .compile import Built
from .locks import Pin
from .matrix import Row
from .toolchains import Toolchain
from .wheels import parse_name


def document(
    row: Row, built: Iterable[Built], locked: Iterable[Pin], toolchain: Toolchain | None, cxx: str, epoch: int
) -> str:
    """The bill: our wheels with their hashes, what the row's lock installs beside them, and the compilers.

    The same inputs give the same text: its serial number is derived from the wheels' hashes.
    """
    ours = [_wheel(b) for b in built]
    digest = "".join(c["hashes"][0]["content"] for c in ours)
    stamp = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    name = f"trellis-forge/{row.name}"
    tools = [("c++", cxx)] + ([(toolchain.flavour, toolchain.identity)] if toolchain else [])
    seen: dict[str, dict[str, Any]] = {}
    for pin in locked:
        component = _pin(pin)
        seen.setdefault(component["bom-ref"], component)
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'trellis-forge {row.name} {digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": stamp,
            "tools": {"components": [{"type": "application", "name": n, "description": d} for n, d in tools]},
            "component": {"type": "application", "bom-ref": name, "name": "trellis-forge", "version": _version(ours)},
            "properties": [{"name": "trellis:row", "value": row.name}],
        },
        "components": [*ours, *seen.values()],
        "dependencies": [{"ref": name, "dependsOn": [c["bom-ref"] for c in [*ours, *seen.values()]]}],
    }
    return json.dumps(bill, indent=1) + "\n"


def _version(ours: list[dict[str, Any]]) -> str:
    return str(ours[0]["version"]) if ours else "0"


def _wheel(built: Built) -> dict[str, Any]:
    version = parse_name(built.wheel).version
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{built.member}@{version}",
        "name": built.member,
        "version": version,
        "purl": f"pkg:pypi/{built.member}@{version}",
        "hashes": [{"alg": "SHA-256", "content": built.sha256}],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "properties": [{"name": "trellis:file", "value": built.wheel}],
    }


def _pin(pin: Pin) -> dict[str, Any]:
    purl = f"pkg:pypi/{pin.name}@{pin.version.replace('+', '%2B')}"
    properties = {"properties": [{"name": "trellis:marker", "value": pin.marker}]} if pin.marker else {}
    return {"type": "library", "bom-ref": purl, "name": pin.name, "version": pin.version, "purl": purl, **properties}
