"""A gRPC client that knows nothing of naiad but an address: everything else comes from server reflection.

Run as a script: `reflection_client.py ADDRESS`, one JSON object a line on standard input, each with the keys
"service", "method" and "request"; answers with one JSON array of responses a line. Uses no generated code of naiad.
"""

import json
import sys
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class ReflectionClient:
    """Calls any method of a server by name, with requests and responses as JSON-like dictionaries."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        """Full names of the services that the server has."""
        return sorted(self._database.get_services())

    def methods(self, service: str) -> list[str]:
        """Names of the methods of a service."""
        return sorted(self._pool.FindServiceByName(service).methods_by_name)

    def call(self, service: str, method: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Calls a method; a unary answer is a list of one response."""
        descriptor = self._pool.FindServiceByName(service).methods_by_name[method]
        message = json_format.ParseDict(request, GetMessageClass(descriptor.input_type)())
        response_class = GetMessageClass(descriptor.output_type)
        start = self._channel.unary_stream if descriptor.server_streaming else self._channel.unary_unary
        call = start(
            f"/{service}/{method}",
            request_serializer=lambda outgoing: outgoing.SerializeToString(),
            response_deserializer=response_class.FromString,
        )
        answer = call(message, timeout=60)
        responses = list(answer) if descriptor.server_streaming else [answer]
        return [json_format.MessageToDict(response) for response in responses]


def main() -> None:
    """Answers the lines of standard input; the first line of output lists services and their methods."""
    client = ReflectionClient(sys.argv[1])
    print(json.dumps({service: client.methods(service) for service in client.services()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(client.call(order["service"], order["method"], order["request"])), flush=True)
    assert not any(name.startswith("naiad") for name in sys.modules), "generated code of naiad was used"


if __name__ == "__main__":
    main()
