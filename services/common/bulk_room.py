"""Parts of bulk streams that wait for room, and who among them is next."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.tenants import TenantUse


@dataclass(eq=False)
class BulkPart:
    """One part: its tokens, whose it is (None where there are no tenants), and what is done when there is room."""

    tokens: int
    tenant: TenantUse | None
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class BulkRoom:
    """Lets parts in one after the other: next is the tenant that holds least for its weight, and of one tenant, or
    where there are none, who came first. A tenant that holds all of its `max_inflight_tokens` is passed over.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._waiting: list[BulkPart] = []
        self._held: Counter[TenantUse | None] = Counter()

    def wait(self, part: BulkPart) -> None:
        """Puts a part at the end of the queue; its `admitted` is done once `admit` has let it in."""
        self._waiting.append(part)

    def admit(self, fits: Callable[[int], bool]) -> None:
        """Lets in whoever is next while `fits` says that there is room for so many tokens more."""
        self._waiting = [part for part in self._waiting if not part.admitted.cancelled()]  # whoever waited may leave
        while (part := self._next()) is not None and fits(part.tokens):
            self._waiting.remove(part)
            self._add(part, part.tokens)
            if part.tenant is not None:
                part.tenant.charge(part.tokens)
            part.admitted.set_result(None)

    def leave(self, part: BulkPart) -> None:
        """Gives back what a part holds, if it was let in."""
        if part.admitted.done() and not part.admitted.cancelled():
            self._add(part, -part.tokens)

    def _next(self) -> BulkPart | None:
        firsts: dict[TenantUse | None, BulkPart] = {}
        for part in self._waiting:
            firsts.setdefault(part.tenant, part)
        allowed = [part for part in firsts.values() if self._is_allowed(part)]
        return min(allowed, key=self._share_held, default=None)

    def _is_allowed(self, part: BulkPart) -> bool:
        limit = None if part.tenant is None else part.tenant.tenant.limits.max_inflight_tokens
        held = self._held[part.tenant]
        return limit is None or not held or held + part.tokens <= limit

    def _share_held(self, part: BulkPart) -> float:
        weight = 1.0 if part.tenant is None else part.tenant.tenant.weight
        return self._held[part.tenant] / weight

    def _add(self, part: BulkPart, tokens: int) -> None:
        self.tokens += tokens
        self._held[part.tenant] += tokens
        if not self._held[part.tenant]:
            del self._held[part.tenant]  # the tenant may leave the file
