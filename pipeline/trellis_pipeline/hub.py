"""Files of hub repositories: from the local cache, or downloaded at pinned revisions.

What is pinned and in the cache is taken from there, with no look at the network. Else one connection is tried first: a
hub that cannot be reached is said in seconds, where the hub's own client would try again and again.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from .errors import CheckpointError, first_line

REVISIONS = {
    "microsoft/TRELLIS.2-4B": "af44b45f2e35a493886929c6d786e563ec68364d",
    "microsoft/TRELLIS-image-large": "25e0d31ffbebe4b5a97464dd851910efc3002d96",
    "facebook/dinov3-vitl16-pretrain-lvd1689m": "ea8dc2863c51be0a264bab82070e3e8836b02d51",
}
"""Revisions that hub ids mean unless another is asked for."""

UNGATED = {
    "facebook/dinov3-vitl16-pretrain-lvd1689m": "timm/vit_large_patch16_dinov3.lvd1689m",
    "briaai/RMBG-2.0": "ZhengPeng7/BiRefNet",
}
"""Repositories behind an approval, and ones with the same role that need none."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""organisation/name."""

CONNECT_SECONDS = 8.0
"""How long a connection may take. HF_HUB_ETAG_TIMEOUT, the client's own variable, sets it too."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubUnreachableError(CheckpointError):
    """The hub cannot be reached, and the cache lacks a file.

    Attributes:
        repository, name: the file.
        why: what happened.
    """

    def __init__(self, repository: str, name: str, why: str, names: list[str] | None = None) -> None:
        self.repository, self.name, self.why = repository, name, why
        wanted = names or [name]
        some = ", ".join(wanted[:3]) + (f" and {len(wanted) - 3} more files" if len(wanted) > 3 else "")
        option = "--image-encoder" if "dino" in repository.lower() else "--weights"
        other = UNGATED.get(repository)
        super().__init__(
            f"{repository}: {some} {'is' if len(wanted) == 1 else 'are'} not in the local cache and the hub cannot be reached "
            f"({why}); download it from {page(repository)} on a connected machine and give its folder ({option} DIR)"
            + (f"; {page(other)} has the same role and needs no approval" if other else "")
        )


def fetch(repository: str, name: str, revision: str | None = None, *, cached_only: bool = False) -> Path:
    """One file of a hub repository.

    Args:
        revision: branch, tag or commit; by default the pinned one, of repositories that have one.
        cached_only: do not try to connect.

    Raises:
        HubUnreachableError: there is no way to the hub, and the file is not in the cache.
        CheckpointError: huggingface_hub is absent, the repository is gated, or the file cannot be had.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError:
        raise CheckpointError(
            f"{repository} is a hub id, and fetching it needs huggingface_hub: pip install huggingface_hub, "
            "or give a local folder"
        ) from None
    revision = revision or REVISIONS.get(repository)
    try:
        found = huggingface_hub.try_to_load_from_cache(
            repository, name, revision=revision, cache_dir=constants.HF_HUB_CACHE
        )
    except ValueError:  # the client's own check of names
        raise CheckpointError(f"{repository}: neither a folder nor a hub id (organisation/name)") from None
    cached = Path(found) if isinstance(found, str) else None
    if cached and _COMMIT.fullmatch(revision or ""):
        return cached
    why = "it was not asked again" if cached_only else _unreachable(constants)
    if why:
        if cached:
            return cached
        raise HubUnreachableError(repository, name, why)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    except errors.GatedRepoError:
        raise CheckpointError(gated(repository)) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{repository}: there is no such folder here, and on the hub no such repository, or it is private"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{repository}: it has no revision {revision}") from None
    except errors.LocalEntryNotFoundError as error:
        raise HubUnreachableError(repository, name, first_line(error.__cause__ or error)) from None
    except errors.EntryNotFoundError:
        raise CheckpointError(
            f"{repository}: it has no file {name} at revision {revision or 'main'}; see {page(repository)}"
        ) from None
    except Exception as error:  # the client's own, its network library's, a full disk
        raise CheckpointError(
            f"{repository}: {name} could not be fetched: {type(error).__name__}: {first_line(error)}"
        ) from None


def _unreachable(constants: object) -> str | None:
    """Why the hub cannot be reached, or None if something listens there (or at the proxy before it)."""
    if getattr(constants, "HF_HUB_OFFLINE", False):
        return "HF_HUB_OFFLINE is set"
    endpoint = urlsplit(str(getattr(constants, "ENDPOINT", "https://huggingface.co")))
    proxies = urllib.request.getproxies()
    proxy = proxies.get(endpoint.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(endpoint.hostname or ""):
        endpoint = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = endpoint.port or {"https": 443, "http": 80}.get(endpoint.scheme, 1080)
    given = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    return connection_error(endpoint.hostname or "", port, float(given) if given.isdigit() else CONNECT_SECONDS)


def connection_error(host: str, port: int, seconds: float) -> str | None:
    """Why no connection to a host was made within so many seconds, or None if it was.

    On a thread of its own, as looking up a name takes no time limit.
    """
    result: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError as error:
            result.append(f"{host}: {error.strerror or error}")
        else:
            result.append(None)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return result[0] if result else f"{host}: no answer in {seconds:g} s"


def page(repository: str) -> str:
    """Where a person finds a hub repository."""
    return f"https://huggingface.co/{repository}"


def gated(repository: str) -> str:
    """What to say of a repository that needs an approval."""
    text = f"{repository} is gated: accept its licence at {page(repository)} and log in with 'hf auth login'"
    other = UNGATED.get(repository)
    return f"{text}; {other} has the same role and needs no approval" if other else text
