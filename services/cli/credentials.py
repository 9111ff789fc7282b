"""How the commands show who they are and know the services: settings, over which arguments win."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from services import client
from services.cli import exit_codes
from services.common.access_settings import OFF
from services.common.client_credentials import CredentialSettings
from services.common.setting import SettingsError
from services.common.settings import ClientSettings, load_settings

SYSTEM = "system"


@dataclass(frozen=True)
class Credentials:
    """What a client needs beside an address; None for neither."""

    token: str | None = None
    tls: client.Tls | None = None


def credentials_of(arguments: object = None) -> Credentials:
    """What the command line says goes before what the environment says.

    Raises CommandError when the settings do not fit each other, or the token cannot be read.
    """
    try:
        settings = load_settings(ClientSettings)
    except SettingsError as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    names = [field.name for field in fields(CredentialSettings)]
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    settings = replace(settings, **given)
    return Credentials(_token(settings), _tls(settings))


def _token(settings: CredentialSettings) -> str | None:
    if settings.token_file == OFF:
        return None
    try:
        return Path(settings.token_file).read_bytes().decode("utf-8", "replace").strip()
    except OSError as error:
        raise unreadable(settings.token_file, error) from None


def _tls(settings: CredentialSettings) -> client.Tls | None:
    key, certificate = settings.client_tls_private_key, settings.client_tls_certificate
    if settings.client_tls_ca == OFF:
        if (key, certificate) != (OFF, OFF):
            raise exit_codes.CommandError(
                "a client certificate needs NAIAD_CLIENT_TLS_CA or --tls-ca", exit_codes.WRONG_USAGE
            )
        return None
    if OFF in (key, certificate) and (key, certificate) != (OFF, OFF):
        raise exit_codes.CommandError("a client certificate and its key go together", exit_codes.WRONG_USAGE)
    return client.Tls(
        root_certificates=None if settings.client_tls_ca == SYSTEM else Path(settings.client_tls_ca),
        certificate=None if certificate == OFF else Path(certificate),
        key=None if key == OFF else Path(key),
        server_name=None if settings.client_tls_server_name == OFF else settings.client_tls_server_name,
    )


def unreadable(path: object, error: OSError) -> exit_codes.CommandError:
    """A file of the settings or arguments that cannot be read."""
    return exit_codes.CommandError(f"{path} cannot be read: {error.strerror}", exit_codes.WRONG_USAGE)
