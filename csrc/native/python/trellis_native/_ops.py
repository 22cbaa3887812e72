"""Registers an extension's operations with torch.library: one schema, one implementation, one fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class OpLibrary:
    """The torch operator namespace of one extension.

    ``define`` decorates the implementation that serves CPU and CUDA tensors alike (it calls the native function
    of the tensors' device) and returns the operator. ``fake`` and ``autograd`` add the rest.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._library = torch.library.Library(namespace, "DEF")

    def define(self, schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers the decorated function under `schema`, such as ``"edges(Tensor faces) -> Tensor"``."""
        name = schema.split("(", 1)[0].strip()

        def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
            self._library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
            for key in ("CPU", "CUDA"):
                self._library.impl(name, implementation, key)
            operator: Callable[..., Any] = getattr(getattr(torch.ops, self.namespace), name).default
            return operator

        return register

    def fake(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Registers the decorated function as the shape and dtype rule of operator `name`."""

        def register(rule: Callable[..., Any]) -> Callable[..., Any]:
            torch.library.register_fake(f"{self.namespace}::{name}", rule, lib=self._library)
            return rule

        return register

    def autograd(self, name: str, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        """Registers the gradient of operator `name`; see torch.library.register_autograd."""
        torch.library.register_autograd(
            f"{self.namespace}::{name}", backward, setup_context=setup_context, lib=self._library
        )
