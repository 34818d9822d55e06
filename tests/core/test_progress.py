"""How far a worker is, as a part of what its parent does."""

from cifar_deploy.core.progress import Progress, within


def test_a_workers_progress_continues_the_line_of_its_parent() -> None:
    shown: list[Progress] = []
    show = within(Progress(done=2, total=5, message="resnet8 onnx_int8"), shown.append)
    assert show
    show(Progress(done=0, total=3, message="calibrating on 16 images"))
    show(Progress(done=1024, total=1000))
    assert [(one.done, one.total) for one in shown] == [(2, 5)] * 2
    assert [one.message for one in shown] == [
        "resnet8 onnx_int8: calibrating on 16 images",
        "resnet8 onnx_int8: 1,000 of 1,000",
    ]


def test_where_nobody_looks_nothing_is_shown() -> None:
    assert within(Progress(done=0, total=1), None) is None
