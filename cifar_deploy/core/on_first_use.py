"""Modules that are imported when something of them is used: what `--help` does without."""

import importlib
from typing import Any


class Module:
    """A module by its name. Its attributes are those of the real one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
