"""The export: load, trace, optimise, verify, quantise, write. Nothing reaches the repository before all succeeded."""

from __future__ import annotations

import importlib
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from exporters.cuda_graph import check_cuda, to_cuda
from exporters.decoder_graph import DecoderShape, decoder_shape, export_decoder
from exporters.encoder_graph import EncoderShape, encoder_shape, export_encoder
from exporters.encoder_heads import activation, labels, pooling, trained_length_tokens, training_report
from exporters.errors import ExportError
from exporters.fuse_attention import fuse_attention
from exporters.gguf_cache import parsed_once
from exporters.graph_files import GRAPH, save_graph
from exporters.kv_cache_graph import use_int8_cache
from exporters.loading import choose_task, load_model, load_tokenizer, reference_attention
from exporters.manifest import MANIFEST_FILE, Manifest, describe_files
from exporters.optimise import optimise
from exporters.options import EXPORTER_VERSION, Device, EncoderTask, ExportOptions, KvCache, Task, Weights
from exporters.own_weights import chosen_kv_cache, chosen_weights
from exporters.quality import check_perplexity, perplexity, quality_text
from exporters.quantise import quantise, quantise_encoder
from exporters.runtime import PagedDecoder, find_ops_library, open_session
from exporters.source import Source, find_source, first_line, source_hash
from exporters.tokenizer_files import special_tokens, write_tokenizer
from exporters.triton_config import triton_config
from exporters.verify_cuda import blocks_needed, verify_cuda
from exporters.verify_decoder import verify_decoder
from exporters.verify_encoder import compare_quantised, verify_encoder
from exporters.verify_kv_cache import verify_int8_cache
from exporters.writer import publish, refuse_existing, staging
from services.common.model_scan import ModelScanError, scan_entry

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FLOAT_FOLDER = ".fp32"


@dataclass
class _Export:
    """What one export knows so far."""

    options: ExportOptions
    source: Source
    task: Task
    weights: Weights
    kv_cache: KvCache
    ops_library: Path
    model: Any = None
    tokenizer: Any = None
    shape: Any = None
    text_ids: list[int] | None = None


def export_checkpoint(options: ExportOptions) -> Manifest:
    """Exports a checkpoint into the repository and returns the manifest of the new entry.

    Raises ExportError, with one line that says what is wrong, and then leaves the repository as it was.
    """
    if not _NAME.fullmatch(options.name):
        raise ExportError(f"'{options.name}' is no model name: use letters, digits, '_' and '-'")
    refuse_existing(options.repository, options.name, options.force)
    source = find_source(options.checkpoint)
    task = choose_task(source, options.task)
    weights = chosen_weights(options, source, task)
    if options.cuda and (task != "generate" or weights != "fp32"):
        raise ExportError("only decoders with unquantised weights can be exported for cuda")
    kv_cache = chosen_kv_cache(options, task, weights)
    if kv_cache == "int8" and (task != "generate" or options.cuda):
        raise ExportError("only decoders for the CPU can have an 8-bit KV cache")
    export = _Export(options, source, task, weights, kv_cache, find_ops_library(options.ops_library))
    with _quiet_libraries(), staging(options.repository, options.name) as folder:
        with _phase(options, "load"), parsed_once():
            _load(export)
        with _phase(options, "export"):
            graph = _trace(export)
        with _phase(options, "optimise"):
            optimise(graph)
            if not export.options.cuda:
                fuse_attention(graph)
        manifest = _verify_and_quantise(export, graph, folder)
        with _phase(options, "write"):
            _write_texts(export, manifest, folder)
            _scan(folder, options.name)
            publish(folder, options.repository, options.name, options.force)
    return manifest


@contextmanager
def _phase(options: ExportOptions, name: str) -> Iterator[None]:
    options.on_phase(name, None)
    begin = time.perf_counter()
    try:
        yield
    finally:
        options.on_phase(name, time.perf_counter() - begin)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """torch and transformers talk while they load and trace; an export's output is its phases."""
    import logging
    from functools import partialmethod

    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    bar: Any = importlib.import_module("tqdm.auto").tqdm
    bar_init = bar.__init__
    bar.__init__ = partialmethod(bar_init, disable=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        bar.__init__ = bar_init
        logging.disable(before)


def _load(export: _Export) -> None:
    export.model = load_model(export.source, export.task)
    export.tokenizer = load_tokenizer(export.source)
    if export.task == "generate":
        export.shape = decoder_shape(export.model.config)
        if export.options.cuda:
            check_cuda(export.shape, export.options.cuda)
    else:
        export.shape = encoder_shape(export.model, trained_length_tokens(export.source.directory))
    ids = export.tokenizer(quality_text(), add_special_tokens=False, truncation=False)["input_ids"]
    if not ids or max(ids) >= export.shape.vocabulary_size:
        raise ExportError(f"{export.source.asked}: its tokenizer gives token ids that its vocabulary does not have")
    export.text_ids = ids


def _trace(export: _Export) -> Any:
    try:
        if export.task == "generate":
            return export_decoder(export.model, export.shape)
        return export_encoder(export.model, export.shape, export.task)
    except ExportError:
        raise
    except Exception as error:  # torch wraps whatever went wrong, ours included, in errors of its own
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ExportError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from None
        architecture = type(export.model).__name__
        raise ExportError(f"{architecture} cannot be traced into a packed graph: {first_line(error)}") from error
    finally:
        reference_attention(export.model)


def _verify_and_quantise(export: _Export, graph: Any, folder: Path) -> Manifest:
    """Verifies the float graph first; the quantised one is then measured against it."""
    quantised = export.weights != "fp32"
    float_folder = folder / (_FLOAT_FOLDER if quantised or export.options.cuda else "1")
    save_graph(graph, float_folder)
    with _phase(export.options, "verify"):
        session = open_session(float_folder / GRAPH, export.ops_library)
        parity = _verify(export, session)
    quality: dict[str, Any] = {}
    if export.task == "generate":
        with _phase(export.options, "measure"):
            quality = _perplexity_report(export, session)
    if quantised:
        with _phase(export.options, "quantise"):
            quality["quantised_products"] = _quantise(export, graph)
            save_graph(graph, folder / "1")
        with _phase(export.options, "measure"):
            small = open_session(folder / "1" / GRAPH, export.ops_library)
            quality |= _measure_quantised(export, session, small, quality)
        del small
    if export.kv_cache == "int8":
        with _phase(export.options, "kv cache"):
            quality["kv_cache"] = _round_cache(export, folder / "1" / GRAPH)
    if export.options.cuda:
        with _phase(export.options, "cuda"):
            parity |= _write_cuda_graph(export, graph, session, folder / "1")
    if float_folder.name == _FLOAT_FOLDER:
        shutil.rmtree(float_folder)
    return _manifest(export, parity, quality)


def _quantise(export: _Export, graph: Any) -> int:
    if export.task != "generate" and export.weights == "int8":
        return quantise_encoder(graph)
    bits: Literal[4, 8] = 4 if export.weights == "int4" else 8
    return quantise(graph, bits, export.shape.vocabulary_size)


def _round_cache(export: _Export, graph: Path) -> dict[str, Any]:
    """Gives the graph that is to be served an 8-bit cache; returns the quality report."""
    assert export.text_ids is not None
    float_decoder = (open_session(graph, export.ops_library), export.shape)
    export.shape = use_int8_cache(graph, export.shape)
    return verify_int8_cache(float_decoder, (open_session(graph, export.ops_library), export.shape), export.text_ids)


def _write_cuda_graph(export: _Export, graph: Any, session: Any, folder: Path) -> dict[str, Any]:
    """Rewrites and saves the verified graph; returns what the parity report says about the result."""
    options, float_shape = export.options.cuda, export.shape
    assert options is not None and export.text_ids is not None
    export.shape = to_cuda(graph, float_shape, options)
    save_graph(graph, folder)
    reference = PagedDecoder(session, float_shape, blocks_needed(float_shape))
    found = verify_cuda(folder / GRAPH, export.shape, options.precision, reference, export.text_ids)
    return {"graph": "float32 on the CPU, from which the graph for cuda was made", **found}


def _scan(folder: Path, name: str) -> None:
    """What `naiad serve` would refuse must not come into the repository."""
    try:
        scan_entry(folder, name=name)
    except ModelScanError as error:
        raise ExportError(f"the new entry would not be served: {error}") from error


def _verify(export: _Export, session: Any) -> dict[str, Any]:
    assert export.text_ids is not None
    if export.task == "generate":
        return verify_decoder(export.model, session, export.shape, export.text_ids)
    return verify_encoder(export.model, session, export.shape, export.text_ids, export.task)


def _perplexity_report(export: _Export, session: Any) -> dict[str, Any]:
    assert export.text_ids is not None
    return {
        "text": "exporters/data/quality_text.txt",
        "text_tokens": len(export.text_ids),
        "perplexity_fp32": perplexity(session, export.shape, export.text_ids),
    }


def _measure_quantised(export: _Export, session: Any, small: Any, quality: dict[str, Any]) -> dict[str, Any]:
    assert export.text_ids is not None
    if export.task != "generate":
        return compare_quantised(session, small, export.shape, export.text_ids, export.task)
    value = perplexity(small, export.shape, export.text_ids)
    check_perplexity(export.weights, value, quality["perplexity_fp32"])
    return {
        f"perplexity_{export.weights}": value,
        "perplexity_increase": value / quality["perplexity_fp32"] - 1.0,
    }


def _manifest(export: _Export, parity: dict[str, Any], quality: dict[str, Any]) -> Manifest:
    shape, config = export.shape, export.model.config
    source = {
        "checkpoint": Path(export.source.asked).name if Path(export.source.asked).exists() else export.source.asked,
        "sha256": export.options.source_hash or source_hash(export.source),
        "exporter_version": EXPORTER_VERSION,
        "weights": export.weights,
    }
    return Manifest(
        name=export.options.name,
        task=export.task,
        architecture=str(config.model_type),
        precision=export.options.cuda.precision if export.options.cuda else export.weights,
        limits={
            "context_length_tokens": shape.context_length_tokens,
            "vocabulary_size": shape.vocabulary_size,
        },
        special_tokens=special_tokens(export.model, export.tokenizer),
        device="cuda" if export.options.cuda else None,
        decoder=_decoder_section(shape) if export.task == "generate" else None,
        encoder=_encoder_section(export, export.task) if export.task != "generate" else None,
        labels=labels(config) if export.task in ("classify", "classify_tokens") else None,
        parity=parity,
        quality=quality,
        source=source,
        training=training_report(export.source.directory),
    )


def _decoder_section(shape: DecoderShape) -> dict[str, Any]:
    section = asdict(shape)
    if shape.kv_cache_type == "float":  # The default, so that such manifests are as they always were.
        del section["kv_cache_type"]
    for elsewhere in ("vocabulary_size", "context_length_tokens"):
        del section[elsewhere]
    return section


def _encoder_section(export: _Export, task: EncoderTask) -> dict[str, Any]:
    shape: EncoderShape = export.shape
    method, normalize = pooling(export.source.directory)
    return {
        "hidden_size": shape.hidden_size,
        "pooling": method,
        "normalize": normalize,
        "uses_token_type_ids": shape.uses_token_type_ids,
        "activation": activation(export.model.config, task),
    }


def _write_texts(export: _Export, manifest: Manifest, folder: Path) -> None:
    write_tokenizer(export.tokenizer, folder)
    width = len(manifest.labels) if manifest.labels else getattr(export.shape, "hidden_size", 0)
    device: Device = "cuda" if export.options.cuda else "cpu"
    config = triton_config(export.options.name, export.task, width, export.options.model_parameters, device)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    manifest.files.update(describe_files(folder))
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
