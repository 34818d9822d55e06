"""The results of a device in one file, to take home: what `cifar-deploy import` reads.

results.jsonl    as in reports/: see core.journal
raw/NAME.npz     the samples and predictions behind it
"""

import zipfile
from pathlib import Path

from cifar_deploy.core import files, machine, packs
from cifar_deploy.core.store import Store
from cifar_deploy.stages.results import fault

SUFFIX = ".results.zip"


def write(store: Store, place: Path) -> Path:
    """Write all results of the store, with what lies behind them, to `place`: a file, or a folder for one."""
    pack = packs.here()
    name = "-".join(filter(None, [machine.machine().title, pack.id if pack else ""]))
    path = place / f"{name}{SUFFIX}" if place.is_dir() else place
    with files.atomic_write(path) as part, _zip(part) as bundle:
        bundle.write(store.results_path, store.results_path.name)
        for run in store.lines(fault).runs:
            if run.measurement and run.measurement.raw and store.has_samples(run.measurement):
                raw = store.raw_path(run.measurement.raw)
                if (inside := f"raw/{raw.name}") not in bundle.namelist():
                    bundle.write(raw, inside, zipfile.ZIP_STORED)  # an .npz is deflated already
    return path


def _zip(path: Path) -> zipfile.ZipFile:
    """A device's clock may say 1970, and a zip knows of nothing before 1980."""
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)
