"""What is said about a name that upstream may have and this package has not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def missing(owner: str, name: str, available: Iterable[str]) -> str:
    return (
        f"{owner}.{name} is not provided by trellis_compat, which serves what TRELLIS.2's inference, GLB export, "
        f"texturing and renderers call. {owner} has: {', '.join(sorted(available)) or 'nothing'}"
    )


class Served:
    """Base of the classes that stand for upstream's: an attribute they lack is named as such."""

    def __getattr__(self, name: str) -> Any:
        known = {key for kind in type(self).__mro__ for key in vars(kind)} | set(vars(self))
        raise AttributeError(missing(type(self).__name__, name, (key for key in known if not key.startswith("_"))))
