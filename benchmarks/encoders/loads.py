"""The loads that every encoder is put under."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.encoders.texts import SizedTexts, TextSource
from benchmarks.loads import Ask, Figures, Load
from benchmarks.report import percentile
from benchmarks.systems.protocol import Embedded, EmbedRequest

CLIENT_COUNTS = (1, 8, 64)
ARRIVAL, SORTED = "bulk, arrival order", "bulk, sorted by length"


def one_text_a_call(clients: int) -> str:
    """Name of the load."""
    return f"one text a call, {clients} client{'s' if clients > 1 else ''}"


def embed(ask: Ask, request: EmbedRequest) -> Embedded:
    """Has a system embed."""
    return Embedded.parse(ask({"op": "embed", **asdict(request)})["embedded"])


def rates(work: SizedTexts, done: Embedded) -> Figures:
    """Tokens, special ones included and padding not, and texts a second; latencies where there are any."""
    figures = {
        "tokens_per_second": sum(work.tokens) / done.seconds,
        "texts_per_second": len(work.texts) / done.seconds,
    }
    if done.latencies_s:
        figures["latency_p50_ms"] = 1e3 * percentile(done.latencies_s, 0.5)
        figures["latency_p99_ms"] = 1e3 * percentile(done.latencies_s, 0.99)
    return figures


@dataclass(frozen=True)
class Clients:
    """Clients that each send one text, wait for its vector and send the next one that arrived."""

    source: TextSource
    clients: int
    texts: int
    kind: str = "clients"

    @property
    def name(self) -> str:
        """For tables and reports."""
        return one_text_a_call(self.clients)

    def measure(self, ask: Ask, variant: str) -> Figures:
        """All of them from one process."""
        work = self.source.sample(self.texts, f"{self.name} {variant}")
        return rates(work, embed(ask, EmbedRequest(work.texts, self.clients)))


@dataclass(frozen=True)
class Bulk:
    """A whole list at once, in arrival order or sorted by length: the same list in both."""

    source: TextSource
    texts: int
    by_length: bool
    kind: str = "bulk"

    @property
    def name(self) -> str:
        """For tables and reports."""
        return SORTED if self.by_length else ARRIVAL

    def measure(self, ask: Ask, variant: str) -> Figures:
        """In the setting that was the fastest for the order."""
        work = self.source.sample(self.texts, f"bulk {variant}")
        work = work.by_length() if self.by_length else work
        return rates(work, embed(ask, EmbedRequest(work.texts, by_length=self.by_length)))


@dataclass(frozen=True)
class Sizes:
    """How many texts a system gets."""

    trial: int  # With each setting that is tried.
    bulk: int
    single: int
    a_client: int  # With several clients.


FULL, QUICK = Sizes(128, 1_024, 300, 40), Sizes(48, 192, 60, 12)


def all_loads(source: TextSource, sizes: Sizes) -> list[Load]:
    """In the order of the tables."""
    return [
        Bulk(source, sizes.bulk, by_length=False),
        Bulk(source, sizes.bulk, by_length=True),
        *(
            Clients(source, clients, sizes.single if clients == 1 else clients * sizes.a_client)
            for clients in CLIENT_COUNTS
        ),
    ]


def warm_up(source: TextSource) -> list[Load]:
    """A few texts each way."""
    return [Clients(source, 8, 32), Clients(source, 1, 5)]
