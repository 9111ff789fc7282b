"""Settings of how the commands show who they are and know the service."""

from dataclasses import dataclass

from services.common.access_settings import OFF
from services.common.setting import setting


@dataclass(frozen=True)
class CredentialSettings:
    """Files are read when a command starts."""

    client_tls_ca: str = setting(
        OFF,
        "CLIENT_TLS_CA",
        doc="PEM file with the authorities that sign the services' certificates, or `system` for those of this machine;"
        " `off`: no TLS.",
    )
    client_tls_certificate: str = setting(
        OFF, "CLIENT_TLS_CERTIFICATE", doc="PEM file with the certificate to show to the services (mutual TLS)."
    )
    client_tls_private_key: str = setting(OFF, "CLIENT_TLS_PRIVATE_KEY", doc="PEM file with the key of it.")
    client_tls_server_name: str = setting(
        OFF,
        "CLIENT_TLS_SERVER_NAME",
        doc="Name that the services' certificates must have; `off`: the host that is called.",
    )
    token_file: str = setting(
        OFF, "TOKEN_FILE", doc="File with the bearer token to call with, as `naiad token new` prints it."
    )
