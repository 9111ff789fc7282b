"""The tenants file: who may call, with which tokens, and how much (docs/security.md has an example).

Tokens themselves are nowhere in it, only their SHA-256. They are random and 256 bits long (`naiad token new`), so that
nothing slower is needed: there is no list of likely ones to try.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
SERVICES = ("tokenization", "generation", "classification")


class TenantFileError(ValueError):
    """The file cannot be used. The message is one line, without anything secret."""


@dataclass(frozen=True)
class TenantLimits:
    """Bounds of one tenant in one process; None for none. A request of more tokens than a bound never passes it."""

    max_inflight_requests: int | None = None
    max_inflight_tokens: int | None = None
    requests_per_second: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Tenant:
    """One tenant. `services` and `models` None: all. `weight` is its part of a full process beside others."""

    name: str
    weight: float = 1.0
    services: frozenset[str] | None = None
    models: frozenset[str] | None = None
    certificate_names: frozenset[str] = frozenset()
    max_priority: int = 0
    prefix_cache: bool = True
    limits: TenantLimits = TenantLimits()

    def may_use_service(self, service: str) -> bool:
        """Whether the tenant may call `service`: one of SERVICES."""
        return self.services is None or service in self.services

    def may_use_model(self, model: str) -> bool:
        """Whether the tenant may use `model`, be there such a model or not."""
        return self.models is None or model in self.models


@dataclass(frozen=True)
class Token:
    """One token. `expires_s` is in seconds since 1970, None for never."""

    tenant: Tenant
    digest: bytes
    expires_s: float | None


@dataclass(frozen=True)
class TenantTable:
    """The whole file: tokens by beginnings of their digests, and tenants by names in their clients' certificates."""

    tenants: Mapping[str, Tenant]
    tokens: Mapping[bytes, Token]
    by_certificate_name: Mapping[str, Tenant]


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def lookup_key(digest: bytes) -> bytes:
    """What a token is looked up by. The rest of the digest decides, in a comparison of constant time."""
    return digest[:8]


def load_tenants(path: Path) -> TenantTable:
    """Reads the file. Raises TenantFileError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TenantFileError(f"is larger than {MAX_FILE_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
        return read_tenants(content)
    except OSError as error:
        raise TenantFileError(f"{path} cannot be read: {error.strerror}") from None
    except TenantFileError as error:
        raise TenantFileError(f"{path}: {error}") from None
    except (ValueError, RecursionError):
        raise TenantFileError(f"{path} is not JSON") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's own reading would let the second tenant of a name replace the first, tokens and all."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise TenantFileError("an object has a key twice")
    return fields


def read_tenants(content: object) -> TenantTable:
    """The table that parsed JSON stands for. Raises TenantFileError."""
    file = _Fields(content, "the file", ("tenants",))
    described = file.take("tenants", _mapping, {})
    tenants: dict[str, Tenant] = {}
    tokens: dict[bytes, Token] = {}
    by_certificate_name: dict[str, Tenant] = {}
    for name, description in described.items():
        where = f"tenant {name[:64]!r}"
        if not _NAME.fullmatch(name):
            raise TenantFileError(f"{where}: a name is 1 to 63 of a-z 0-9 . _ -, and both its ends are of a-z 0-9")
        fields = _Fields(description, where, _TENANT_KEYS)
        tenants[name] = tenant = _tenant(name, fields)
        for number, entry in enumerate(fields.take("tokens", _list, [])):
            token = _token(tenant, _Fields(entry, f"{where}: tokens[{number}]", ("sha256", "expires", "created")))
            if lookup_key(token.digest) in tokens:
                raise TenantFileError(f"{where}: tokens[{number}] is in the file twice")
            tokens[lookup_key(token.digest)] = token
        for certificate_name in tenant.certificate_names:
            if certificate_name in by_certificate_name:
                raise TenantFileError(f"{where}: certificate_names: {certificate_name!r} has two tenants")
            by_certificate_name[certificate_name] = tenant
    return TenantTable(tenants, tokens, by_certificate_name)


_LIMIT_KEYS = ("max_inflight_requests", "max_inflight_tokens", "requests_per_second", "tokens_per_second")
_TENANT_KEYS = (
    "tokens", "weight", "services", "models", "certificate_names", "max_priority", "prefix_cache", *_LIMIT_KEYS,
)  # fmt: skip


def _tenant(name: str, fields: "_Fields") -> Tenant:
    services = fields.take("services", _texts, None)
    if services is not None and not services <= set(SERVICES):
        raise TenantFileError(f"{fields.where}: services: each is one of {', '.join(SERVICES)}")
    return Tenant(
        name=name,
        weight=fields.take("weight", _positive, 1.0),
        services=services,
        models=fields.take("models", _texts, None),
        certificate_names=fields.take("certificate_names", _texts, frozenset()),
        max_priority=fields.take("max_priority", _priority, 0),
        prefix_cache=fields.take("prefix_cache", _truth, True),
        limits=TenantLimits(
            max_inflight_requests=fields.take("max_inflight_requests", _count, None),
            max_inflight_tokens=fields.take("max_inflight_tokens", _count, None),
            requests_per_second=fields.take("requests_per_second", _positive, None),
            tokens_per_second=fields.take("tokens_per_second", _positive, None),
        ),
    )


def _token(tenant: Tenant, fields: "_Fields") -> Token:
    digest = fields.take("sha256", _sha256, None)
    if digest is None:
        raise TenantFileError(f"{fields.where}: sha256 is missing")
    return Token(tenant, digest, fields.take("expires", _time, None))


class _Fields:
    """An object of the file, none of whose keys is unknown."""

    def __init__(self, value: object, where: str, known: Sequence[str]) -> None:
        if not isinstance(value, dict):
            raise TenantFileError(f"{where} is not an object")
        unknown = next((key for key in value if key not in known), None)
        if unknown is not None:
            raise TenantFileError(f"{where}: {str(unknown)[:64]!r} is none of {', '.join(known)}")
        self._values = value
        self.where = where

    def take(self, key: str, read: Callable[[Any], Any], default: Any) -> Any:
        """The value of `key`, read; `default` when it is absent."""
        if key not in self._values:
            return default
        try:
            return read(self._values[key])
        except ValueError as error:
            raise TenantFileError(f"{self.where}: {key}: {error}") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("is not a list")
    return value


def _texts(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError("is not a list of names")
    return frozenset(value)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError("is not a number over 0")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("is not a whole number from 1")
    return value


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise ValueError("is not a whole number from -100 to 100")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not true or false")
    return value


def _sha256(value: Any) -> bytes:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError("is not 64 hexadecimal digits in small letters")
    return bytes.fromhex(value)


def _time(value: Any) -> float:
    wrong = "is not a time with its zone, such as 2027-01-31T00:00:00Z"
    if not isinstance(value, str):
        raise ValueError(wrong)
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(wrong) from None
    if time.tzinfo is None:
        raise ValueError(wrong)
    return time.timestamp()
