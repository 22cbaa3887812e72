"""Whether the modules that are there can be imported, each with the libraries and the numpy that it finds."""

from __future__ import annotations

import re

from ..check import Check
from ..context import Context
from ..finding import Evidence, Finding, NotApplicableError, Outcome
from .modules import CORE, OURS

ID = "module-import"
# Those with compiled parts of which many are around that fit something else, and that are imported in a moment:
# transformers and rembg, which take seconds, are left to their own checks and to a run.
MODULES = {
    **CORE,
    **OURS,
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "xatlas": "xatlas",
    "OpenImageIO": "openimageio",
}
_MADE_FOR_ANOTHER_NUMPY = re.compile(
    r"numpy\.dtype size changed|numpy\.core\.multiarray failed|compiled using NumPy 1|_ARRAY_API|built (?:with|for) NumPy",
    re.IGNORECASE,
)
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_LIBRARY = re.compile(r"(\S+\.so\S*): cannot open shared object file")
# Of a desktop's libraries only these are what people lack in containers and on servers.
_PACKAGES = {"libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0", "libglib-2.0.so.0": "libglib2.0-0"}
_CRASHES = 3


def run(context: Context) -> Outcome:
    if not context.python.works:
        raise NotApplicableError("the interpreter does not work")
    names = [name for name in MODULES if context.site.module(name) is not None]
    if not names:
        raise NotApplicableError("none of the modules is installed")
    said: dict[str, str | None] = {}
    left, stderr = names, ""
    for _ in range(_CRASHES):
        answer = context.probe("module_imports", *left)
        stderr += answer.stderr
        said |= {name: answer.data[name] for name in left if name in answer.data}
        left = [name for name in left if name not in said]
        if not left:
            break
        culprit = str(answer.data.get("stage"))
        if culprit not in left:
            raise NotApplicableError(f"the modules could not be tried: {answer.died}")
        said[culprit] = f"{answer.died}" + (f" ({answer.last_words})" if answer.last_words else "")
        left.remove(culprit)
    bad = {name: why for name, why in said.items() if why}
    findings = [_finding(context, name, why, stderr) for name, why in bad.items()]
    return Outcome(f"{len(said) - len(bad)} of {len(names)} imported", tuple(findings))


def _finding(context: Context, name: str, why: str, stderr: str) -> Finding:
    distribution = MODULES[name]
    owners = context.site.owners_of_import(name)
    own = owners[0] if owners else None
    numpy = context.site.get("numpy")
    seen = [Evidence(why, file=None if own is None else str(own.folder), version=None if own is None else own.version)]
    leads_to = f"`import {name}` fails, and what needs it"
    again = context.pip("install", "--force-reinstall", "--no-deps", own.name if own else distribution)
    if (
        _MADE_FOR_ANOTHER_NUMPY.search(f"{why}\n{stderr if 'numpy' in why.lower() else ''}")
        and name != "numpy"
        and numpy
    ):
        summary = f"{name}{f' {own.version}' if own else ''} was made for another numpy than {numpy.version}"
        upgrade = context.pip("install", "--upgrade", own.name if own else distribution)
        remedy = [upgrade, f"# or, if other packages need it, the older numpy: {context.pip('install', 'numpy<2')}"]
    elif other := _NO_MODULE.search(why):
        summary = f"{name} cannot be imported: the module {other[1]} is missing"
        remedy = [context.pip("install", own.name if own else distribution)]  # with what it needs
    elif missing := _NO_LIBRARY.search(why):
        summary = f"{name} needs {missing[1]}, which is not on this machine"
        system = _PACKAGES.get(missing[1])
        remedy = [f"# Debian and Ubuntu: apt-get install {system}"] if system else []
        if name == "cv2" and own and "headless" not in own.name:
            uninstall = context.pip("uninstall", "-y", own.name)
            remedy += ["# or opencv without windows, which needs none of the desktop:", uninstall]
            remedy.append(context.pip("install", "--no-deps", f"opencv-python-headless=={own.version}"))
        elif not system:
            remedy.append(again)
    else:
        summary, remedy = f"{name} is installed and cannot be imported", [again]
    severity = "error" if name in CORE or name in OURS else "warning"
    return context.finding(ID, severity, summary, seen=seen, leads_to=leads_to, remedy=remedy)  # type: ignore[arg-type]


CHECK = Check(ID, "Modules load", "error", run)
