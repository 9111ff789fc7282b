"""Settings of a service that has several Tritons to choose from (docs/reliability.md)."""

from dataclasses import dataclass

from services.common.setting import setting


@dataclass(frozen=True)
class FleetSettings:
    """How a Triton is chosen, given up, and taken back. A service with a single one has no use for most of it."""

    triton_address: str = setting(
        "127.0.0.1:8001",
        "TRITON_ADDRESS",
        doc="HOST:PORT of Triton's gRPC endpoint, or several with commas between them. `dns:///NAME:PORT` stands for"
        " all addresses of a name, which is looked up again and again.",
    )
    triton_resolve_interval_ms: int = setting(
        5_000,
        "TRITON_RESOLVE_INTERVAL_MS",
        doc="Time between two look-ups of the names in `NAIAD_TRITON_ADDRESS`.",
        minimum=100,
        maximum=3_600_000,
    )
    triton_affinity_tokens: int = setting(
        64,
        "TRITON_AFFINITY_TOKENS",
        doc="Prompts that begin with the same so many tokens prefer the same Triton, which has them in its prefix"
        " cache; 0 = no preference.",
        minimum=0,
        maximum=65_536,
    )
    triton_affinity_slack_tokens: int = setting(
        4_096,
        "TRITON_AFFINITY_SLACK_TOKENS",
        doc="How many tokens in flight the preferred Triton may have more than the least loaded one.",
        minimum=0,
        maximum=1_000_000_000,
    )
    triton_max_failovers: int = setting(
        2,
        "TRITON_MAX_FAILOVERS",
        doc="How often one request goes on at another Triton when its own is lost; 0 = never. With a single Triton"
        " there is no other.",
        minimum=0,
        maximum=100,
    )
    triton_failover_wait_ms: int = setting(
        5_000,
        "TRITON_FAILOVER_WAIT_MS",
        doc="Longest time that a request whose Triton was lost waits for one that can take it.",
        minimum=0,
        maximum=600_000,
    )
    triton_silence_timeout_ms: int = setting(
        60_000,
        "TRITON_SILENCE_TIMEOUT_MS",
        doc="A Triton that answers its probes, but for so long none of its requests, is given up when there is another."
        " Must be more than the longest prompt takes.",
        minimum=100,
        maximum=3_600_000,
    )
    triton_readmission_ms: int = setting(
        1_000,
        "TRITON_READMISSION_MS",
        doc="Wait, after its second failure in a minute, before a Triton that answers again is used; doubled by each"
        " further one, up to 30 times as long.",
        minimum=0,
        maximum=600_000,
    )
