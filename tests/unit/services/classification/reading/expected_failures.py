"""What failures look like to a client."""

import grpc

Failure = tuple[grpc.StatusCode, str, list[str]]
NOT_FOUND: Failure = (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", [])
WRONG_TASK: Failure = (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_TASK", [])


def invalid(*fields: str) -> Failure:
    return grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", list(fields)
