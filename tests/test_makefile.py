"""Each target of the Makefile installs what it needs, by uv where that serves, and nothing else."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

DEVELOPMENT = "--editable .[dev,ncnn,openvino]"
EVERYTHING = [".venv/bin/python", "--constraint constraints.txt", "--editable ."]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder whose set-up only writes down what it would run: an interpreter that can make such a folder, and a uv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    program(
        tmp_path / "python",
        f'echo "python $*" >> {tmp_path}/ran\n'
        'case "$*" in\n'
        f'    "-m venv"*) mkdir -p .venv/bin && cp {tmp_path}/python .venv/bin/python ;;\n'
        '    *"config list") printf "%s\\n" "$PIP_CONFIGURED" ;;\n'
        "esac\n",
    )
    program(tmp_path / "bin" / "uv", f'echo "uv $*" >> {tmp_path}/ran\nexit "${{UV_FAILS:-0}}"\n')
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def set_up(clone: Path, stamp: str, *arguments: str, with_uv: bool = False, **variables: str) -> list[str]:
    """What is run to install. Any uv of this machine is out of reach."""
    path = os.pathsep.join(place for place in os.environ["PATH"].split(os.pathsep) if not (Path(place) / "uv").exists())
    environment = {"PATH": f"{clone / 'bin'}{os.pathsep}{path}" if with_uv else path, "PIP_CONFIGURED": "", **variables}
    make = ["make", "--silent", f".venv/{stamp}", f"PYTHON={clone / 'python'}", *arguments]
    done = subprocess.run(make, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (clone / "ran").read_text().splitlines()
    (clone / "ran").unlink()
    return [line for line in lines if " install " in line]


def test_running_installs_no_development_package(clone: Path) -> None:
    (installed,) = set_up(clone, "ready")
    assert installed.startswith("python -m pip install") and installed.endswith(
        "--constraint constraints.txt --editable ."
    )
    assert "--quiet --quiet" in installed, "a warning of pip's would stand in the output"


def test_developing_installs_the_rest_on_top(clone: Path) -> None:
    first, second = set_up(clone, "ready-dev")
    assert first.endswith("--editable .") and second.endswith(DEVELOPMENT)
    os.utime(clone / "constraints.txt")
    os.utime(clone / ".venv" / "ready", (0, 0))
    assert len(set_up(clone, "ready-dev")) == 2, "a change of the pins reaches both"


def test_uv_installs_where_it_is(clone: Path) -> None:
    (installed,) = set_up(clone, "ready", with_uv=True)
    assert installed.startswith("uv pip install") and installed.endswith("--constraint constraints.txt --editable .")
    assert "--python .venv/bin/python" in installed and "--compile-bytecode" in installed


def test_pip_installs_where_uv_fails(clone: Path) -> None:
    by_uv, by_pip = set_up(clone, "ready", with_uv=True, UV_FAILS="1")
    assert by_uv.startswith("uv ") and by_pip.startswith("python -m pip install") and by_pip.endswith("--editable .")


@pytest.mark.parametrize("setting", ["global.index-url='a'", ":env:.find-links='b'", "global.constraint='c'"])
def test_pip_installs_where_it_has_settings_that_uv_does_not_read(clone: Path, setting: str) -> None:
    (installed,) = set_up(clone, "ready", with_uv=True, PIP_CONFIGURED=f"global.timeout='60'\n{setting}")
    assert installed.startswith("python -m pip install")


def test_pip_installs_if_asked_to(clone: Path) -> None:
    (installed,) = set_up(clone, "ready", "UV=", with_uv=True)
    assert installed.startswith("python -m pip install")


@pytest.mark.parametrize("with_uv", [False, True])
def test_torch_comes_from_the_index_that_is_named(clone: Path, with_uv: bool) -> None:
    torch, rest = set_up(clone, "ready", "TORCH_INDEX=file:///cpu", with_uv=with_uv)
    assert torch.endswith("--constraint constraints.txt --no-deps --index-url file:///cpu torch torchvision")
    assert rest.endswith("--editable .") and "--index-url" not in rest


def test_each_target_says_which_packages_it_needs() -> None:
    listed = subprocess.run(["make", "-pnq", "-C", ROOT], capture_output=True, text=True).stdout.splitlines()
    needs = {name: set(after.split()) for line in listed for name, colon, after in [line.partition(":")] if colon}
    assert needs["run"] == needs["arm"] == needs["schemas"] == {".venv/ready"}
    for name in ("test", "gate", "lint", "types"):
        assert needs[name] == {".venv/ready-dev"}, name


def test_an_old_python_is_refused_in_a_line(clone: Path) -> None:
    program(clone / "python", f'exec {sys.executable} -c "import sys; sys.exit(1)"\n')
    make = ["make", "--silent", ".venv/ready", f"PYTHON={clone / 'python'}"]
    done = subprocess.run(make, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 2 and "needs Python 3.11 or newer" in done.stderr
    assert not (clone / ".venv").exists()
