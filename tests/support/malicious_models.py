"""Entries that somebody tampered with, one for each way in that has been used against model servers.

Their authors know the format: hashes and sizes in the manifest are right, except where those are the point.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.synthetic.make_encoder import EncoderSpec, make_encoder

GRAPH, DATA = Path("1") / "model.onnx", Path("1") / "model.onnx.data"
SECRET = "root:$6$never-in-a-log"


def entry_with_outside_weights(repository: Path, name: str = "victim") -> Path:
    """A good entry whose larger weights lie in model.onnx.data, as exports write them."""
    entry = make_encoder(repository, name, EncoderSpec(task="embed"), {"intra_op_threads": "1"})
    graph = onnx.load(entry / GRAPH)
    onnx.save(
        graph, entry / GRAPH, save_as_external_data=True, location=DATA.name, size_threshold=64, convert_attribute=False
    )
    rehash(entry)
    return entry


def rehash(entry: Path) -> None:
    """Makes the manifest name the files as they are now."""
    manifest = json.loads((entry / "naiad.json").read_text())
    files = {"graph": GRAPH, "graph_data": DATA, "tokenizer": Path("tokenizer.json")}
    if (entry / "chat_template.jinja").exists():
        files["chat_template"] = Path("chat_template.jinja")
    manifest["files"] = {
        key: {
            "path": str(path),
            "sha256": hashlib.sha256((entry / path).read_bytes()).hexdigest(),
            "size_bytes": (entry / path).stat().st_size,
        }
        for key, path in files.items()
        if (entry / path).exists()
    }
    (entry / "naiad.json").write_text(json.dumps(manifest))


def _change_graph(entry: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    graph = onnx.load(entry / GRAPH, load_external_data=False)
    change(graph)
    (entry / GRAPH).write_bytes(graph.SerializeToString())
    rehash(entry)


def _first_outside(graph: onnx.ModelProto) -> TensorProto:
    return next(tensor for tensor in graph.graph.initializer if tensor.data_location == TensorProto.EXTERNAL)


def _set_external(entry: Path, key: str, value: str) -> None:
    def change(graph: onnx.ModelProto) -> None:
        next(part for part in _first_outside(graph).external_data if part.key == key).value = value

    _change_graph(entry, change)


def _point_weights_to(location: str) -> Callable[[Path], None]:
    return lambda entry: _set_external(entry, "location", location)


def _secret(entry: Path) -> Path:
    secret = entry.parent.parent / "secret"
    secret.write_text(SECRET)
    return secret


def _replace(file: Path, put: Callable[[Path], None]) -> None:
    file.unlink()
    put(file)


def _symlink(relative: Path) -> Callable[[Path], None]:
    return lambda entry: _replace(entry / relative, lambda file: file.symlink_to(_secret(entry)))


def _parent_symlink(entry: Path) -> None:
    elsewhere = entry.parent.parent / "elsewhere"
    (entry / "1").rename(elsewhere)
    (entry / "1").symlink_to(elsewhere)


def _entry_symlink(entry: Path) -> None:
    elsewhere = entry.parent.parent / "elsewhere"
    entry.rename(elsewhere)
    entry.symlink_to(elsewhere)


def _hard_link(entry: Path) -> None:
    _replace(entry / DATA, lambda file: os.link(_secret(entry), file))


def _hard_linked_config(entry: Path) -> None:
    _replace(entry / "config.pbtxt", lambda file: os.link(_secret(entry), file))


def _sparse(entry: Path, location: str) -> None:
    def outside(name: str, data_type: int) -> TensorProto:
        tensor = TensorProto(name=name, data_type=data_type, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        return tensor

    sparse = onnx.SparseTensorProto(values=outside("values", 1), indices=outside("indices", 7), dims=[4])
    _change_graph(entry, lambda graph: graph.graph.sparse_initializer.append(sparse))


def _sparse_attribute(entry: Path) -> None:
    values = helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    constant = helper.make_node("Constant", [], ["sparse"])
    constant.attribute.append(helper.make_attribute("sparse_value", helper.make_sparse_tensor(values, indices, [4])))
    _change_graph(entry, lambda graph: graph.graph.node.append(constant))


def _weights_of_an_attribute(entry: Path) -> None:
    tensor = TensorProto(name="t", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../secret")
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "inner", [], [])
    outer = helper.make_node("If", ["condition"], ["x"], then_branch=inner, else_branch=inner)
    _change_graph(entry, lambda graph: graph.graph.node.append(outer))


def _operator(domain: str, name: str) -> Callable[[Path], None]:
    def change(graph: onnx.ModelProto) -> None:
        graph.graph.node.append(helper.make_node(name, [], ["x"], domain=domain))
        graph.opset_import.append(helper.make_opsetid(domain, 1))

    return lambda entry: _change_graph(entry, change)


def _half_outside(entry: Path) -> None:
    _change_graph(entry, lambda graph: _first_outside(graph).ClearField("data_location"))


def _two_graphs(entry: Path) -> None:
    content = (entry / GRAPH).read_bytes()
    (entry / GRAPH).write_bytes(content + content)
    rehash(entry)


def _huge_length(entry: Path) -> None:
    # Field 7, two gigabytes long by its own account.
    (entry / GRAPH).write_bytes(b"\x3a\xff\xff\xff\xff\x07graph")
    rehash(entry)


def _cut(entry: Path) -> None:
    (entry / GRAPH).write_bytes((entry / GRAPH).read_bytes()[:-9])
    rehash(entry)


def _deep(entry: Path) -> None:
    graph = helper.make_graph([], "g", [], [])
    for _ in range(12):
        node = helper.make_node("If", ["c"], ["x"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
    _change_graph(entry, lambda model: model.graph.node.extend(graph.node))


def _pickled_graph(entry: Path) -> None:
    (entry / GRAPH).write_bytes(pickle.dumps({"weights": [1.0]}))
    rehash(entry)


def _pickle_beside(entry: Path) -> None:
    (entry / "1" / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def _library_beside(entry: Path) -> None:
    (entry / "1" / "libtriton_naiad.so").write_bytes(b"\x7fELF")


def _grow_by_hole(relative: Path, size_bytes: int) -> Callable[[Path], None]:
    """A sparse file takes no room on the disk, and all of the memory of whoever reads it."""

    def grow(entry: Path) -> None:
        with (entry / relative).open("r+b") as file:
            file.truncate(size_bytes)

    return grow


def _large_template(entry: Path) -> None:
    (entry / "chat_template.jinja").write_text("x" * (256 * 1024 + 1))
    rehash(entry)


def _flip_weight(entry: Path) -> None:
    content = bytearray((entry / DATA).read_bytes())
    content[3] ^= 1
    (entry / DATA).write_bytes(content)


def _cut_weights(entry: Path) -> None:
    (entry / DATA).write_bytes((entry / DATA).read_bytes()[:-4])


def _cut_weights_with_hash(entry: Path) -> None:
    _cut_weights(entry)
    rehash(entry)


def _config(old: str, new: str) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        config = (entry / "config.pbtxt").read_text()
        assert old in config
        (entry / "config.pbtxt").write_text(config.replace(old, new, 1))

    return change


def _config_and(text: str) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        config = entry / "config.pbtxt"
        config.write_text(config.read_text() + text + "\n")

    return change


def _manifest(**changes: object) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        manifest = json.loads((entry / "naiad.json").read_text())
        (entry / "naiad.json").write_text(json.dumps(manifest | changes))

    return change


def _listed_path(key: str, path: str) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        manifest = json.loads((entry / "naiad.json").read_text())
        manifest["files"][key]["path"] = path
        (entry / "naiad.json").write_text(json.dumps(manifest))

    return change


def _manifest_text(text: str) -> Callable[[Path], None]:
    def change(entry: Path) -> None:
        (entry / "naiad.json").write_text(text)

    return change


def _manifest_key_twice(entry: Path) -> None:
    text = (entry / "naiad.json").read_text()
    (entry / "naiad.json").write_text(text[:-1] + ', "name": "victim"}')


def _fifo(entry: Path) -> None:
    _replace(entry / "tokenizer.json", os.mkfifo)


@dataclass(frozen=True)
class Mischief:
    """One attack: what it does to the good entry `victim`, the file that the refusal names, and part of its cause."""

    name: str
    apply: Callable[[Path], None]
    file: str
    cause: str


_OUTSIDE = "only model.onnx.data beside it is allowed"
ALL = [
    # CVE-2022-25882, CVE-2024-27318: weights from anywhere.
    Mischief("traversal", _point_weights_to("../../../secret"), "1/model.onnx", _OUTSIDE),
    Mischief("traversal-inside", _point_weights_to("sub/../model.onnx.data"), "1/model.onnx", _OUTSIDE),
    Mischief("absolute", _point_weights_to("/etc/passwd"), "1/model.onnx", _OUTSIDE),
    Mischief("backslashes", _point_weights_to("..\\..\\secret"), "1/model.onnx", _OUTSIDE),
    Mischief("zero-byte", _point_weights_to("model.onnx.data\0.png"), "1/model.onnx", _OUTSIDE),
    # onnxruntime#28709: an address in memory instead of a file.
    Mischief("memory-marker", _point_weights_to("*/_ORT_MEM_ADDR_/*"), "1/model.onnx", _OUTSIDE),
    # CVE-2026-27489, CVE-2026-34447: links of files and of folders.
    Mischief("symlink-data", _symlink(DATA), "1/model.onnx.data", "is a symbolic link"),
    Mischief("symlink-graph", _symlink(GRAPH), "1/model.onnx", "is a symbolic link"),
    Mischief("symlink-tokenizer", _symlink(Path("tokenizer.json")), "tokenizer.json", "is a symbolic link"),
    Mischief("symlink-config", _symlink(Path("config.pbtxt")), "config.pbtxt", "is a symbolic link"),
    Mischief("symlink-manifest", _symlink(Path("naiad.json")), "naiad.json", "is a symbolic link"),
    Mischief("symlink-folder", _parent_symlink, "1", "is a symbolic link or no folder"),
    Mischief("symlink-entry", _entry_symlink, "", "is a symbolic link or no folder"),
    # CVE-2026-34446: a hard link to a file that only the server may read.
    Mischief("hard-link-data", _hard_link, "1/model.onnx.data", "the manifest says"),
    Mischief("hard-link-config", _hard_linked_config, "config.pbtxt", "is no model configuration"),
    # onnxruntime#28709: the same by way of sparse tensors.
    Mischief("sparse-outside", lambda e: _sparse(e, "../../../secret"), "1/model.onnx", "sparse tensors"),
    Mischief("sparse-inside", lambda e: _sparse(e, "model.onnx.data"), "1/model.onnx", "sparse tensors"),
    Mischief("sparse-attribute", _sparse_attribute, "1/model.onnx", "sparse tensors"),
    Mischief("attribute-in-subgraph", _weights_of_an_attribute, "1/model.onnx", _OUTSIDE),
    Mischief("half-outside", _half_outside, "1/model.onnx", "half inside and half outside"),
    Mischief("past-the-end", lambda e: _set_external(e, "offset", "999999999999"), "1/model.onnx", "which has"),
    Mischief("negative-offset", lambda e: _set_external(e, "offset", "-8"), "1/model.onnx", "no number"),
    Mischief("wrong-length", lambda e: _set_external(e, "length", "2"), "1/model.onnx", "in 2 bytes"),
    Mischief("engine-context", _operator("com.microsoft", "EPContext"), "1/model.onnx", "'EPContext'"),
    Mischief("python-operator", _operator("com.microsoft", "PythonOp"), "1/model.onnx", "'PythonOp'"),
    Mischief("unknown-domain", _operator("evil.ops", "Run"), "1/model.onnx", "unknown domain 'evil.ops'"),
    Mischief("two-graphs", _two_graphs, "1/model.onnx", "2 graphs"),
    Mischief("huge-length", _huge_length, "1/model.onnx", "ends outside"),
    Mischief("truncated", _cut, "1/model.onnx", "truncated or damaged"),
    Mischief("deep", _deep, "1/model.onnx", "nested more than"),
    # CVE-2025-32434 and all others of pickle.
    Mischief("pickled-graph", _pickled_graph, "1/model.onnx", "is a pickle"),
    Mischief("pickle-beside", _pickle_beside, "1/pytorch_model.bin", "may be a pickle"),
    Mischief("library-beside", _library_beside, "1/libtriton_naiad.so", "the manifest does not name it"),
    Mischief("oversize-manifest", _grow_by_hole(Path("naiad.json"), 1 << 40), "naiad.json", "at most"),
    Mischief("oversize-config", _grow_by_hole(Path("config.pbtxt"), 1 << 40), "config.pbtxt", "at most"),
    Mischief("oversize-tokenizer", _grow_by_hole(Path("tokenizer.json"), 1 << 40), "tokenizer.json", "at most"),
    Mischief("oversize-graph", _grow_by_hole(GRAPH, 1 << 40), "1/model.onnx", "at most"),
    Mischief("longer-data", _grow_by_hole(DATA, 1 << 40), "1/model.onnx.data", "the manifest says"),
    Mischief("large-template", _large_template, "naiad.json", "chat_template.size_bytes is not"),
    Mischief("another-hash", _flip_weight, "1/model.onnx.data", "its sha256 differs"),
    Mischief("cut-weights", _cut_weights, "1/model.onnx.data", "the manifest says"),
    Mischief("cut-weights-rehashed", _cut_weights_with_hash, "1/model.onnx", "which has"),
    Mischief("fifo", _fifo, "tokenizer.json", "is no regular file"),
    Mischief("missing", lambda e: (e / "tokenizer.json").unlink(), "tokenizer.json", "is missing"),
    # Triton's own format can name code and files.
    Mischief(
        "python-backend", _config('backend: "naiad"', 'backend: "python"'), "config.pbtxt", "backend is not naiad"
    ),
    Mischief(
        "operator-library",
        _config_and('model_operations { op_library_filename: "/tmp/evil.so" }'),
        "config.pbtxt",
        "model_operations is not allowed",
    ),
    Mischief(
        "repository-agent",
        _config_and('model_repository_agents { agents [ { name: "evil" } ] }'),
        "config.pbtxt",
        "model_repository_agents is not allowed",
    ),
    Mischief(
        "file-name",
        _config_and('default_model_filename: "../../secret"'),
        "config.pbtxt",
        "default_model_filename is not allowed",
    ),
    Mischief(
        "labels-file",
        _config('name: "embeddings"', 'label_filename: "../../secret" name: "embeddings"'),
        "config.pbtxt",
        "output.label_filename is not allowed",
    ),
    Mischief(
        "unknown-parameter",
        _config('key: "intra_op_threads"', 'key: "execution_mode"'),
        "config.pbtxt",
        "parameters has an unknown key",
    ),
    Mischief(
        "parameter-text",
        _config('string_value: "1"', 'string_value: "/etc/passwd"'),
        "config.pbtxt",
        "parameters.intra_op_threads is neither",
    ),
    Mischief("config-of-another", _config('name: "victim"', 'name: "other"'), "config.pbtxt", "names another model"),
    Mischief("listed-traversal", _listed_path("tokenizer", "../../secret"), "naiad.json", "is not tokenizer.json"),
    Mischief("listed-unknown", _manifest(files={"plugin": {}}), "naiad.json", "unknown key"),
    Mischief("manifest-of-another", _manifest(name="other"), "naiad.json", "names another model"),
    Mischief("manifest-twice", _manifest_key_twice, "naiad.json", "has a key twice"),
    Mischief("manifest-deep", _manifest_text('{"a":' * 200_000), "naiad.json", "is not valid JSON"),
    Mischief("manifest-list", _manifest_text("[]"), "naiad.json", "is no JSON object"),
]
