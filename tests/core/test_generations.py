"""Two versions are kept; a damaged one is passed over and named; what is half-written does not count."""

from pathlib import Path

import pytest

from cifar_deploy.core.errors import Corrupt
from cifar_deploy.core.generations import Generations


def write(generations: Generations, text: str) -> None:
    generations.write(lambda path: path.write_text(text) and None)


def read(generations: Generations) -> tuple[str | None, list[str]]:
    damaged: list[str] = []
    return generations.newest(Path.read_text, damaged.append), damaged


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def three(tmp_path: Path) -> Generations:
    generations = Generations(tmp_path, "state", ".pt")
    for text in ("one", "two", "three"):
        write(generations, text)
    return generations


@pytest.fixture
def later(three: Generations, tmp_path: Path) -> Generations:
    """The same three, met by another process."""
    return Generations(tmp_path, "state", ".pt")


def test_the_two_newest_are_kept(later: Generations, tmp_path: Path) -> None:
    assert read(later) == ("three", [])
    assert names(tmp_path) == ["state.2.json", "state.2.pt", "state.3.json", "state.3.pt"]


def test_nothing_written_yet_is_nothing(tmp_path: Path) -> None:
    assert read(Generations(tmp_path, "state", ".pt")) == (None, [])


@pytest.mark.parametrize("content", [b"thref", b"thr", b"", None])
@pytest.mark.parametrize("damaged_name", ["state.3.pt", "state.3.json"])
def test_a_damaged_newest_is_named_and_the_one_before_it_read_and_kept(
    later: Generations, tmp_path: Path, damaged_name: str, content: bytes | None
) -> None:
    newest = tmp_path / damaged_name
    newest.unlink()
    if content is not None:
        newest.write_bytes(content)
    found, damaged = read(later)
    assert found == "two"
    has_no_record = damaged_name == "state.3.json" and content is None
    assert has_no_record or "state.3." in damaged[0]

    write(later, "four")
    assert names(tmp_path) == ["state.2.json", "state.2.pt", "state.4.json", "state.4.pt"]
    (tmp_path / "state.4.pt").write_text("damaged, too")
    assert read(later)[0] == "two"


def test_a_version_that_the_loader_fails_for_is_passed_over(later: Generations) -> None:
    def load(path: Path) -> str:
        if path.read_text() == "three":
            raise KeyError("of another program")
        return path.read_text()

    damaged: list[str] = []
    assert later.newest(load, damaged.append) == "two"
    assert "state.3.pt: cannot be read (KeyError)" in damaged[0]


def test_what_the_system_keeps_from_being_read_is_not_passed_over(later: Generations) -> None:
    def load(path: Path) -> str:
        raise MemoryError

    with pytest.raises(MemoryError):
        later.newest(load, pytest.fail)
    assert read(later) == ("three", [])


def test_if_none_is_any_good_that_is_said_each_time(later: Generations, tmp_path: Path) -> None:
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(Corrupt, match="--force"):
            read(later)


def test_a_version_that_could_not_be_written_changes_nothing(three: Generations, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    before = names(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        three.write(fail)
    assert read(three) == ("three", [])
    assert names(tmp_path) == before


def test_a_version_without_its_record_does_not_count(later: Generations, tmp_path: Path) -> None:
    (tmp_path / "state.4.pt").write_text("killed before the record was written")
    assert read(later) == ("three", [])
    write(later, "five")
    assert names(tmp_path) == ["state.3.json", "state.3.pt", "state.5.json", "state.5.pt"]
