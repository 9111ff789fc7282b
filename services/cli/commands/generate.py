"""`naiad generate`: prints text as it appears."""

import argparse
import json
import sys
from typing import Any

from google.protobuf import json_format
from naiad.v1 import common_pb2, generation_pb2, generation_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect

SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "n",
    "best_of",
)
STOPPING_FIELDS = ("max_tokens", "min_tokens")


def run(arguments: argparse.Namespace) -> int:
    """Generates, streaming unless the result is wanted as a whole."""
    fields = _request_fields(arguments, inputs.one_text(arguments.prompt, "prompt"))
    address = addresses.resolve("generation", arguments.address)
    with connect("generation", address, arguments) as connection:
        if _wants_stream(arguments):
            return _stream(connection, generation_pb2.GenerateStreamRequest(**fields), arguments)
        return _generate(connection, generation_pb2.GenerateRequest(**fields), arguments)


def _wants_stream(arguments: argparse.Namespace) -> bool:
    several = (arguments.n or 1) > 1
    ranked = (arguments.best_of or 1) > (arguments.n or 1)
    if arguments.stream is None:
        return not (arguments.json or several or ranked)
    if arguments.stream and several and not arguments.json:
        raise exit_codes.CommandError(
            "--stream shows one completion as text; add --json for several", exit_codes.WRONG_USAGE
        )
    return bool(arguments.stream)


def _request_fields(arguments: argparse.Namespace, prompt: str) -> dict[str, Any]:
    """Fields that GenerateRequest and GenerateStreamRequest share; what was not asked for is left to the service."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    fields: dict[str, Any] = {
        "model": arguments.model,
        "sampling": generation_pb2.SamplingOptions(**{name: given[name] for name in SAMPLING_FIELDS if name in given}),
        "stopping": generation_pb2.StoppingOptions(
            **{name: given[name] for name in STOPPING_FIELDS if name in given},
            stop=arguments.stop,
            stop_token_ids=arguments.stop_token_id,
            ignore_eos=arguments.ignore_eos,
        ),
        "response": generation_pb2.ResponseOptions(
            logprobs=arguments.logprobs or arguments.top_logprobs is not None,
            top_logprobs=arguments.top_logprobs,
            echo=arguments.echo,
            return_token_ids=arguments.json,
        ),
    }
    if arguments.priority is not None:
        fields["priority"] = arguments.priority
    if arguments.prefix_cache is not None:
        fields["use_prefix_cache"] = arguments.prefix_cache
    guide = _guide(arguments)
    if guide is not None:
        fields["guide"] = guide
    if arguments.chat or arguments.system is not None:
        messages = [] if arguments.system is None else [common_pb2.ChatMessage(role="system", content=arguments.system)]
        messages.append(common_pb2.ChatMessage(role="user", content=prompt))
        fields["chat"] = common_pb2.Chat(messages=messages)
    else:
        fields["text"] = prompt
    return fields


def _guide(arguments: argparse.Namespace) -> generation_pb2.Guide | None:
    if arguments.json_schema is not None:
        return generation_pb2.Guide(json_schema=inputs.file_or_text(arguments.json_schema, "{", "--json-schema"))
    if arguments.regex is not None:
        return generation_pb2.Guide(regex=arguments.regex)
    return generation_pb2.Guide(json_object=True) if arguments.json_object else None


def _stream(
    connection: Connection, request: generation_pb2.GenerateStreamRequest, arguments: argparse.Namespace
) -> int:
    stub = generation_pb2_grpc.GenerationServiceStub(connection.channel)
    call = stub.GenerateStream(request, timeout=connection.timeout_s)
    wrote_text = False
    try:
        for response in call:
            event = response.WhichOneof("event")
            if arguments.json:
                print(_as_json(response, indent=None), flush=True)
            elif event == "delta":
                wrote_text = True
                print(response.delta.text, end="", flush=True)
            if event == "summary" and arguments.timings:
                _print_timings(response.summary.usage, response.summary.timings, wrote_text)
    finally:
        # After Ctrl-C, or when nobody reads the output any more, the work must not go on.
        call.cancel()
        if wrote_text:
            print(flush=True)
    return exit_codes.OK


def _generate(connection: Connection, request: generation_pb2.GenerateRequest, arguments: argparse.Namespace) -> int:
    stub = generation_pb2_grpc.GenerationServiceStub(connection.channel)
    response = stub.Generate(request, timeout=connection.timeout_s)
    if arguments.json:
        print(_as_json(response, indent=2))
    else:
        several = len(response.completions) > 1
        for completion in response.completions:
            print(f"[{completion.index}] {completion.text}" if several else completion.text)
    if arguments.timings:
        _print_timings(response.usage, response.timings, after_text=False)
    return exit_codes.OK


def _as_json(
    message: generation_pb2.GenerateResponse | generation_pb2.GenerateStreamResponse, indent: int | None
) -> str:
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(fields, ensure_ascii=False, indent=indent)


def _print_timings(usage: generation_pb2.Usage, timings: generation_pb2.Timings, after_text: bool) -> None:
    decode_s = timings.decode.ToTimedelta().total_seconds()
    # The first token comes from the prefill; decoding makes the others.
    rate = f", {(usage.completion_tokens - 1) / decode_s:.1f} tokens/s" if decode_s > 0 else ""
    times = [
        f"{name} {getattr(timings, field).ToTimedelta().total_seconds() * 1e3:.1f} ms"
        for name, field in (
            ("first token", "time_to_first_token"),
            ("queue", "queue"),
            ("prefill", "prefill"),
            ("decode", "decode"),
        )
    ]
    tokens = f"{usage.prompt_tokens} prompt tokens ({usage.cached_prompt_tokens} cached), {usage.completion_tokens} new"
    print(f"{chr(10) if after_text else ''}[{tokens}; {', '.join(times)}{rate}]", file=sys.stderr, flush=True)
