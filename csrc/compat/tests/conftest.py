"""Every test of this folder runs with the upstream names served, and leaves the process as it was."""

import pytest
import trellis_compat


@pytest.fixture(autouse=True)
def served():
    trellis_compat.install()
    yield
    trellis_compat.uninstall()
