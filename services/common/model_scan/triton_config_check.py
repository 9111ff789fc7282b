"""config.pbtxt may say only what naiad's exporters write: Triton's format can name libraries and files to load."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from services.common.model_scan.errors import ModelScanError
from services.common.model_scan.limits import CONFIG, PARAMETERS

BACKEND = "naiad"
_TOP = frozenset(
    {"name", "backend", "max_batch_size", "input", "output", "instance_group", "parameters", "model_transaction_policy"}
)
_TENSOR = frozenset({"name", "data_type", "dims", "optional"})
_INSTANCES = frozenset({"count", "kind", "gpus"})
_VALUE = re.compile(r"[0-9]{1,19}|[0-9]{1,9}\.[0-9]{1,9}|true|false")


def check_triton_config(content: bytes, name: str) -> None:
    """Raises ModelScanError unless this is a configuration of the model `name` for naiad's backend."""
    config = _parse(content)
    _check_fields(config, _TOP, "")
    if config.name != name:
        raise ModelScanError(CONFIG, "names another model than its folder")
    if config.backend != BACKEND:
        raise ModelScanError(CONFIG, f"backend is not {BACKEND}")
    for kind, messages in (("input", config.input), ("output", config.output)):
        _check_all(messages, _TENSOR, f"{kind}.")
    _check_all(config.instance_group, _INSTANCES, "instance_group.")
    for key, value in sorted(config.parameters.items()):
        if key not in PARAMETERS:
            raise ModelScanError(CONFIG, f"parameters has an unknown key; known are {', '.join(sorted(PARAMETERS))}")
        if not _VALUE.fullmatch(value.string_value):
            raise ModelScanError(CONFIG, f"parameters.{key} is neither a number nor true or false")


def _parse(content: bytes) -> Any:
    # Imported late: the package brings all of gRPC with it.
    from tritonclient.grpc import model_config_pb2

    config = model_config_pb2.ModelConfig()
    try:
        text_format.Parse(content.decode("utf-8"), config)
    except text_format.ParseError as error:
        # Its text would quote the file, which may be anybody's by a link.
        raise ModelScanError(CONFIG, f"is no model configuration of Triton (line {error.GetLine()})") from None
    except (ValueError, RecursionError):
        raise ModelScanError(CONFIG, "is no model configuration of Triton") from None
    return config


def _check_all(messages: Iterable[Message], known: frozenset[str], path: str) -> None:
    for message in messages:
        _check_fields(message, known, path)


def _check_fields(message: Message, known: frozenset[str], path: str) -> None:
    for descriptor, _ in message.ListFields():
        if descriptor.name not in known:
            raise ModelScanError(CONFIG, f"{path}{descriptor.name} is not allowed")
