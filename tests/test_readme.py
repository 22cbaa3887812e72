"""What the README promises in its commands exists."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_nox_sessions_of_the_readme_exist():
    named = set(re.findall(r"nox -s (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"demo", "tests", "build"} <= named
    defined = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    assert named <= defined


def test_links_of_the_pages_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_options_of_the_trellis_examples_are_known():
    for line in re.findall(r"^trellis (\w+ .*)$", README, re.M):
        command, *rest = line.split()
        done = subprocess.run(
            [sys.executable, "-m", "trellis_pipeline.cli", command, "--help"], capture_output=True, text=True
        )
        for option in (word for word in rest if word.startswith("--")):
            assert option in done.stdout, f"trellis {command} has no {option}"


def test_all_packages_have_one_version():
    found = {}
    for file in [ROOT / "pyproject.toml", *ROOT.glob("*/pyproject.toml"), *ROOT.glob("csrc/*/pyproject.toml")]:
        text = file.read_text()
        found[file.relative_to(ROOT).as_posix()] = re.search(r'^version = "(.+)"', text, re.M)[1]
        for name, pinned in re.findall(r'"(trellis-[\w-]+)==([\d.]+)"', text):
            assert pinned == found["pyproject.toml"], f"{file} pins {name} to {pinned}"
    assert set(found.values()) == {found["pyproject.toml"]}
