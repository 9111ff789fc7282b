"""A gRPC server that hands each call on to Triton and does nothing else: what one process of Python in between costs.

`python -m benchmarks.empty_relay TRITON_ADDRESS`, started by `benchmarks.tier_cost`. Prints its port.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc

from services.common import event_loop

_METHOD = "/inference.GRPCInferenceService/ModelInfer"


class _OneMethod(grpc.GenericRpcHandler):
    """Knows ModelInfer, whose messages it leaves as they are."""

    def __init__(self, serve: Any) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(serve)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler if handler_call_details.method == _METHOD else None


async def _main(triton_address: str) -> None:
    async with grpc.aio.insecure_channel(triton_address) as channel:
        infer: Any = channel.unary_unary(_METHOD)

        async def serve(message: bytes, _context: Any) -> Any:
            return await infer(message)

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_OneMethod(serve),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    event_loop.run(_main(sys.argv[1]))
