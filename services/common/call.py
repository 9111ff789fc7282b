"""The call that the current task serves. Set by the interceptor, read by servicers and logic; free of gRPC."""

import os
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.common.tenants import TenantUse

from services.common.engine_run import EngineRuns
from services.common.trace import TraceContext, begin_trace

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass
class Call:
    """One call. `deadline_s` is in the time of the event loop, None for no deadline. Without tenants, `tenant` is None.

    `log_fields` go into its log line: never put prompts or other content into them.
    """

    method: str
    request_id: str
    arrived_s: float = field(default_factory=time.monotonic)
    deadline_s: float | None = None
    log_fields: dict[str, str | int | float] = field(default_factory=dict)
    tenant: "TenantUse | None" = None
    trace: TraceContext = field(default_factory=begin_trace)
    engine_runs: EngineRuns = field(default_factory=EngineRuns)


_current: ContextVar[Call] = ContextVar("naiad_call")


def set_current_call(call: Call) -> None:
    """Makes `call` the one of the current task."""
    _current.set(call)


def current_call() -> Call:
    """The call of the current task; a fresh one outside of any call, as in tests of logic."""
    call = _current.get(None)
    return call if call is not None else Call(method="", request_id=new_request_id())


def current_tenant() -> "TenantUse | None":
    """The tenant of the current task's call; None when there are no tenants, and outside of any call."""
    call = _current.get(None)
    return call.tenant if call is not None else None


def note_in_log(**fields: str | int | float) -> None:
    """Adds fields to the log line of the current call, if there is one. Never prompts or other content."""
    call = _current.get(None)
    if call is not None:
        call.log_fields.update(fields)


def may_use_model(model: str) -> bool:
    """Whether the caller may use `model`, be there such a model or not."""
    use = current_tenant()
    return use is None or use.tenant.may_use_model(model)


def may_share_prefixes() -> bool:
    """Whether the caller's prompts may meet others' in the engine's prefix cache.

    It is one for all: whoever hits it learns that somebody's prompt began the same.
    """
    use = current_tenant()
    return use is None or use.tenant.prefix_cache


def new_request_id() -> str:
    """A request id that no other call has."""
    return os.urandom(16).hex()


def request_id_or_new(candidate: str | None) -> str:
    """`candidate` if it is 1 to 64 harmless characters, else a fresh id."""
    return candidate if candidate is not None and _REQUEST_ID.fullmatch(candidate) else new_request_id()
