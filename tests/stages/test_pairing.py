"""Which names of two results files belong together: the same thing may be called otherwise, and two things alike."""

from dataclasses import replace

import pytest

from cifar_deploy.core.errors import UsageError
from cifar_deploy.core.journal import grouped
from cifar_deploy.core.records import External, Failure, File, Result, Tensor, Trained
from cifar_deploy.stages import pairing
from tests.probes import a_job, a_run, a_session

SMALL = Tensor(name="x", dtype="float32", shape=(1, 3, 8, 8))
LARGE = replace(SMALL, shape=(1, 3, 64, 64))


def file(path: str, content: str = "", takes: Tensor | None = SMALL) -> Result:
    """A latency of an external model. Without a content, it is one of its own; without `takes`, it could not be loaded."""
    job = a_job()
    artifact = replace(
        job.artifact,
        origin=External(path=path, takes=(takes,) if takes else ()),
        format=None,
        files=(File(name=path, bytes=1, sha256=(content or path).encode().hex().ljust(64, "0")[:64]),) if takes else (),
    )
    job = replace(job, artifact=artifact)
    failure = None if takes else Failure(kind="load error", reason="no such operator")
    return grouped([a_run(job=job, session=a_session(job), failure=failure)])[0]


def training(name: str, network: str = "resnet8", weights: str = "1") -> Result:
    job = a_job()
    made = job.artifact.checkpoint
    assert made
    made = replace(
        made,
        training=replace(made.training, name=name, network=network),
        weights=replace(made.weights, sha256=weights * 64),
    )
    job = replace(job, artifact=replace(job.artifact, origin=Trained(checkpoint=made)))
    return grouped([a_run(job=job, session=a_session(job))])[0]


def told(a: list[Result], b: list[Result], *pairs: str, any_input: bool = False) -> dict[tuple[str, str], str]:
    return {(match.a, match.b): match.rule for match in pairing.matched(a, b, pairs, any_input=any_input)}


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("m.onnx", "m.onnx", "name"),
        ("./m.onnx", "m.onnx", "path"),
        ("models/../m.onnx", "m.onnx", "path"),
        ("models//m.onnx", "models/m.onnx", "path"),
        ("m.onnx", "/home/me/m.onnx", "end of path"),
        ("v1/m.onnx", "v2/m.onnx", "end of path"),
        ("../v1/m.onnx", "./m.onnx", "end of path"),
        ("model-v1.onnx", "model-v2.onnx", "only one left"),
        ("m.onnx", "m.tflite", "only one left"),
    ],
)
def test_one_file_a_side_is_paired_whatever_its_name(old: str, new: str, rule: str) -> None:
    assert told([file(old, "before")], [file(new, "after")]) == {(old, new): rule}


def test_the_same_content_counts_more_than_the_same_end_of_the_path() -> None:
    a = [file("x/m.onnx", "1"), file("x/n.onnx", "2")]
    b = [file("y/m.onnx", "2"), file("y/n.onnx", "1")]
    assert told(a, b) == {("x/m.onnx", "y/n.onnx"): "sha256", ("x/n.onnx", "y/m.onnx"): "sha256"}
    assert told([file("link.onnx", "1")], [file("to/m.onnx", "1")]) == {("link.onnx", "to/m.onnx"): "sha256"}


def test_a_name_counts_more_than_the_content() -> None:
    a, b = [file("m.onnx", "1")], [file("m.onnx", "2"), file("backup.onnx", "1")]
    assert told(a, b) == {("m.onnx", "m.onnx"): "name"}
    assert told([file("./m.onnx", "1")], b) == {("./m.onnx", "m.onnx"): "path"}


def test_of_several_with_the_same_base_name_the_longer_end_of_the_path_decides() -> None:
    a = [file("v1/resnet/model.onnx"), file("v1/bert/model.onnx")]
    b = [file("v2/bert/model.onnx"), file("v2/resnet/model.onnx")]
    assert told(a, b) == {
        ("v1/resnet/model.onnx", "v2/resnet/model.onnx"): "end of path",
        ("v1/bert/model.onnx", "v2/bert/model.onnx"): "end of path",
    }


def test_what_is_not_unique_is_not_guessed() -> None:
    two = [file("x/m.onnx", "1"), file("y/m.onnx", "2")]
    assert told(two, [file("m.onnx", "3")]) == {}
    assert told([file("a.onnx"), file("b.onnx")], [file("c.onnx"), file("d.onnx")]) == {}
    assert told([file("a.onnx", "1")], [file("c.onnx", "1"), file("d.onnx", "1")]) == {}


def test_the_one_that_is_left_over_is_paired_beside_those_of_the_same_name() -> None:
    a, b = [file("base.onnx"), file("v1.onnx")], [file("base.onnx"), file("v2.onnx")]
    assert told(a, b) == {("base.onnx", "base.onnx"): "name", ("v1.onnx", "v2.onnx"): "only one left"}


def test_a_guess_pairs_only_what_takes_the_same_input() -> None:
    a, b = file("v1/m.onnx", "1"), file("v2/m.onnx", "2", LARGE)
    assert told([a], [b]) == {}
    assert told([a], [b], any_input=True) == {("v1/m.onnx", "v2/m.onnx"): "end of path"}
    assert told([file("v1.onnx")], [file("v2.onnx", takes=LARGE)]) == {}


def test_a_version_that_cannot_be_loaded_is_still_that_version() -> None:
    assert told([file("v1.onnx")], [file("v2.onnx", takes=None)]) == {("v1.onnx", "v2.onnx"): "only one left"}


def test_a_training_is_paired_by_its_weights_and_then_by_its_network() -> None:
    assert told([training("a", weights="1")], [training("b", weights="1")]) == {("a", "b"): "sha256"}
    assert told([training("a", weights="1")], [training("b", weights="2")]) == {("a", "b"): "network"}
    assert told([training("a", "resnet8")], [training("b", "mobilenet", "2")]) == {}
    seeds = [training("s1", weights="2"), training("s2", weights="3")]
    assert told([training("s0", weights="1")], seeds) == {}


def test_a_file_is_never_paired_with_a_training() -> None:
    assert told([file("m.onnx")], [training("resnet8")]) == {}


def test_a_pair_that_is_given_comes_first() -> None:
    a, b = [training("resnet20")], [training("resnet20"), training("resnet20-b", weights="2")]
    assert told(a, b, "resnet20=resnet20-b") == {("resnet20", "resnet20-b"): "pair"}
    a, b = [file("a.onnx"), file("b.onnx")], [file("a.onnx"), file("b.onnx")]
    assert told(a, b, "a.onnx=b.onnx", "b.onnx=a.onnx") == {("a.onnx", "b.onnx"): "pair", ("b.onnx", "a.onnx"): "pair"}
    assert told([file("a.onnx")], [file("b.onnx", takes=LARGE)], "a.onnx=b.onnx") == {("a.onnx", "b.onnx"): "pair"}


def test_a_name_in_a_pair_may_be_spelled_otherwise_and_hold_an_equals_sign() -> None:
    a, b = [file("runs/v1/old.onnx"), file("x.onnx")], [file("runs/v2/lr=1=b.onnx"), file("y.onnx")]
    for given in ("runs/v1/old.onnx=runs/v2/lr=1=b.onnx", "./old.onnx=lr=1=b.onnx", "v1/old.onnx=v2/lr=1=b.onnx"):
        assert told(a, b, given)["runs/v1/old.onnx", "runs/v2/lr=1=b.onnx"] == "pair"
    assert told(b, a, "lr=1=b.onnx=old.onnx")["runs/v2/lr=1=b.onnx", "runs/v1/old.onnx"] == "pair"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["old.onx=new.onnx"], "old.onx: no network or file of A (--pair) has this name; did you mean 'old.onnx'?"),
        (["old.onnx=new.onx"], "new.onx: no network or file of B (--pair) has this name; did you mean 'new.onnx'?"),
        (["new.onnx=old.onnx"], "new.onnx: no network or file of A (--pair)"),
        (["zzz=new.onnx"], "there are: old.onnx, x/other.onnx, y/other.onnx"),
        (["other.onnx=new.onnx"], "other.onnx: no network or file of A"),
        (["old.onnx"], "--pair: old.onnx is no pair; give a name of A and one of B, as in --pair old.onnx=new.onnx"),
        (["=new.onnx"], "is no pair"),
        (["old.onnx="], "is no pair"),
        (["="], "is no pair"),
        (["old.onnx=new.onnx", "old.onnx=z.onnx"], "old.onnx of A is given twice"),
        (["old.onnx=new.onnx", "x/other.onnx=new.onnx"], "new.onnx of B is given twice"),
    ],
)
def test_a_pair_that_cannot_be_is_refused_with_the_nearest_name(pairs: list[str], words: str) -> None:
    a = [file("old.onnx"), file("x/other.onnx"), file("y/other.onnx")]
    b = [file("new.onnx"), file("z.onnx")]
    with pytest.raises(UsageError) as raised:
        told(a, b, *pairs)
    assert words in str(raised.value)
