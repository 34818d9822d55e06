"""What an ONNX file says of itself that its runtimes do not tell."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_deploy.core.records import TrainingMode


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What one parse of a file finds. The graph, which may be as large as the weights, is not kept."""

    has_graph: bool
    inputs: tuple[str, ...]  # in the file's order, without the weights that it lists among them
    ranked: frozenset[str]  # those of them that have a shape, be it an empty one
    external: tuple[str, ...]  # the files that hold weights, as their tensors name them
    training_mode: TrainingMode  # operators that an export with TrainingMode.TRAINING leaves in it


def declared(path: Path) -> Declared:
    """What the file says, without its external data. Raises DecodeError if it is no model."""
    import onnx

    model = onnx.load(path, format="protobuf", load_external_data=False)
    graph = model.graph
    weights = {each.name for each in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    external = (tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)
    locations = (entry.value for tensor in external for entry in tensor.external_data if entry.key == "location")
    return Declared(
        has_graph=model.HasField("graph"),
        inputs=tuple(each.name for each in graph.input if each.name not in weights),
        ranked=frozenset(each.name for each in graph.input if each.type.tensor_type.HasField("shape")),
        external=tuple(dict.fromkeys(locations)),
        training_mode=_training_mode(model),
    )


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor, wherever in a model it is: onnx's own helper passes over those of sparse initializers."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type:
            for each in value if isinstance(value, Sequence) else [value]:
                yield from _tensors(each)


def _training_mode(model: Any) -> TrainingMode:
    """Wherever in the model the operators are."""
    graphs = list(_graphs(model.graph))
    nodes = [node for holder in (*graphs, *model.functions) for node in holder.node]
    constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
    for node in nodes:
        values: list[Any] = []
        if node.op_type == "Constant":
            values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        elif node.op_type == "Identity":
            values = [constants[name] for name in node.input if name in constants]
        constants |= zip(node.output, values, strict=False)  # a malformed node may lack its output or its value
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
    with contextlib.suppress(ValueError):  # fewer values than its shape says
        return bool(onnx.numpy_helper.to_array(tensor).all())
    return False


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)
