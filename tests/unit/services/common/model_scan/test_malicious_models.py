"""What somebody else has put into a model is refused before anything opens it."""

import resource
import tracemalloc
from pathlib import Path

import pytest

from services.common.model_scan import ModelScanError, read_hashed, scan_entry, scan_repository
from services.common.model_scan.limits import PARAMETERS
from tests.support import malicious_models
from tests.support.malicious_models import ALL, SECRET, Mischief, entry_with_outside_weights
from tests.synthetic.make_decoder import DecoderSpec, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

MAX_SCAN_BYTES = 32 * 1024 * 1024


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    repository.mkdir()
    return entry_with_outside_weights(repository)


def test_good_entries_pass(victim: Path) -> None:
    make_decoder(victim.parent, "decoder", DecoderSpec())
    make_encoder(victim.parent, "classify", EncoderSpec(task="classify"))
    (victim.parent / ".staging-half").mkdir()
    (victim.parent / "README.md").touch()
    assert [entry.name for entry in scan_repository(victim.parent)] == ["classify", "decoder", "victim"]


@pytest.mark.parametrize("mischief", ALL, ids=lambda mischief: mischief.name)
def test_tampered_entries_are_refused_and_the_error_names_file_and_cause(victim: Path, mischief: Mischief) -> None:
    mischief.apply(victim)
    tracemalloc.start()
    try:
        with pytest.raises(ModelScanError) as refused:
            scan_entry(victim)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.file == f"victim/{mischief.file}".rstrip("/")
    assert mischief.cause in refused.value.cause
    text = str(refused.value)
    assert "\n" not in text and SECRET not in text and len(text) < 500
    assert peak_bytes < MAX_SCAN_BYTES


def test_the_digest_covers_every_file(victim: Path) -> None:
    before = scan_entry(victim).digest
    config = victim / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "1"', 'string_value: "2"'))
    changed_config = scan_entry(victim).digest
    tokenizer = victim / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    malicious_models.rehash(victim)
    assert len({before, changed_config, scan_entry(victim).digest}) == 3


def test_hard_links_to_the_right_content_are_no_harm(victim: Path, tmp_path: Path) -> None:
    for file in ("naiad.json", "config.pbtxt", "1/model.onnx", "1/model.onnx.data", "tokenizer.json"):
        (tmp_path / file.replace("/", "-")).hardlink_to(victim / file)
    assert scan_entry(victim).name == "victim"


def test_no_descriptor_stays_open(victim: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    scan_entry(victim)
    ALL[0].apply(victim)
    with pytest.raises(ModelScanError):
        scan_entry(victim)
    assert open_files() == before


def test_every_cut_and_every_flipped_byte_of_a_graph_is_judged_quickly_and_without_other_errors(victim: Path) -> None:
    graph = victim / "1" / "model.onnx"
    content = graph.read_bytes()
    begun_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for position in range(0, len(content), 7):
        for changed in (content[:position], _flipped(content, position)):
            graph.write_bytes(changed or b"\0")
            malicious_models.rehash(victim)
            try:
                scan_entry(victim)
            except ModelScanError as refused:
                assert refused.file == "victim/1/model.onnx"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - begun_s < 60


def _flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def test_a_file_is_read_only_with_its_hash(victim: Path) -> None:
    tokenizer = victim / "tokenizer.json"
    with pytest.raises(ModelScanError, match="sha256 differs"):
        read_hashed(tokenizer, "0" * 64, 1 << 20)
    with pytest.raises(ModelScanError, match="at most 10 are allowed"):
        read_hashed(tokenizer, "0" * 64, 10)


def test_the_parameters_that_may_be_set_are_those_of_the_contract() -> None:
    contracts = (Path(__file__).parents[5] / "docs" / "contracts.md").read_text()
    table = contracts.split("### Model parameters in `config.pbtxt`")[1].split("\n## ")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(rows) == PARAMETERS
