"""The machine below the interpreter: files, commands and GPUs. Tests give it another root and environment."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gpu:
    name: str
    capability: tuple[int, int]
    memory: int  # bytes

    @property
    def text(self) -> str:
        return f"{self.name} (capability {self.capability[0]}.{self.capability[1]}, {self.memory / 2**30:.0f} GiB)"


@dataclass(frozen=True)
class Driver:
    """What nvidia-smi says. `problem` is set where it was found but gave no answer."""

    version: str | None
    cuda: tuple[int, int] | None  # newest CUDA it supports
    gpus: tuple[Gpu, ...]
    problem: str | None = None


class Machine:
    """Args:
    root: folder that holds /proc, /usr and so on.
    env: environment of the probes.
    libc: name and version of the C library, "glibc" "2.36".
    """

    def __init__(
        self,
        root: Path = Path("/"),
        env: Mapping[str, str] | None = None,
        libc: tuple[str, str] | None = None,
        home: Path | None = None,
    ) -> None:
        self.root = root
        self.env = dict(os.environ if env is None else env)
        self.libc = libc if libc is not None else platform.libc_ver()
        self.home = home or Path(self.env.get("HOME") or "/")

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str:
        """Contents of a small file, empty where there is none."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def which(self, command: str) -> Path | None:
        found = shutil.which(command, path=self.env.get("PATH", ""))
        return Path(found) if found else None

    def output(self, command: list[str], timeout: float = 20) -> str:
        """What a command prints; raises OSError where it cannot run, fails or hangs, with the reason."""
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=timeout, env=self.env, stdin=subprocess.DEVNULL, check=False
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"`{' '.join(command)}` gave no answer in {timeout:.0f} s") from None
        text = done.stdout.decode("utf-8", "replace")
        if "--version" in command:  # Python 2 writes it to the other stream
            text = text or done.stderr.decode("utf-8", "replace")
        if done.returncode != 0:
            said = (text + done.stderr.decode("utf-8", "replace")).strip().splitlines()
            raise OSError(f"`{' '.join(command)}` failed: {said[-1] if said else f'status {done.returncode}'}")
        return text

    def free(self, path: Path) -> int | None:
        """Free bytes of the file system that holds `path` or, where it does not exist, its nearest parent."""
        for place in (path, *path.parents):
            if place.exists():
                try:
                    return shutil.disk_usage(place).free
                except OSError:
                    return None
        return None

    @functools.cached_property
    def is_wsl(self) -> bool:
        return "microsoft" in self.text("/proc/version").lower()

    @functools.cached_property
    def container(self) -> str | None:
        if self.at("/.dockerenv").exists():
            return "docker"
        if self.at("/run/.containerenv").exists():
            return "podman"
        return None

    def memory(self, field: str = "MemTotal") -> int | None:
        match = re.search(rf"^{field}:\s+(\d+) kB", self.text("/proc/meminfo"), re.MULTILINE)
        return int(match[1]) * 1024 if match else None

    @functools.cached_property
    def memory_limit(self) -> int | None:
        """Bytes that the container may use, None without a limit."""
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            value = self.text(path).strip()
            if value.isdigit() and int(value) < 1 << 60:
                return int(value)
        return None

    @functools.cached_property
    def library_folders(self) -> list[Path]:
        """Folders in which the dynamic loader looks without being told by a library."""
        asked = [Path(p) for p in self.env.get("LD_LIBRARY_PATH", "").split(":") if p]
        usual = [
            f"/{base}{leaf}" for base in ("usr/lib", "lib") for leaf in (f"/{platform.machine()}-linux-gnu", "64", "")
        ]
        listed: list[str] = []
        for name in sorted(self.at("/etc/ld.so.conf.d").glob("*.conf")):
            listed += [line for line in self.text(f"/etc/ld.so.conf.d/{name.name}").split("\n") if line.startswith("/")]
        return [*asked, *(self.at(p) for p in [*listed, *usual, "/usr/lib/wsl/lib", "/usr/local/lib"])]

    def library(self, soname: str) -> Path | None:
        """Where the dynamic loader finds `soname` by itself: in the usual folders, or where its cache says."""
        if found := next((f / soname for f in self.library_folders if (f / soname).exists()), None):
            return found
        try:
            cache = self.at("/etc/ld.so.cache").read_bytes()
        except OSError:
            return None
        listed = re.findall(rb"(/[^\0]*/" + re.escape(soname.encode()) + rb")\0", cache)
        return next((p for p in (self.at(name.decode("utf-8", "replace")) for name in listed) if p.exists()), None)

    @functools.cached_property
    def driver(self) -> Driver | None:
        """None without nvidia-smi."""
        command = self.which("nvidia-smi")
        if command is None:
            wsl = self.at("/usr/lib/wsl/lib/nvidia-smi")
            if not wsl.exists():
                return None
            command = wsl
        try:
            query = "--query-gpu=name,compute_cap,memory.total,driver_version"
            rows = self.output([str(command), query, "--format=csv,noheader,nounits"])
            cuda = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", self.output([str(command)]))
        except OSError as error:
            return Driver(None, None, (), str(error))
        gpus, version = [], None
        for row in rows.splitlines():
            cells = [c.strip() for c in row.split(",")]
            capability = re.fullmatch(r"(\d+)\.(\d+)", cells[1]) if len(cells) == 4 else None
            if capability:
                # A GPU that shares the machine's memory states none of its own.
                memory = int(cells[2]) << 20 if cells[2].isdigit() else self.memory() or 0
                gpus.append(Gpu(cells[0], (int(capability[1]), int(capability[2])), memory))
                version = cells[3]
        problem = None if gpus else f"nvidia-smi names no GPU: {rows.strip()[:200] or 'no output'}"
        return Driver(version, (int(cuda[1]), int(cuda[2])) if cuda else None, tuple(gpus), problem)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.driver.gpus if self.driver else ()
