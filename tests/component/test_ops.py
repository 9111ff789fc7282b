"""naiad's operators inside Python's ONNX Runtime: attention on the synthetic models, linear layers alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from exporters.pack_linear import pack, unpack
from tests.synthetic import make_decoder as decoder
from tests.synthetic import make_encoder as encoder
from tests.synthetic.graph_builder import FLOAT, INT32, UINT8, GraphBuilder

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def ops_library() -> Path:
    """libnaiad_ops.so: $NAIAD_OPS_LIBRARY, or what `make core` builds."""
    path = Path(os.environ.get("NAIAD_OPS_LIBRARY", ROOT / "build" / "core" / "libnaiad_ops.so"))
    if not path.is_file():
        pytest.fail(f"{path} is missing; run: make core")
    return path


def _session(entry: Path, ops_library: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(ops_library))
    options.intra_op_num_threads = 2
    return ort.InferenceSession(str(entry / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"])


class Pool:
    """A KV pool driven by hand: sequences with block lists, and steps over any mix of them."""

    def __init__(self, session: ort.InferenceSession, spec: decoder.DecoderSpec, num_blocks: int) -> None:
        self._session = session
        self._spec = spec
        # Whatever lies in blocks that are not in use must not matter: NaN, as a float or as the scale of an 8-bit row.
        nothing = np.uint8(255) if spec.kv_cache_type == "int8" else np.float32(np.nan)
        names = [f"{kind}_cache.{n}" for n in range(spec.num_layers) for kind in ("key", "value")]
        self.caches = {name: np.full(spec.cache_shape(num_blocks), nothing) for name in names}
        self._free = [int(b) for b in np.random.default_rng(7).permutation(num_blocks)]
        self.blocks: dict[str, list[int]] = {}
        self.lengths: dict[str, int] = {}

    def step(self, work: Mapping[str, Sequence[int]]) -> dict[str, npt.NDArray[np.float32]]:
        """Feeds new tokens of several sequences in one run; returns each one's logits [tokens, vocabulary]."""
        past = [self.lengths.get(key, 0) for key in work]
        for key, tokens in work.items():
            self.lengths[key] = self.lengths.get(key, 0) + len(tokens)
            blocks = self.blocks.setdefault(key, [])
            while len(blocks) * self._spec.kv_block_tokens < self.lengths[key]:
                blocks.append(self._free.pop())
        table = np.full((len(work), 1 + max(len(self.blocks[key]) for key in work)), -1, np.int32)
        for index, key in enumerate(work):
            table[index, : len(self.blocks[key])] = self.blocks[key]
        bounds = np.cumsum([0, *map(len, work.values())])
        feeds = {
            "input_ids": np.concatenate([np.asarray(tokens, np.int64) for tokens in work.values()]),
            "position_ids": np.concatenate(
                [np.arange(start, start + len(tokens)) for start, tokens in zip(past, work.values(), strict=True)]
            ),
            "cu_seqlens": bounds.astype(np.int32),
            "past_lens": np.asarray(past, np.int32),
            "block_table": table,
            "logit_rows": np.arange(bounds[-1]),
            **self.caches,
        }
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
        self.caches = {name: outputs[name.replace("_cache.", "_cache_out.")] for name in self.caches}
        return {key: outputs["logits"][bounds[i] : bounds[i + 1]] for i, key in enumerate(work)}


@pytest.fixture(params=["float", "int8"])
def pool(request: pytest.FixtureRequest, tmp_path: Path, ops_library: Path) -> Pool:
    """A pool of each type of KV cache; the tokens are the same."""
    spec = decoder.DecoderSpec(kv_cache_type=request.param)
    return Pool(_session(decoder.make_decoder(tmp_path, spec=spec), ops_library), spec, num_blocks=40)


def _random_tokens(seed: int, count: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 64, count)]


def test_the_synthetic_decoder_follows_its_closed_form_up_to_its_full_context(pool: Pool) -> None:
    prompt = _random_tokens(1, 512)
    logits = pool.step({"a": prompt})["a"]
    np.testing.assert_array_equal(logits, decoder.expected_logits(decoder.DecoderSpec(), prompt))


def test_largest_sums_still_round_to_the_right_integers(pool: Pool) -> None:
    prompt = [63] * 512
    logits = pool.step({"a": prompt})["a"]
    np.testing.assert_array_equal(logits.argmax(axis=1), decoder.next_tokens(decoder.DecoderSpec(), prompt))


def test_sequences_in_one_step_keep_to_their_own_blocks_whatever_their_mix(pool: Pool) -> None:
    histories = {"a": _random_tokens(2, 90), "b": _random_tokens(3, 65), "c": _random_tokens(4, 33)}
    steps = [{"a": 40}, {"a": 1, "b": 17}, {"b": 31, "a": 39, "c": 16}, {"c": 1, "a": 10, "b": 1}, {"b": 16, "c": 16}]
    done = dict.fromkeys(histories, 0)
    for step in steps:
        work = {key: histories[key][done[key] : done[key] + count] for key, count in step.items()}
        logits = pool.step(work)
        for key, count in step.items():
            done[key] += count
            expected = decoder.expected_logits(decoder.DecoderSpec(), histories[key][: done[key]])[-count:]
            np.testing.assert_array_equal(logits[key], expected)
    assert done == {key: len(history) for key, history in histories.items()}


def test_a_neighbours_block_shows_as_a_wrong_token(pool: Pool) -> None:
    prompt = _random_tokens(5, 40)
    pool.step({"a": prompt, "b": _random_tokens(6, 40)})
    pool.blocks["a"][1] = pool.blocks["b"][1]
    token = pool.step({"a": [5]})["a"][-1].argmax()
    assert token != decoder.next_tokens(decoder.DecoderSpec(), [*prompt, 5])[-1]


def test_a_length_that_is_off_by_one_shows_as_a_wrong_token(pool: Pool) -> None:
    prompt = _random_tokens(5, 40)
    pool.step({"a": prompt})
    pool.lengths["a"] -= 1
    token = pool.step({"a": [5]})["a"][-1].argmax()
    assert token != decoder.next_tokens(decoder.DecoderSpec(), [*prompt, 5])[-1]


def test_a_block_outside_the_pool_is_refused_by_name(pool: Pool) -> None:
    pool.blocks["a"] = [40]
    with pytest.raises(Exception, match="block_table names block 40 for sequence 0; the pool has 40"):
        pool.step({"a": [1]})


def test_a_cache_with_rows_of_another_width_is_refused(tmp_path: Path, ops_library: Path) -> None:
    spec = decoder.DecoderSpec(kv_cache_type="int8")
    model = decoder.build_graph(spec)
    for tensor in [*model.graph.input, *model.graph.output]:
        if "_cache" in tensor.name:
            tensor.type.tensor_type.shape.dim[3].dim_value = spec.head_size
    (tmp_path / "1").mkdir()
    onnx.save(model, tmp_path / "1" / "model.onnx")
    narrow = Pool(_session(tmp_path, ops_library), spec, num_blocks=2)
    narrow.caches = {name: cache[..., : spec.head_size].copy() for name, cache in narrow.caches.items()}
    with pytest.raises(Exception, match=r"must have shape \[blocks, kv_num_heads, block, 12\]"):
        narrow.step({"a": [1]})


@pytest.mark.parametrize("task", ["embed", "classify", "classify_tokens"])
def test_the_synthetic_encoder_follows_its_closed_form_for_packed_texts(
    tmp_path: Path, ops_library: Path, task: str
) -> None:
    entry = encoder.make_encoder(tmp_path, spec=encoder.EncoderSpec(task=task))
    session = _session(entry, ops_library)
    texts = [_random_tokens(n, length) for n, length in enumerate([1, 7, 64, 200, 33])]
    types = [[i % 2 for i in range(len(text))] for text in texts]
    feeds = {
        "input_ids": np.concatenate(texts),
        "position_ids": np.concatenate([np.arange(len(text)) for text in texts]),
        "token_type_ids": np.concatenate(types),
        "cu_seqlens": np.cumsum([0, *map(len, texts)]).astype(np.int32),
    }
    (output,) = session.run(None, feeds)
    pairs = list(zip(texts, types, strict=True))
    if task == "embed":
        expected = np.concatenate([encoder.expected_hidden(x, y) for x, y in pairs])
    elif task == "classify_tokens":
        expected = np.concatenate([encoder.expected_token_logits(x, y) for x, y in pairs])
    else:
        expected = np.stack([encoder.expected_logits(x, y) for x, y in pairs])
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def test_shapes_pass_through_the_operators_for_the_runtime_to_plan_with(tmp_path: Path, ops_library: Path) -> None:
    graph = GraphBuilder()
    inputs = [graph.input(name, FLOAT, ["tokens", 32]) for name in ("query", "key", "value")]
    heads = {"num_heads": 4, "kv_num_heads": 4}
    bounds = graph.input("cu_seqlens", INT32, ["texts_plus_1"])
    graph.naiad_node("PackedAttention", [*inputs, bounds], ["attention"], **heads, scale=1.0, local_window_size=-1)
    model = graph.model("shapes")
    model.graph.output.append(onnx.helper.make_tensor_value_info("attention", FLOAT, None))
    (tmp_path / "1").mkdir()
    onnx.save(model, tmp_path / "1" / "model.onnx")
    (output,) = _session(tmp_path, ops_library).get_outputs()
    assert output.shape == ["tokens", 32]


def _linear_session(tmp_path: Path, ops_library: Path, inputs: int, packed: Any, **attributes: Any) -> Any:
    """A graph of one Linear; `packed` is an array, or None for a weight that is no constant."""
    graph = GraphBuilder()
    x = graph.input("x", FLOAT, ["rows", inputs])
    weight = graph.input("packed", UINT8, [1, 1]) if packed is None else graph.constant(packed, np.uint8)
    graph.naiad_node("Linear", [x, weight], ["y"], **{"factor": 1.0, "gated": 0, **attributes})
    model = graph.model("linear")
    model.graph.output.append(onnx.helper.make_tensor_value_info("y", FLOAT, None))
    (tmp_path / "1").mkdir(exist_ok=True)
    onnx.save(model, tmp_path / "1" / "model.onnx")
    return _session(tmp_path, ops_library)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 48), (100, 33)])
def test_a_linear_layer_is_the_product_with_what_its_weights_stand_for(
    tmp_path: Path, ops_library: Path, bits: Literal[4, 8], inputs: int, outputs: int
) -> None:
    random = np.random.default_rng(8)
    packed = pack(random.normal(size=(inputs, outputs)).astype(np.float32), bits)
    sizes = {"K": inputs, "N": outputs, "bits": bits}
    session = _linear_session(tmp_path, ops_library, inputs, packed.packed, factor=packed.factor, **sizes)
    x = random.normal(size=(70, inputs)).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    expected = x @ unpack(packed, inputs, outputs, bits)
    # 8-bit activations: each is off by at most half of 1/127 of the largest of its block, independently.
    np.testing.assert_allclose(y, expected, atol=0.04 * np.sqrt(inputs))
    for row in (0, 5, 69):
        np.testing.assert_array_equal(session.run(None, {"x": x[row : row + 1]})[0], y[row : row + 1])
    assert session.run(None, {"x": x[:0]})[0].shape == (0, outputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 5}, "bits is 5; it must be 4 or 8"),
        ({"gated": 2}, "gated is 2; it must be 0 or 1"),
        ({"N": 17}, "packed has 640 bytes; expected 1280"),
        ({"K": 0}, "K is 0; it must be 1 to 16777216"),
        ({"N": 1 << 40}, "N is 0; it must be 1 to 16777216"),
        ({"factor": float("nan")}, "factor must be finite"),
        ({"packed": None}, "packed must be a constant of the graph"),
    ],
)
def test_a_linear_layer_that_makes_no_sense_is_refused_when_it_loads(
    tmp_path: Path, ops_library: Path, change: dict[str, Any], message: str
) -> None:
    packed = pack(np.ones((64, 16), np.float32), 4).packed
    with pytest.raises(Exception, match=message):
        _linear_session(tmp_path, ops_library, 64, **{"packed": packed, "K": 64, "N": 16, "bits": 4, **change})


def test_a_linear_layer_refuses_rows_of_another_width(tmp_path: Path, ops_library: Path) -> None:
    packed = pack(np.ones((64, 16), np.float32), 4).packed
    session = _linear_session(tmp_path, ops_library, 65, packed, K=64, N=16, bits=4)
    with pytest.raises(Exception, match="input is 65 wide; expected 64"):
        session.run(None, {"x": np.ones((2, 65), np.float32)})


def _run(tmp_path: Path, ops_library: Path, graph: GraphBuilder, outputs: Sequence[str], feeds: dict[str, Any]) -> Any:
    model = graph.model("one")
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in outputs)
    (tmp_path / "1").mkdir(exist_ok=True)
    onnx.save(model, tmp_path / "1" / "model.onnx")
    return _session(tmp_path, ops_library).run(list(outputs), feeds)


def test_a_linear_layer_normalises_what_it_multiplies_and_adds_the_residual(tmp_path: Path, ops_library: Path) -> None:
    random = np.random.default_rng(9)
    packed = pack(random.normal(size=(96, 40)).astype(np.float32), 8)
    gain = random.normal(size=96).astype(np.float32)
    x, residual = (random.normal(size=(5, width)).astype(np.float32) for width in (96, 40))
    graph = GraphBuilder()
    inputs = [graph.input("x", FLOAT, ["rows", 96]), graph.constant(packed.packed, np.uint8), ""]
    inputs += [graph.constant(gain, np.float32), graph.input("residual", FLOAT, ["rows", 40])]
    sizes = {"K": 96, "N": 40, "bits": 8, "factor": packed.factor, "gated": 0, "epsilon": 0.01}
    graph.naiad_node("Linear", inputs, ["y"], **sizes)
    (y,) = _run(tmp_path, ops_library, graph, ["y"], {"x": x, "residual": residual})
    normalised = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 0.01) * gain
    np.testing.assert_allclose(y, normalised @ unpack(packed, 96, 40, 8) + residual, atol=0.4)


@pytest.mark.parametrize("angles", [0, 2, 4])
def test_attention_takes_query_key_and_value_apart_or_in_one_and_turns_them(
    tmp_path: Path, ops_library: Path, angles: int
) -> None:
    random = np.random.default_rng(10)
    query, key, value = (random.normal(size=(1, 7, width)).astype(np.float32) for width in (32, 16, 16))
    phase = random.uniform(-3, 3, (1, 7, angles)).astype(np.float32)
    cos, sin = np.cos(phase), np.sin(phase)

    def turned(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        heads = rows.reshape(7, -1, 8).copy()
        first, second = heads[..., :angles].copy(), heads[..., angles : 2 * angles].copy()
        heads[..., :angles] = first * cos[0, :, None] - second * sin[0, :, None]
        heads[..., angles : 2 * angles] = second * cos[0, :, None] + first * sin[0, :, None]
        return heads.reshape(1, 7, -1)

    def attend(parts: list[npt.NDArray[np.float32] | None], rotates: bool) -> Any:
        graph = GraphBuilder()
        inputs = ["" if part is None else graph.constant(part, np.float32) for part in parts]
        inputs += [graph.input(f"{kind}_cache", FLOAT, ["blocks", 2, 4, 8]) for kind in ("key", "value")]
        inputs += [graph.constant(ints, np.int32) for ints in ([0, 7], [0], [[1, 0]])]
        inputs += [graph.constant(part, np.float32) for part in (cos, sin)] if rotates else []
        outputs = ["output", "key_cache_out", "value_cache_out"]
        attributes = {"num_heads": 4, "kv_num_heads": 2, "scale": 0.3, "softcap": 0.0, "local_window_size": -1}
        graph.naiad_node("PagedAttention", inputs, outputs, **attributes)
        caches = {f"{kind}_cache": np.zeros((2, 2, 4, 8), np.float32) for kind in ("key", "value")}
        return _run(tmp_path, ops_library, graph, outputs, caches)

    expected = attend([turned(query), turned(key), value], rotates=False)
    apart = attend([query, key, value], rotates=angles > 0)
    packed = attend([np.concatenate([query, key, value], axis=-1), None, None], rotates=angles > 0)
    for got in (apart, packed):
        assert got[0].shape == (1, 7, 32)
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(packed, apart, strict=True):
        np.testing.assert_array_equal(ours, theirs)
