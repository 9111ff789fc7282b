"""A tokenization service that looks at its files all the time, so that no test waits for a second."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.common.file_watch import FileWatch
from services.common.settings import TokenizationSettings
from services.common.tenant_file import digest_of
from tests.support.small_models import bert_tokenizer, write_model


@pytest.fixture(autouse=True)
def _watch_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.front_door.FileWatch", partial(FileWatch, 0.01))


@pytest.fixture
def settings(tmp_path: Path) -> TokenizationSettings:
    """Models `embed` and `other`, everyone may call."""
    repository = tmp_path / "models"
    for name in ("embed", "other"):
        write_model(repository, name, "embed", bert_tokenizer())
    return TokenizationSettings(model_repository=repository)


class TenantsFile:
    """A tenants file that is written as a whole, as `naiad token` and Kubernetes do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, tenants: dict[str, Any]) -> None:
        """`tokens` are given as tokens, or as entries."""
        for tenant in tenants.values():
            tenant["tokens"] = [
                {"sha256": digest_of(token).hex()} if isinstance(token, str) else token
                for token in tenant.get("tokens", [])
            ]
        self.write_text(json.dumps({"tenants": tenants}))

    def write_text(self, text: str) -> None:
        """Replaces the file."""
        staged = self.path.with_suffix(".new")
        staged.write_text(text)
        staged.replace(self.path)


@pytest.fixture
def tenants_file(tmp_path: Path) -> TenantsFile:
    return TenantsFile(tmp_path / "tenants.json")
