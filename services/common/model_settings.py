"""Settings of the integrity of models."""

from dataclasses import dataclass
from pathlib import Path

from services.common.setting import setting

NO_KEY = "none"


@dataclass(frozen=True)
class ModelIntegritySettings:
    """Which models may be served."""

    model_public_key: str = setting(
        NO_KEY,
        "MODEL_PUBLIC_KEY",
        doc="File with an Ed25519 public key in PEM: `naiad serve` and `naiad verify` then refuse models that are not"
        " signed with it. none: signatures are not asked for.",
    )

    @property
    def public_key_path(self) -> Path | None:
        """The key's file, if there is one."""
        return None if self.model_public_key == NO_KEY else Path(self.model_public_key)
