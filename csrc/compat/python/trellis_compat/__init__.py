"""Lets third-party code import the upstream names and get this project's extensions; see the package's README."""

from ._finder import NAMES, install, uninstall

__all__ = ["NAMES", "install", "uninstall"]
