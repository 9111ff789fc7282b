"""The three services by name, and where a caller on this machine reaches one."""

from services.common.settings import ClassificationSettings, GenerationSettings, TokenizationSettings

ServiceSettings = TokenizationSettings | GenerationSettings | ClassificationSettings
SERVICE_SETTINGS: dict[str, type[ServiceSettings]] = {
    "tokenization": TokenizationSettings,
    "generation": GenerationSettings,
    "classification": ClassificationSettings,
}
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up here, not bound


def local_address(host: str, port: int) -> str:
    """HOST:PORT for a caller on this machine of who listens on `host`, which may stand for all addresses."""
    host = _ANY_ADDRESS.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
