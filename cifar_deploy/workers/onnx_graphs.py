"""What an ONNX file says of itself that its runtimes do not tell."""

from pathlib import Path


def input_names(path: Path) -> tuple[str, ...]:
    """The inputs that the file declares, in its order, without the weights that it lists among them."""
    import onnx

    graph = onnx.load(path, format="protobuf", load_external_data=False).graph
    weights = {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    return tuple(each.name for each in graph.input if each.name not in weights)
