"""Settings of who may call: TLS, tokens, and where health is asked for. `tls.py` and `access.py` act on them."""

from dataclasses import dataclass

from services.common.setting import port_setting, setting

OFF = "off"


@dataclass(frozen=True)
class AccessSettings:
    """Who may call a service, and how calls are protected on their way."""

    tls_certificate: str = setting(
        OFF,
        "TLS_CERTIFICATE",
        doc="PEM file with the certificate of the gRPC ports, its chain after it; `off`: no TLS. Read again whenever it"
        " changes, like the two below.",
    )
    tls_private_key: str = setting(
        OFF, "TLS_PRIVATE_KEY", doc="PEM file with the private key of the certificate, not encrypted."
    )
    tls_client_ca: str = setting(
        OFF,
        "TLS_CLIENT_CA",
        doc="PEM file with the authorities that sign certificates of clients; with it a client must show one (mutual"
        " TLS).",
    )
    metrics_tls: bool = setting(
        False, "METRICS_TLS", doc="Whether the metrics port speaks TLS too, with the same certificate."
    )
    health_port: int = port_setting(
        0,
        "HEALTH_PORT",
        "One more port, without TLS and with nothing but health, for probes that cannot speak TLS; 0: none. Each"
        " service on a machine needs its own.",
    )
    tenants_file: str = setting(
        OFF,
        "TENANTS_FILE",
        doc="JSON file with the tenants, hashes of their tokens, and their limits; `off`: everyone may call. Read again"
        " whenever it changes. `naiad token new` writes it.",
    )
    allow_plaintext_tokens: bool = setting(
        False,
        "ALLOW_PLAINTEXT_TOKENS",
        doc="Whether a service that asks for tokens may listen beyond loopback without TLS: only where something in"
        " front of it, such as the sidecar of a service mesh, ends TLS.",
    )
    reflection: str = setting(
        "auto",
        "REFLECTION",
        doc="Who may list the methods (server reflection): everyone (`open`), nobody (`off`), or with `auto` whoever"
        " may call.",
        choices=("auto", "open", "off"),
    )

    @property
    def tls_enabled(self) -> bool:
        """Whether the gRPC port speaks TLS."""
        return self.tls_certificate != OFF
