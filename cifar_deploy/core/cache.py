"""The user's cache, shared by all output folders: decoded data sets, downloads, environments, what torch.compile has made."""

import os
from pathlib import Path


def folder() -> Path:
    """CIFAR_DEPLOY_CACHE, or cifar-deploy in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("CIFAR_DEPLOY_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cifar-deploy"
