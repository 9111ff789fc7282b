from dataclasses import fields
from pathlib import Path

import pytest

from services.common.setting import SettingsError, specs_of
from services.common.settings import (
    ALL_SETTINGS,
    CommonSettings,
    GenerationSettings,
    TokenizationSettings,
    load_settings,
)
from services.common.settings_page import render_page

ROOT = Path(__file__).parents[4]


def test_defaults_need_no_environment() -> None:
    settings = load_settings(TokenizationSettings, {})
    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 50051, 9101)


def test_values_are_read_and_converted() -> None:
    environ = {
        "NAIAD_GENERATION_PORT": " 7 ",
        "NAIAD_MODEL_REPOSITORY": "/models",
        "NAIAD_LOG_LEVEL": "debug",
        "X": "y",
    }
    settings = load_settings(GenerationSettings, environ)
    assert (settings.port, settings.model_repository, settings.log_level) == (7, Path("/models"), "debug")


def test_variables_of_other_processes_are_known() -> None:
    assert load_settings(TokenizationSettings, {"NAIAD_GENERATION_PORT": "1"}).port == 50051


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "NAIAD_TOKENISATION_PORT",
            "1",
            "NAIAD_TOKENISATION_PORT is not a setting of naiad; did you mean NAIAD_TOKENIZATION_PORT?",
        ),
        ("NAIAD_Q", "1", "NAIAD_Q is not a setting of naiad; docs/configuration.md lists all settings"),
        ("NAIAD_TOKENIZATION_PORT", "65536", "NAIAD_TOKENIZATION_PORT='65536' is out of range (0 to 65535)"),
        ("NAIAD_TOKENIZATION_PORT", "-1", "NAIAD_TOKENIZATION_PORT='-1' is out of range (0 to 65535)"),
        ("NAIAD_TOKENIZATION_PORT", "http", "NAIAD_TOKENIZATION_PORT='http' is not a whole number (0 to 65535)"),
        ("NAIAD_TOKENIZATION_PORT", "", "NAIAD_TOKENIZATION_PORT='' is not a whole number (0 to 65535)"),
        ("NAIAD_LOG_LEVEL", "loud", "NAIAD_LOG_LEVEL='loud' is out of range (one of debug, info, warning, error)"),
        ("NAIAD_HOST", " ", "NAIAD_HOST=' ' is not a text that is not empty (any)"),
    ],
)
def test_wrong_variables_are_refused_with_one_line(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(TokenizationSettings, {name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize("settings_class", ALL_SETTINGS)
def test_every_field_is_described_and_its_default_is_legal(settings_class: type[CommonSettings]) -> None:
    specs = specs_of(settings_class)
    for field in fields(settings_class):
        spec = specs[field.name]
        assert spec.doc.endswith(".")
        settings = load_settings(settings_class, {spec.env: str(field.default)})
        assert getattr(settings, field.name) == field.default


def test_two_fields_never_share_a_variable() -> None:
    owners: dict[str, str] = {}
    for settings_class in ALL_SETTINGS:
        for name, spec in specs_of(settings_class).items():
            assert owners.setdefault(spec.env, name) == name


def test_the_configuration_page_is_current() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == render_page()
