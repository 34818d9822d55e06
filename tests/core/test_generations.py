"""Two versions are kept; a damaged one is passed over and named; what is half-written does not count."""

from pathlib import Path

import pytest

from cifar_deploy.core.generations import Generations


def write(generations: Generations, text: str) -> None:
    generations.write(lambda path: path.write_text(text) and None)


def read(generations: Generations) -> tuple[list[str], list[str]]:
    damaged: list[str] = []
    return [path.read_text() for path in generations.read(damaged.append)], damaged


@pytest.fixture
def three(tmp_path: Path) -> Generations:
    generations = Generations(tmp_path, "state", ".pt")
    for text in ("one", "two", "three"):
        write(generations, text)
    return generations


def test_the_two_newest_are_kept_newest_first(three: Generations, tmp_path: Path) -> None:
    assert read(three) == (["three", "two"], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.2.pt", "state.3.pt", "state.json"]


def test_nothing_written_yet_is_nothing(tmp_path: Path) -> None:
    generations = Generations(tmp_path, "state", ".pt")
    assert not generations.exist() and read(generations) == ([], [])


@pytest.mark.parametrize("content", [b"thref", b"thr", b"", None])
def test_a_damaged_newest_is_named_and_the_one_before_it_read(
    three: Generations, tmp_path: Path, content: bytes | None
) -> None:
    newest = tmp_path / "state.3.pt"
    newest.unlink()
    if content is not None:
        newest.write_bytes(content)
    found, damaged = read(three)
    assert found == ["two"] and "state.3.pt" in damaged[0]
    write(three, "four")
    assert read(three)[0][0] == "four"


def test_a_version_that_could_not_be_written_changes_nothing(three: Generations, tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        three.write(fail)
    assert read(three) == (["three", "two"], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.2.pt", "state.3.pt", "state.json"]


def test_a_version_without_its_record_does_not_count(three: Generations, tmp_path: Path) -> None:
    (tmp_path / "state.4.pt").write_text("killed before the record was written")
    assert read(three) == (["three", "two"], [])
    write(three, "four")
    assert read(three)[0] == ["four", "three"]


def test_a_damaged_record_is_nothing(three: Generations, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    found, damaged = read(three)
    assert found == [] and "state.json" in damaged[0]
