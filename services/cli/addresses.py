"""Where a service is called."""

from services.cli import exit_codes
from services.common.addresses import SERVICE_SETTINGS, local_address
from services.common.setting import SettingsError
from services.common.settings import ClientSettings, load_settings

AUTO = "auto"


def resolve(service: str, argument: str | None) -> str:
    """HOST:PORT of a service: the argument, else NAIAD_<SERVICE>_ADDRESS, else where `naiad serve` puts it."""
    if argument is not None:
        return _checked(argument, "--address")
    try:
        configured: str = getattr(load_settings(ClientSettings), f"{service}_address")
        if configured != AUTO:
            return _checked(configured, f"NAIAD_{service.upper()}_ADDRESS")
        settings = load_settings(SERVICE_SETTINGS[service])
    except SettingsError as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    return local_address(settings.host, settings.port)


def _checked(address: str, source: str) -> str:
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise exit_codes.CommandError(f"{source}: {address!r} is not HOST:PORT", exit_codes.WRONG_USAGE)
    return address
