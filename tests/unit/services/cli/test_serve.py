"""What `naiad serve` prints when everything runs."""

from services.cli.commands.serve import describe
from services.supervisor.system import plan


def test_endpoints_and_lines_to_try_are_printed() -> None:
    text = describe(plan({}, None, ("tokenization", "generation", "classification")))
    rows = [line.split() for line in text.splitlines()]
    assert ["generation", "127.0.0.1:50052", "http://127.0.0.1:9102/metrics"] in rows
    assert ["triton", "127.0.0.1:8001", "http://127.0.0.1:8002/metrics"] in rows
    assert '  naiad generate --chat "Name the capital of France."' in text.splitlines()


def test_lines_to_try_find_services_that_are_not_at_their_usual_ports() -> None:
    text = describe(plan({"NAIAD_GENERATION_PORT": "6000"}, None, ("generation",)))
    assert "  NAIAD_GENERATION_ADDRESS=127.0.0.1:6000 naiad generate --chat" in text
    assert "naiad classify" not in text
