"""docs/quickstart.ipynb: run from the start in a kernel of this interpreter, with outputs as they are committed.

`python -m tests.notebook` writes its outputs anew.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


def executed(notebook: Any, folder: Path, *, cell_timeout_s: float = 600) -> Any:
    """The notebook with the outputs of a run in `folder`, and with nothing else of this machine.

    Kernel, configuration and history lie in a temporary folder: the user's own are neither used nor changed. Raises nbclient's
    errors if a cell fails or takes too long.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as temporary:
        spec = Path(temporary, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
        specs = KernelSpecManager(kernel_dirs=[str(spec.parents[1])], ensure_native_kernel=False)
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(
                transport="ipc",  # sockets in the temporary folder, rather than ports that are open to all
                kernel_name="python3",
                kernel_spec_manager=specs,
                connection_file=str(Path(temporary, "connection.json")),
            ),
            timeout=cell_timeout_s,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        )
        folders = {name: temporary for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
        metadata = dict(notebook.metadata)
        made = client.execute(env={**os.environ, **folders})
    made.metadata.clear()
    made.metadata.update(metadata)  # without the version of Python
    for cell in made.cells:
        cell.metadata.clear()
    return made


def main() -> None:
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        made = executed(nbformat.read(PATH, as_version=4), Path(folder), cell_timeout_s=3600)
    nbformat.write(made, PATH)


if __name__ == "__main__":
    main()
