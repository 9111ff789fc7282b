"""Manifest entries as the API shows them."""

from naiad.v1 import common_pb2

from services.common.registry import ModelEntry, Task

_TASKS = {
    Task.GENERATE: common_pb2.MODEL_TASK_GENERATE,
    Task.EMBED: common_pb2.MODEL_TASK_EMBED,
    Task.CLASSIFY: common_pb2.MODEL_TASK_CLASSIFY,
    Task.CLASSIFY_TOKENS: common_pb2.MODEL_TASK_CLASSIFY_TOKENS,
}


def model_info(entry: ModelEntry, ready: bool) -> common_pb2.ModelInfo:
    """The entry as ModelInfo; `ready` tells whether it can serve a request now."""
    return common_pb2.ModelInfo(
        name=entry.name,
        task=_TASKS[entry.task],
        architecture=entry.architecture,
        precision=entry.precision,
        context_length_tokens=entry.context_length_tokens,
        vocabulary_size=entry.vocabulary_size,
        labels=entry.labels,
        hidden_size=entry.hidden_size,
        ready=ready,
        has_chat_template=entry.chat_template_path is not None,
    )
