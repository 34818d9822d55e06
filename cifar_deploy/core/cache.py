"""The user's cache: decoded data sets and downloads, shared by all output folders."""

import os
from pathlib import Path


def folder() -> Path:
    """CIFAR_DEPLOY_CACHE, or cifar-deploy in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("CIFAR_DEPLOY_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cifar-deploy"
