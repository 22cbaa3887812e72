"""What the pages promise in their commands, links and counts is there."""

import contextlib
import re
import shlex
from pathlib import Path

from trellis_doctor import checks
from trellis_doctor import cli as doctor
from trellis_doctor.selftest import ENVIRONMENTS
from trellis_pipeline import cli as pipeline
from trellis_regression import cli as gate
from trellis_regression import inject, sample

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    p
    for pattern in ("*.md", "docs/*.md", "docs/stages/*.md", "*/README.md", "csrc/*/README.md")
    for p in ROOT.glob(pattern)
]


def test_the_nox_sessions_of_the_readme_exist():
    named = set(re.findall(r"nox -s (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"demo", "tests", "build"} <= named
    defined = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    assert named <= defined


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands():
    """Every command of the pages, by its program: in blocks of code, and between back quotes where it has arguments."""
    for page in PAGES:
        text = page.read_text()
        blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S))
        shown = [line.partition("  #")[0] for line in blocks.splitlines()]
        for line in shown + re.findall(r"`([^`\n]+)`", text):
            words = shlex.split(re.sub(r"^(\w+=\S+ )+|[\[\]]", "", line)) if line.count("'") % 2 == 0 else []
            if len(words) > 1:
                yield page.name, words


def test_the_commands_of_the_pages_are_ones_that_their_parsers_take(capsys):
    parsers = {"trellis": pipeline._parser(), "trellis-gate": gate._parser(), "trellis-doctor": doctor._arguments()}
    tried = dict.fromkeys([*parsers, "python"], 0)
    for page, words in commands():
        program, *arguments = words
        options = [word.partition("=")[0] for word in arguments if word.startswith("--") and word != "--"]
        if program in parsers:
            with contextlib.suppress(SystemExit):
                parsers[program].parse_args(arguments)
            wrong = capsys.readouterr().err
            with contextlib.suppress(SystemExit):
                parsers[program].parse_args([*(a for a in arguments[:1] if not a.startswith("-")), "--help"])
            known = capsys.readouterr().out
            # A mention may leave out what the command needs, or an option's value, but names nothing that is not there.
            assert not re.search("unrecognized|invalid", wrong), f"{page}: {words}: {wrong}"
        elif program in ("python", "python3") and arguments[0].startswith("benchmarks/"):
            known = (ROOT / arguments[0]).read_text()
            if "parse_args" not in known:
                continue  # it hands its arguments on
        else:
            continue
        assert all(option in known for option in options), f"{page}: {words}"
        tried[program if program in tried else "python"] += 1
    assert min(tried.values()) > 0 and sum(tried.values()) > 50, tried


def test_the_figures_of_the_pages_are_those_of_the_code():
    said = README + (ROOT / "CHANGELOG.md").read_text()
    for text, number in [
        (r"(\d+) checks", len(checks.ALL)),
        (r"(\d+) broken and clean environments", len(ENVIRONMENTS)),
        (r"(\d+) (?:named )?faults", len(inject.ALL)),
        (r"(\d+) clean assets", len(sample.NAMES)),
        (r"of which (\d+) set the thresholds", len(sample.CALIBRATION)),
    ]:
        assert {int(n) for n in re.findall(text, said)} == {number}, text


def test_all_packages_have_one_version():
    found = {}
    for file in [ROOT / "pyproject.toml", *ROOT.glob("*/pyproject.toml"), *ROOT.glob("csrc/*/pyproject.toml")]:
        text = file.read_text()
        found[file.relative_to(ROOT).as_posix()] = re.search(r'^version = "(.+)"', text, re.M)[1]
        for name, pinned in re.findall(r'"(trellis-[\w-]+)==([\d.]+)"', text):
            assert pinned == found["pyproject.toml"], f"{file} pins {name} to {pinned}"
    assert set(found.values()) == {found["pyproject.toml"]}
