"""Where calls come in: each is admitted by the size of its message, before anything of it is read."""

from collections.abc import Callable

from services.common.admission import Admission, Ticket
from services.common.tenants import TenantUse

_UNCOUNTED_ENDING = "/ListModels"  # no model works for it
# How protobuf begins a message whose first field is a text, as `model` is in all requests of naiad: tag, length, text.
_TEXT_IN_FIELD_1 = 0x0A
_MAX_NAME_BYTES = 0x7F  # so that the length is one byte


class Door:
    """Admits calls to the methods of one service."""

    def __init__(self, admission: Admission, is_model: Callable[[str], bool]) -> None:
        """`is_model` tells whether the repository has a model of this name."""
        self._admission = admission
        self._is_model = is_model

    def enter(self, method: str, message: bytes, tenant: TenantUse | None = None) -> Ticket | None:
        """The ticket of a call, to be released when it ends; None for one that needs none. Raises OVERLOADED.

        `message` is empty for a call whose messages come later.
        """
        if method.endswith(_UNCOUNTED_ENDING):
            return None
        name = model_name(message)
        return self._admission.enter(method, name if self._is_model(name) else None, len(message), tenant)


def model_name(message: bytes) -> str:
    """The text in field 1 of a serialized message; empty if the message does not begin with it.

    Every serializer writes fields in the order of their numbers. Whoever does not is admitted for the process only.
    """
    if len(message) < 2 or message[0] != _TEXT_IN_FIELD_1 or message[1] > _MAX_NAME_BYTES:
        return ""
    return message[2 : 2 + message[1]].decode("utf-8", "replace")
