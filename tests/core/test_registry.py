"""From a name to a plugin."""

import sys
from pathlib import Path

import pytest

from cifar_deploy.core.errors import Unavailable, UnknownName, Untrusted, UsageError
from cifar_deploy.core.registry import Registry, Requirements, missing, need

THINGS: Registry[object] = Registry(
    "thing", "cifar_deploy.core", {"progress": "progress:report", "broken": "no_such_module:thing"}
)


def test_a_listed_name_is_imported_on_first_use() -> None:
    from cifar_deploy.core.progress import report

    assert THINGS["progress"] is report
    assert list(THINGS) == ["progress", "broken"] and len(THINGS) == 2


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="progres: no thing has this name; did you mean 'progress'"):
        THINGS["progres"]


def test_an_unknown_name_that_is_near_none_is_refused_with_all() -> None:
    with pytest.raises(UnknownName, match="there are: progress, broken"):
        THINGS.check("xyz")


def test_checking_a_name_imports_nothing() -> None:
    assert THINGS.check("broken") == "broken"
    assert THINGS.check("no_such_module:thing") == "no_such_module:thing"


def test_module_and_object_name_anyones_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_plugin_in_the_current_folder.py").write_text("PLUGIN = 'mine'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert THINGS[THINGS.given("a_plugin_in_the_current_folder:PLUGIN")] == "mine"
    monkeypatch.delitem(sys.modules, "a_plugin_in_the_current_folder")


def test_the_current_folder_is_searched_for_code_that_was_given_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file there may have the name of a module that a library looks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "somebody_elses.py").write_text("THING = 1\n")
    with pytest.raises(Untrusted):
        THINGS["somebody_elses:THING"]
    assert THINGS[THINGS.given("cifar_deploy.core.progress:report")]
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (None, "cannot be imported (No module named 'users_own'); start where it lies, or set PYTHONPATH"),
        (
            "import nothere_at_all",
            "(it imports nothere_at_all, which is not here); install nothere_at_all, or set PYTHONPATH",
        ),
        ("from numpy import nothing_so_named", "(ImportError: cannot import name 'nothing_so_named' from 'numpy'"),
        ("import users_own.layers", "cannot be imported (No module named 'users_own.layers'"),
        ("raise ModuleNotFoundError('please install einops')", "(ModuleNotFoundError: please install einops); mend it"),
        ("def build(:", "(SyntaxError: "),
        ("open('/no/such/file')", "(FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'); mend it"),
        ("raise SystemExit(2)", "(SystemExit: 2); run only what defines the object when it is imported"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_usage_error_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, told: str
) -> None:
    if code:
        (tmp_path / "users_own.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with pytest.raises(UsageError) as raised:
        THINGS[THINGS.given("users_own:thing")]
    assert str(raised.value).startswith("users_own:thing: module 'users_own' of this thing cannot be imported (")
    assert told in str(raised.value)


def test_a_module_that_is_not_the_users_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "colorsys.py").write_text("def build(classes): ...\n")
    with pytest.raises(UnknownName, match=r"build: no object in module colorsys \(/.*colorsys\.py\) has this name"):
        THINGS[THINGS.given("colorsys:build")]


@pytest.mark.parametrize("name", ["my_net.py:build", "./my_net.py:build", "src/my_net:build", "src/my_net.py"])
def test_the_name_of_a_file_is_refused_with_that_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "my_net.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownName, match=r"is a file, not a module; start where it lies, and write my_net:(build|OBJECT)"
    ):
        THINGS.given(name)


def test_a_name_that_is_near_none_may_be_the_users_own() -> None:
    with pytest.raises(UnknownName, match=r"there are: progress, broken; your own is named module:OBJECT"):
        THINGS.given("my_net.build")
    with pytest.raises(UnknownName, match="microsoft/resnet-18: no thing has this name"):
        THINGS.given("microsoft/resnet-18")


@pytest.mark.parametrize("name", ["tests.probes:describ", "tests.probes:"])
def test_an_object_that_is_not_in_its_module_is_refused(name: str) -> None:
    with pytest.raises(UnknownName, match=r"tests\.probes"):
        THINGS[THINGS.given(name)]


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    assert missing(["numpy", "no_such_package"]) == ["no_such_package"]
    need("thing", "x", Requirements(requires=("numpy",)))
    with pytest.raises(Unavailable, match="thing x: needs no_such_package; run `pip install no-such-package`"):
        need("thing", "x", Requirements(requires=("numpy", "no_such_package")))


def test_a_missing_program_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"thing x: needs g\+\+; run `[\w -]+ (g\+\+|--install)`"):
        need("thing", "x", Requirements(requires=("numpy",), programs=("g++",)))
