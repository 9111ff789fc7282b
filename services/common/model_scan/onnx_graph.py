"""Looks through an ONNX file for everything that reaches out of it: weights elsewhere, and operators.

Numbers of fields are those of onnx.proto3 (IR version 13). A field that is not known here is refused: what it does
could not be judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.common.model_scan.limits import OPERATORS
from services.common.model_scan.reading import EntryFile
from services.common.model_scan.wire import BYTES, VARINT, Span, WireField, WireReader

MAX_FIELDS = 2_000_000
MAX_DEPTH = 16
_MAX_NAME_BYTES = 4096
_MAX_DIMS = 64
_EXTERNAL = 1
# Bits of one element, by TensorProto.DataType; texts (8) cannot lie outside the graph.
_ELEMENT_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip

# Fields of each message: those that are looked into by name, others that are known and harmless.
_MODEL = {"graph": 7, "opset": 8, "training": 20, "function": 25}
_MODEL_REST = frozenset({1, 2, 3, 4, 5, 6, 14, 26})
_GRAPH = {"node": 1, "initializer": 5, "sparse_initializer": 15}
_GRAPH_REST = frozenset({2, 10, 11, 12, 13, 14, 16})
_FUNCTION = {"node": 7, "opset": 9, "attribute_proto": 11}
_FUNCTION_REST = frozenset({1, 2, 4, 5, 6, 8, 10, 12, 13, 14})
_NODE = {"op_type": 4, "attribute": 5, "domain": 7}
_NODE_REST = frozenset({1, 2, 3, 6, 8, 9, 10})
_ATTRIBUTE = {"tensor": 5, "graph": 6, "tensors": 10, "graphs": 11, "sparse": 22, "sparses": 23}
_ATTRIBUTE_REST = frozenset({1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21})
_TENSOR = {"dims": 1, "data_type": 2, "external_data": 13, "data_location": 14}
_TENSOR_REST = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16})
_EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})

Handler = Callable[[WireField, int], None]


@dataclass(frozen=True)
class ExternalData:
    """The one file that tensors may lie in: its name beside the graph, and its size in bytes."""

    name: str
    size_bytes: int


def check_onnx(file: EntryFile, data: ExternalData | None) -> None:
    """Raises ModelScanError unless all weights lie in the file or in `data`, and all operators are known ones."""
    _GraphCheck(WireReader(file, MAX_FIELDS), data).model(Span(0, file.size_bytes))


class _GraphCheck:
    def __init__(self, reader: WireReader, data: ExternalData | None) -> None:
        self._reader = reader
        self._data = data

    def model(self, span: Span) -> None:
        graphs = 0

        def graph(field: WireField, depth: int) -> None:
            nonlocal graphs
            graphs += 1
            self._graph(field, depth)

        handlers: dict[int, Handler] = {
            _MODEL["graph"]: graph,
            _MODEL["opset"]: self._opset,
            _MODEL["training"]: self._refuse("has training information, which is not served"),
            _MODEL["function"]: self._function,
        }
        self._walk(span, handlers, _MODEL_REST, 0)
        # Protobuf would merge two into one that has not been looked at.
        if graphs != 1:
            raise self._reader.error(f"is no ONNX model: it has {graphs} graphs instead of one")

    def _walk(self, span: Span, handlers: Mapping[int, Handler], known: frozenset[int], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._reader.error(f"has graphs nested more than {MAX_DEPTH} deep")
        for field in self._reader.fields(span):
            handler = handlers.get(field.number)
            if handler is not None:
                handler(field, depth)
            elif field.number not in known:
                raise self._reader.error(f"is no ONNX model, or has an unknown field ({field.number})")

    def _message(self, field: WireField) -> Span:
        if field.wire_type != BYTES:
            raise self._reader.error(f"is no ONNX model: field {field.number} is no message")
        return field.span

    def _refuse(self, cause: str) -> Handler:
        def refuse(_field: WireField, _depth: int) -> None:
            raise self._reader.error(cause)

        return refuse

    def _opset(self, field: WireField, depth: int) -> None:
        def domain(field: WireField, _depth: int) -> None:
            self._check_domain(self._reader.text(field, _MAX_NAME_BYTES))

        self._walk(self._message(field), {1: domain}, frozenset({2}), depth)

    def _graph(self, field: WireField, depth: int) -> None:
        handlers: dict[int, Handler] = {
            _GRAPH["node"]: self._node,
            _GRAPH["initializer"]: self._tensor,
            _GRAPH["sparse_initializer"]: self._refuse("has sparse tensors, which are not served"),
        }
        self._walk(self._message(field), handlers, _GRAPH_REST, depth + 1)

    def _function(self, field: WireField, depth: int) -> None:
        handlers: dict[int, Handler] = {
            _FUNCTION["node"]: self._node,
            _FUNCTION["opset"]: self._opset,
            _FUNCTION["attribute_proto"]: self._attribute,
        }
        self._walk(self._message(field), handlers, _FUNCTION_REST, depth + 1)

    def _node(self, field: WireField, depth: int) -> None:
        domains: list[str] = []
        operators: list[str] = []
        handlers: dict[int, Handler] = {
            _NODE["op_type"]: lambda field, _: operators.append(self._reader.text(field, _MAX_NAME_BYTES)),
            _NODE["domain"]: lambda field, _: domains.append(self._reader.text(field, _MAX_NAME_BYTES)),
            _NODE["attribute"]: self._attribute,
        }
        self._walk(self._message(field), handlers, _NODE_REST, depth + 1)
        # The last of several counts; all are checked, against each other too.
        for domain in domains or [""]:
            allowed = self._check_domain(domain)
            unknown = [name for name in operators if allowed is not None and name not in allowed]
            if unknown:
                raise self._reader.error(f"has the operator {domain}::{_shown(unknown[0])}, which is not served")

    def _check_domain(self, domain: str) -> frozenset[str] | None:
        if domain not in OPERATORS:
            raise self._reader.error(f"has operators of the unknown domain {_shown(domain)}")
        return OPERATORS[domain]

    def _attribute(self, field: WireField, depth: int) -> None:
        singles = 0

        def once(handler: Handler) -> Handler:
            def handle(field: WireField, depth: int) -> None:
                nonlocal singles
                singles += 1
                handler(field, depth)

            return handle

        sparse = self._refuse("has sparse tensors, which are not served")
        handlers: dict[int, Handler] = {
            _ATTRIBUTE["tensor"]: once(self._tensor),
            _ATTRIBUTE["graph"]: once(self._graph),
            _ATTRIBUTE["tensors"]: self._tensor,
            _ATTRIBUTE["graphs"]: self._graph,
            _ATTRIBUTE["sparse"]: sparse,
            _ATTRIBUTE["sparses"]: sparse,
        }
        self._walk(self._message(field), handlers, _ATTRIBUTE_REST, depth + 1)
        if singles > 1:
            raise self._reader.error("has an attribute with two values")

    def _tensor(self, field: WireField, depth: int) -> None:
        dims: list[int] = []
        types: list[int] = []
        locations: list[int] = []
        external: dict[str, str] = {}

        def add_dims(field: WireField, _depth: int) -> None:
            for dim in self._reader.varints(field):
                dims.append(dim)
                if len(dims) > _MAX_DIMS:
                    raise self._reader.error(f"has a tensor of more than {_MAX_DIMS} dimensions")

        handlers: dict[int, Handler] = {
            _TENSOR["dims"]: add_dims,
            _TENSOR["data_type"]: lambda field, _: types.append(self._number(field)),
            _TENSOR["data_location"]: lambda field, _: locations.append(self._number(field)),
            _TENSOR["external_data"]: lambda field, depth: self._external_entry(field, external, depth),
        }
        self._walk(self._message(field), handlers, _TENSOR_REST, depth + 1)
        if len(types) > 1 or len(locations) > 1:
            raise self._reader.error("has a tensor with two types or two locations")
        if external or any(location != 0 for location in locations):
            if locations != [_EXTERNAL] or not external:
                raise self._reader.error("has a tensor that is half inside and half outside of the graph")
            self._check_external(external, dims, types[0] if types else 0)

    def _number(self, field: WireField) -> int:
        if field.wire_type != VARINT:
            raise self._reader.error(f"is no ONNX model: field {field.number} is no number")
        return field.value

    def _external_entry(self, field: WireField, entries: dict[str, str], depth: int) -> None:
        pair: dict[int, str] = {}

        def part(field: WireField, _depth: int) -> None:
            if field.number in pair:
                raise self._reader.error("has weights with two locations")
            pair[field.number] = self._reader.text(field, _MAX_NAME_BYTES)

        self._walk(self._message(field), {1: part, 2: part}, frozenset(), depth + 1)
        key = pair.get(1, "")
        if key not in _EXTERNAL_KEYS or key in entries:
            raise self._reader.error(f"says {_shown(key)} of where weights lie, twice or without a meaning")
        entries[key] = pair.get(2, "")

    def _check_external(self, entries: Mapping[str, str], dims: list[int], data_type: int) -> None:
        location = entries.get("location", "")
        if self._data is None or location != self._data.name:
            # This holds `..`, absolute paths, other folders, and ONNX Runtime's markers of addresses in memory.
            wanted = f"only {self._data.name} beside it is allowed" if self._data else "the manifest names no such file"
            raise self._reader.error(f"wants weights from {_shown(location)}; {wanted}")
        offset = self._decimal(entries.get("offset", "0"))
        length = self._decimal(entries["length"]) if "length" in entries else self._data.size_bytes - offset
        if offset + length > self._data.size_bytes or length < 0:
            raise self._reader.error(
                f"wants bytes {offset} to {offset + length} of {self._data.name}, which has {self._data.size_bytes}"
            )
        bits = _ELEMENT_BITS.get(data_type)
        if bits is None:
            raise self._reader.error(f"has weights outside of the graph of type {data_type}, which cannot be there")
        if "length" in entries and length != -(-math.prod(dims) * bits // 8):
            raise self._reader.error(f"has a tensor of shape {dims[:8]} and type {data_type} in {length} bytes")

    def _decimal(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise self._reader.error("has weights at an offset, or of a length, that is no number")
        return int(text)


def _shown(text: str) -> str:
    """A name as errors quote it."""
    return repr(text[:100])
