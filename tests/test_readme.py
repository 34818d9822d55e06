"""What README.md and CONTRIBUTING.md promise their readers beyond the names of things (tests/test_docs.py)."""

from tests.conftest import ROOT
from tests.test_docs import CONTRIBUTING, README


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(README.splitlines()) < 250
    assert len(README.encode()) < 12_000


def test_every_kind_of_plugin_is_in_the_table_of_what_to_add() -> None:
    kinds = [file for file in (ROOT / "cifar_deploy").glob("*/__init__.py") if "Registry(" in file.read_text()]
    assert kinds
    table = CONTRIBUTING.split("## Add one\n")[1]
    for file in kinds:
        assert f"`{file.relative_to(ROOT / 'cifar_deploy')}`" in table


def test_a_script_is_told_where_the_schemas_are() -> None:
    assert "docs/schemas/" in README and "make schemas" in CONTRIBUTING
