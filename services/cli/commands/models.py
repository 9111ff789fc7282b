"""`naiad models`: what the services can serve."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable

from naiad.v1 import (
    classification_pb2,
    classification_pb2_grpc,
    common_pb2,
    generation_pb2,
    generation_pb2_grpc,
    tokenization_pb2,
    tokenization_pb2_grpc,
)

from services.cli import addresses, exit_codes
from services.cli.connection import Connection, connect
from services.cli.table import format_table

HEADER = ("NAME", "TASK", "ARCHITECTURE", "PRECISION", "CONTEXT", "READY")


def run(arguments: argparse.Namespace) -> int:
    """Asks all three services; one that does not answer is reported after the models of the others."""
    models: dict[str, common_pb2.ModelInfo] = {}
    problems: list[exit_codes.CommandError] = []
    # The tokenization service knows every model, but not whether its engine is ready: the others' word counts more.
    for service, list_models in LISTS.items():
        address = addresses.resolve(service, getattr(arguments, f"{service}_address"))
        try:
            with connect(service, address, arguments) as connection:
                models |= {model.name: model for model in list_models(connection)}
        except exit_codes.CommandError as error:
            problems.append(error)
    listed = [models[name] for name in sorted(models)]
    if arguments.json:
        for model in listed:
            print(json.dumps(_as_json(model), ensure_ascii=False))
    elif listed:
        print(format_table(HEADER, [_row(model) for model in listed]))
    for problem in problems:
        print(f"naiad: {problem}", file=sys.stderr)
    return max((problem.exit_code for problem in problems), default=exit_codes.OK)


def _list_tokenization(connection: Connection) -> Iterable[common_pb2.ModelInfo]:
    stub = tokenization_pb2_grpc.TokenizationServiceStub(connection.channel)
    return stub.ListModels(tokenization_pb2.TokenizationServiceListModelsRequest(), timeout=connection.timeout_s).models


def _list_generation(connection: Connection) -> Iterable[common_pb2.ModelInfo]:
    stub = generation_pb2_grpc.GenerationServiceStub(connection.channel)
    return stub.ListModels(generation_pb2.GenerationServiceListModelsRequest(), timeout=connection.timeout_s).models


def _list_classification(connection: Connection) -> Iterable[common_pb2.ModelInfo]:
    stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
    return stub.ListModels(
        classification_pb2.ClassificationServiceListModelsRequest(), timeout=connection.timeout_s
    ).models


LISTS: dict[str, Callable[[Connection], Iterable[common_pb2.ModelInfo]]] = {
    "tokenization": _list_tokenization,
    "generation": _list_generation,
    "classification": _list_classification,
}


def _task(model: common_pb2.ModelInfo) -> str:
    return common_pb2.ModelTask.Name(model.task).removeprefix("MODEL_TASK_").lower()


def _row(model: common_pb2.ModelInfo) -> tuple[str, ...]:
    context = str(model.context_length_tokens)
    return (model.name, _task(model), model.architecture, model.precision, context, "yes" if model.ready else "no")


def _as_json(model: common_pb2.ModelInfo) -> dict[str, object]:
    return {
        "name": model.name,
        "task": _task(model),
        "architecture": model.architecture,
        "precision": model.precision,
        "context_length_tokens": model.context_length_tokens,
        "vocabulary_size": model.vocabulary_size,
        "labels": list(model.labels),
        "hidden_size": model.hidden_size,
        "ready": model.ready,
        "has_chat_template": model.has_chat_template,
    }
