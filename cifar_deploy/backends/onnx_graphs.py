"""What an ONNX file says of itself that its runtimes do not tell."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cifar_deploy.core.records import TrainingMode


def read(path: Path) -> Any:
    """The model in it, without external data. Raises DecodeError if it is none."""
    import onnx

    return onnx.load(path, format="protobuf", load_external_data=False)


def input_names(path: Path) -> tuple[str, ...]:
    """The inputs that the file declares, in its order, without the weights that it lists among them."""
    graph = read(path).graph
    weights = {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    return tuple(each.name for each in graph.input if each.name not in weights)


def training_mode(path: Path) -> TrainingMode:
    """Operators that an export with TrainingMode.TRAINING leaves in it, wherever in the model they are."""
    model = read(path)
    graphs = list(_graphs(model.graph))
    nodes = [node for holder in (*graphs, *model.functions) for node in holder.node]
    constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
    for node in nodes:
        if node.op_type == "Constant":
            constants |= [(node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value"]
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    return TrainingMode(operators=Counter(node.op_type for node in nodes if _is_in_training_mode(node, constants)))


def _is_in_training_mode(node: Any, constants: Mapping[str, Any]) -> bool:
    if node.op_type.endswith("Dropout"):
        return any(_is_true(constants[name]) for name in node.input if name in constants)
    if node.op_type == "BatchNormalization":
        # Before opset 14, further outputs meant training. Statistics that are computed on the way are the batch's own in
        # evaluation mode, too.
        asked = any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
        return (asked or sum(map(bool, node.output)) > 1) and len(node.input) > 3 and node.input[3] in constants
    return False


def _is_true(tensor: Any) -> bool:
    import onnx

    if tensor.data_type != onnx.TensorProto.BOOL or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    return bool(onnx.numpy_helper.to_array(tensor).all())


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)
