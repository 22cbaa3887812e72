"""What modules define and call, read from their syntax trees; nothing is imported."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from .site import Site


def parse(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class Names:
    """Names at the top of a module. `open` says that it may have others (it computes them, or is compiled)."""

    defined: frozenset[str]
    open: bool


def names(site: Site, module: str, depth: int = 6) -> Names | None:
    """Names that `module` gives its importers; None where there is no such module."""
    file = site.module(module)
    if file is None:
        return None
    if file.suffix != ".py":
        return Names(frozenset(), open=True)
    tree = parse(file)
    if tree is None or depth == 0:
        return Names(frozenset(), open=True)
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    is_open = False
    for node in _top_level(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            is_open = is_open or node.name == "__getattr__"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Import):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    found.add(alias.asname or alias.name)
                    continue
                inner = names(site, _absolute(package, node), depth - 1)
                is_open = is_open or inner is None or inner.open
                found |= inner.defined if inner else set()
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            text = ast.dump(node.value.func)
            is_open = is_open or "globals" in text or "setattr" in text
    return Names(frozenset(found), is_open)


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements of a module, those under if, try and with included."""
    found: list[ast.stmt] = []
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        found.append(node)
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            for block in ("body", "orelse", "finalbody"):
                waiting += getattr(node, block, [])
            for handler in getattr(node, "handlers", []):
                waiting += handler.body
    return found


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def has(site: Site, dotted: str) -> bool | None:
    """Whether package.module.name exists; None where that cannot be known without running it."""
    module, _, name = dotted.rpartition(".")
    found = names(site, module)
    if found is not None:
        if name in found.defined or site.module(dotted) is not None:
            return True
        return None if found.open else False
    # `module` may itself be a name inside its parent.
    return None if "." in module and has(site, module) is not False else False


@dataclass(frozen=True)
class Signature:
    positional: tuple[str, ...]
    keywords: frozenset[str]
    takes_more: bool  # *args
    takes_any: bool  # **kwargs


def signature(file: Path, function: str, inside: str | None = None) -> Signature | None:
    """The parameters of a function, or of a method of class `inside`, `self` left out."""
    tree = parse(file)
    if tree is None:
        return None
    body: list[ast.stmt] = tree.body
    if inside:
        owner = next((n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == inside), None)
        if owner is None:
            return None
        body = owner.body
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            a = node.args
            listed = [p.arg for p in (*a.posonlyargs, *a.args)][1 if inside else 0 :]
            return Signature(
                tuple(listed),
                frozenset([*listed, *(p.arg for p in a.kwonlyargs)]),
                a.vararg is not None,
                a.kwarg is not None,
            )
    return None


def misfit(call: ast.Call, takes: Signature) -> str | None:
    """Why `call` does not fit the parameters, or None."""
    if any(isinstance(a, ast.Starred) for a in call.args):
        return None
    if len(call.args) > len(takes.positional) and not takes.takes_more:
        return f"{len(call.args)} positional arguments are given, {len(takes.positional)} are taken"
    unknown = [k.arg for k in call.keywords if k.arg and k.arg not in takes.keywords]
    if unknown and not takes.takes_any:
        return f"unknown argument {', '.join(unknown)}"
    return None
