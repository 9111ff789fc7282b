"""What a failed call told its client."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


async def failure(call: Any) -> tuple[grpc.StatusCode, str, list[str]]:
    """Status code, reason and violated fields of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = await rpc_status.aio.from_call(call)
    assert status is not None
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    fields: list[str] = []
    for detail in status.details:
        if detail.Unpack(bad_request):
            fields = [violation.field for violation in bad_request.field_violations]
        detail.Unpack(info)
    assert info.domain == "naiad"
    assert info.metadata["request_id"]
    return caught.value.code(), info.reason, fields
