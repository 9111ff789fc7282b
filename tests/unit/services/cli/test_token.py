"""`naiad token`, and commands that call with a token over TLS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.common.tenant_file import digest_of, load_tenants, lookup_key
from tests.unit.services.cli.conftest import Naiad


def test_a_new_token_is_printed_once_and_only_its_hash_is_kept(naiad: Naiad, tmp_path: Path) -> None:
    path = tmp_path / "tenants.json"
    first = naiad("token", "new", "search", "--file", str(path))
    second = naiad("token", "new", "search", "--file", str(path), "--expires-days", "30")
    tokens = [result.out.strip() for result in (first, second)]
    assert all(token.startswith("naiad_") and len(token) >= 49 for token in tokens)
    assert tokens[0] != tokens[1]
    table = load_tenants(path)
    assert [table.tokens[lookup_key(digest_of(token))].tenant.name for token in tokens] == ["search"] * 2
    assert [table.tokens[lookup_key(digest_of(token))].expires_s is None for token in tokens] == [True, False]
    assert not any(token in path.read_text() for token in tokens)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["tenants.json"]


def test_what_else_is_in_the_file_stays(naiad: Naiad, tmp_path: Path) -> None:
    path = tmp_path / "tenants.json"
    path.write_text(json.dumps({"tenants": {"search": {"weight": 2, "models": ["chat"]}, "other": {}}}))
    path.chmod(0o640)
    assert naiad("token", "new", "search", "--file", str(path)).code == 0
    tenants = json.loads(path.read_text())["tenants"]
    assert (tenants["search"]["weight"], tenants["search"]["models"], tenants["other"]) == (2, ["chat"], {})
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("content", "tenant", "complaint"),
    [("{}", "Not A Name", "a name is"), ("nonsense", "search", "is not JSON"), ('{"tenants": []}', "search", "not an")],
)
def test_a_file_that_would_be_wrong_is_left_alone(
    naiad: Naiad, tmp_path: Path, content: str, tenant: str, complaint: str
) -> None:
    path = tmp_path / "tenants.json"
    path.write_text(content)
    result = naiad("token", "new", tenant, "--file", str(path))
    assert (result.code, result.out) == (1, "")
    assert complaint in result.err
    assert path.read_text() == content


def test_without_a_file_the_entry_is_printed(naiad: Naiad) -> None:
    result = naiad("token", "new", "search", "--print-only")
    entry = json.loads(result.err)["tenants"]["search"]["tokens"][0]
    assert entry["sha256"] == digest_of(result.out.strip()).hex()
    assert naiad("token", "new", "search").code == 2
