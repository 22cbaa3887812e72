"""Wheels with equal bits for equal contents: sorted entries, one time stamp, one way to compress."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError

_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-(?P<tag>[^-]+-[^-]+-[^-]+)\.whl")
_FIRST_MANYLINUX = (2, 17)  # pip of every supported Python knows it


@dataclass(frozen=True)
class Wheel:
    """The parts of a wheel's file name."""

    name: str
    version: str
    tag: str

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}-{self.tag}.whl"

    @property
    def info(self) -> str:
        return f"{self.name}-{self.version}.dist-info"


def parse_name(file: str) -> Wheel:
    """The parts of ``name-version-python-abi-platform.whl``."""
    match = _NAME.fullmatch(file)
    if match is None:
        raise BuildError(f"{file} is not the name of a wheel without a build number")
    return Wheel(match["name"], match["version"], match["tag"])


def manylinux_tag(floors: Iterable[tuple[int, int]], machine: str) -> str:
    """The tag for any Python 3 on Linux with the newest of the glibc `floors` (PEP 600)."""
    major, minor = max([_FIRST_MANYLINUX, *floors])
    return f"py3-none-manylinux_{major}_{minor}_{machine}"


def repack(source: Path, folder: Path, *, epoch: int, tag: str | None = None) -> Path:
    """Writes the contents of wheel `source` into `folder` under `tag` (default: its own), reproducibly."""
    with zipfile.ZipFile(source) as archive:
        contents = {
            entry.filename: (archive.read(entry), bool(entry.external_attr >> 16 & 0o111))
            for entry in archive.infolist()
            if not entry.is_dir()
        }
    return pack(contents, parse_name(source.name), folder, epoch=epoch, tag=tag)


def pack(
    contents: dict[str, tuple[bytes, bool]], wheel: Wheel, folder: Path, *, epoch: int, tag: str | None = None
) -> Path:
    """Writes a wheel.

    Args:
        contents: for each file its bytes, and whether it is executable.
        wheel: its name; its ``WHEEL`` file must be among the contents.
        epoch: modification time of every entry, in seconds since 1970.
    """
    wheel = Wheel(wheel.name, wheel.version, tag or wheel.tag)
    record, described = f"{wheel.info}/RECORD", f"{wheel.info}/WHEEL"
    if described not in contents:
        raise BuildError(f"{wheel.file}: {described} is missing from its contents")
    files = {name: value for name, value in contents.items() if name != record}
    files[described] = (_with_tag(files[described][0].decode(), wheel.tag).encode(), False)
    # Metadata last, as the wheel specification recommends.
    names = sorted(files, key=lambda n: (n.startswith(f"{wheel.info}/"), n))
    files[record] = (_record(names, files, record), False)
    stamp = time.gmtime(epoch)[:6]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / wheel.file
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in [*names, record]:
            data, executable = files[name]
            entry = zipfile.ZipInfo(name, stamp)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever wrote it
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, data)
    return path


def _with_tag(text: str, tag: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("Tag:", "Build:")) and line.strip()]
    python, abi, platforms = tag.split("-")
    tags = [f"Tag: {p}-{a}-{s}" for p in python.split(".") for a in abi.split(".") for s in platforms.split(".")]
    return "\n".join([*lines, *tags]) + "\n"


def _record(names: list[str], files: dict[str, tuple[bytes, bool]], record: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for name in names:
        data = files[name][0]
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow([name, f"sha256={digest}", len(data)])
    writer.writerow([record, "", ""])
    return out.getvalue().encode()


def first_difference(left: Path, right: Path) -> str | None:
    """Where two wheels differ first: a file inside and a byte in it; None when they are equal bit for bit."""
    if left.read_bytes() == right.read_bytes():
        return None
    with zipfile.ZipFile(left) as a, zipfile.ZipFile(right) as b:
        names = (set(a.namelist()), set(b.namelist()))
        if only := sorted(names[0] ^ names[1]):
            return f"{left.name}: {only[0]} is in one of the two only"
        # RECORD holds the hashes of the others, so it is never where a difference comes from.
        for name in sorted(names[0], key=lambda n: (n.endswith("/RECORD"), n)):
            one, two = a.read(name), b.read(name)
            if one != two:
                byte = next(
                    (i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two))
                )
                return f"{left.name}: {name} differs first at byte {byte} ({len(one)} and {len(two)} bytes)"
    return f"{left.name}: the same files, packed differently"
