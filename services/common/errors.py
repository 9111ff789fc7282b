"""Errors of the services, free of gRPC: logic raises them, `status.py` turns them into gRPC statuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

ERROR_DOMAIN = "naiad"


class Reason(StrEnum):
    """Why a call failed; sent as `ErrorInfo.reason`."""

    INVALID_FIELD = "INVALID_FIELD"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    WRONG_TASK = "WRONG_TASK"
    OVERLOADED = "OVERLOADED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CLIENT_CANCELLED = "CLIENT_CANCELLED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    CONTENT_BLOCKED = "CONTENT_BLOCKED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field: its path in the request (`sampling.top_p`, `texts[3]`) and what is wrong with it."""

    field: str
    description: str


class NaiadError(Exception):
    """A failure that the client is told about. `message` goes to the client; never put prompts or paths into it."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        field_violations: Sequence[FieldViolation] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field_violations = tuple(field_violations)
        self.retry_after_ms = retry_after_ms


def invalid_fields(violations: Sequence[FieldViolation]) -> NaiadError:
    """INVALID_FIELD for one or more violations; the message names the first."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return NaiadError(Reason.INVALID_FIELD, f"{first.field}: {first.description}{more}", violations)


def invalid_field(field: str, description: str) -> NaiadError:
    """INVALID_FIELD for one field."""
    return invalid_fields((FieldViolation(field, description),))


class Violations:
    """Collects what is wrong with a request, so that all of it is reported at once."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        """Notes one violation."""
        self._found.append(FieldViolation(field, description))

    def extend(self, violations: Sequence[FieldViolation]) -> None:
        """Notes violations that were found elsewhere."""
        self._found.extend(violations)

    def require(self, condition: bool, field: str, description: str) -> None:
        """Notes a violation unless `condition` holds."""
        if not condition:
            self.add(field, description)

    def raise_if_any(self) -> None:
        """Raises INVALID_FIELD with all violations, if there are any."""
        if self._found:
            raise invalid_fields(self._found)
