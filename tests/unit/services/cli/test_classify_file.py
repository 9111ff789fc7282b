"""`naiad classify FILE --output OUT`."""

import csv
import gzip
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.bulk import client, output
from services.cli.bulk.rows import MAX_SENT_BYTES, Source, read_rows
from services.common.errors import NaiadError, Reason
from tests.unit.services.cli import fake_bulk
from tests.unit.services.cli.conftest import Naiad
from tests.unit.services.cli.fake_bulk import REFUSED_TEXT, BulkService

UNAVAILABLE = NaiadError(Reason.SHUTTING_DOWN, "the service is shutting down")
OVERLOADED = NaiadError(Reason.OVERLOADED, "too many requests are in flight", retry_after_ms=10)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[BulkService]:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    found = BulkService()
    with fake_bulk.running(found) as port:
        monkeypatch.setenv("NAIAD_CLASSIFICATION_ADDRESS", f"127.0.0.1:{port}")
        yield found


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Ten rows; the text of row 3 spans two lines, row 5 is refused."""
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(["id", "review"])
        for number in range(10):
            text = {3: 'great\nfilm, "really"', 5: REFUSED_TEXT}.get(number, f"label{number} rest")
            table.writerow([f"r{number}", text])
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def many(tmp_path: Path, rows: int) -> Path:
    path = tmp_path / "many.csv"
    path.write_text("text\n" + "".join(f"label{number} x\n" for number in range(rows)))
    return path


def test_rows_come_out_in_order_with_their_labels(
    naiad: Naiad, service: BulkService, reviews: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    result = naiad("classify", str(reviews), "--column", "review", "--output", str(out))
    assert result.code == 1  # one row failed
    assert f"10 rows are in {out}, 1 of them failed" in result.err
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(10)]
    assert rows[3]["review"] == 'great\nfilm, "really"'
    assert [row["label"] for row in rows[:6]] == ["label0", "label1", "label2", "great", "label4", ""]
    assert rows[0]["score"] == "0.75"
    assert "is refused" in rows[5]["error"] and rows[0]["error"] == ""
    assert not output.journal_of(out).exists()
    assert service.options[0].model == "sentiment" and service.options[0].top_k == 1


def test_other_formats_and_options(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl.gz"
    lines = ['{"text": "good film", "n": 1}', "", '{"n": 2}', '{"text": 7}', '{"text": "\\ud800"}']
    with gzip.open(source, "wt") as file:
        file.write("\n".join(lines))
    out = tmp_path / "out.jsonl"
    arguments = ("--activation", "sigmoid", "--window-overlap", "16", "--model", "other")
    assert naiad("classify", str(source), "--output", str(out), *arguments).code == 1
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[0] == {
        "text": "good film",
        "n": 1,
        "scores": [{"label": "good", "score": 0.75}, {"label": "other", "score": 0.25}],
        "tokens": 4,
    }
    errors = [line["error"] for line in found[1:]]
    assert errors == ["text: is missing", "text: is not a text", "text: has half of a surrogate pair"]
    options = service.options[0]
    assert (options.model, options.activation, options.window_overlap_tokens) == ("other", 2, 16)
    assert not options.HasField("top_k")


def test_pairs_and_more_labels(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    source = tmp_path / "in.tsv"
    source.write_text("premise\thypothesis\nit rains\tthe street is wet\nshort\n")
    out = tmp_path / "out.tsv"
    columns = ("--column", "premise", "--pair-column", "hypothesis")
    assert naiad("classify", str(source), *columns, "--top-k", "2", "--output", str(out)).code == 1
    assert out.read_text().splitlines() == [
        "premise\thypothesis\tlabel\tscore\tlabel_2\tscore_2\terror",
        "it rains\tthe street is wet\tit\t0.75\tother\t0.25\t",
        "short\t\t\t\t\t\thypothesis: is missing",
    ]


def test_standard_input_and_lines_of_text(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert naiad("classify", "-", "--output", str(out), stdin="one a\n\ntwo b\n").code == 0
    assert out.read_text() == "text,label,score,error\none a,one,0.75,\ntwo b,two,0.75,\n"


def test_a_service_that_goes_away_is_asked_again_and_nothing_is_lost_or_doubled(
    naiad: Naiad, service: BulkService, tmp_path: Path
) -> None:
    breaks = {100: UNAVAILABLE, 101: OVERLOADED, 777: UNAVAILABLE}
    service.break_off = lambda answered: breaks.pop(answered, None)
    out = tmp_path / "out.csv"
    result = naiad("classify", str(many(tmp_path, 1_000)), "--output", str(out))
    assert result.code == 0, result.err
    assert [row["label"] for row in rows_of(out)] == [f"label{number}" for number in range(1_000)]
    assert result.err.count("trying again in") == 3
    assert len(service.options) == 4


def test_a_service_that_stays_away_leaves_a_run_that_can_go_on(
    naiad: Naiad, service: BulkService, tmp_path: Path
) -> None:
    source, out = many(tmp_path, 500), tmp_path / "out.csv"
    service.break_off = lambda answered: UNAVAILABLE if answered >= 123 else None
    command = ("classify", str(source), "--output", str(out))
    result = naiad(*command, "--retry-for", "0.05")
    assert result.code == 69
    assert "UNAVAILABLE" in result.err
    assert len(rows_of(out)) == 123
    service.break_off = lambda _: None
    result = naiad(*command)
    assert result.code == 0
    assert "going on after row 123" in result.err
    assert [row["label"] for row in rows_of(out)] == [f"label{number}" for number in range(500)]
    assert service.answered == 500


def test_a_service_that_is_not_there_fails_at_once(
    naiad: Naiad, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAIAD_CLASSIFICATION_ADDRESS", "127.0.0.1:1")
    result = naiad("classify", str(many(tmp_path, 5)), "--output", str(tmp_path / "out.csv"))
    assert result.code == 69
    assert "is `naiad serve` running?" in result.err


def test_a_refusal_that_is_no_matter_of_time_fails_at_once(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    service.break_off = lambda _: NaiadError(Reason.MODEL_NOT_FOUND, "model: there is no model 'x'")
    result = naiad("classify", str(many(tmp_path, 5)), "--output", str(tmp_path / "out.csv"))
    assert result.code == 1
    assert "there is no model" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["many.csv"]  # nothing is in the way of the next try


def test_ctrl_c_leaves_a_run_that_can_go_on_and_says_how(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    reached = threading.Event()

    def interrupt(answered: int) -> None:
        if answered == 200 and not reached.is_set():
            reached.set()
            os.kill(os.getpid(), signal.SIGINT)

    service.break_off = interrupt
    source, out = many(tmp_path, 5_000), tmp_path / "out.csv"
    command = ("classify", str(source), "--output", str(out))
    result = naiad(*command, "--overwrite")
    assert result.code == 130
    done = len(rows_of(out))
    assert 0 < done < 5_000
    assert f"interrupted after {done} of 5000 rows" in result.err
    assert result.err.splitlines()[-1] == f"  naiad classify {source} --output {out}"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert naiad(*command).code == 0
    assert [row["label"] for row in rows_of(out)] == [f"label{number}" for number in range(5_000)]


def interrupted(naiad: Naiad, service: BulkService, source: Path, out: Path) -> None:
    service.break_off = lambda answered: UNAVAILABLE if answered >= 50 else None
    assert naiad("classify", str(source), "--output", str(out), "--retry-for", "0.01").code == 69
    service.break_off = lambda _: None


def test_what_a_killed_run_left_behind_its_last_commit_is_cut_off(
    naiad: Naiad, service: BulkService, tmp_path: Path
) -> None:
    source, out = many(tmp_path, 100), tmp_path / "out.csv"
    interrupted(naiad, service, source, out)
    with out.open("a") as file:
        file.write('label50 x,label50,0.75,\nlabel51 x,"torn')
    assert naiad("classify", str(source), "--output", str(out)).code == 0
    assert [row["label"] for row in rows_of(out)] == [f"label{number}" for number in range(100)]


def test_a_run_does_not_go_on_over_anything_else(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    source, out = many(tmp_path, 100), tmp_path / "out.csv"
    command = ("classify", str(source), "--output", str(out))
    interrupted(naiad, service, source, out)

    result = naiad(*command, "--model", "other")
    assert result.code == 2 and "other settings: model was 'sentiment' and is 'other' now" in result.err
    text = source.read_text()
    source.write_text(text.replace("label7 ", "label8 "))
    result = naiad(*command)
    assert result.code == 2 and "the first 50 rows" in result.err
    source.write_text("text\nonly one row\n")
    assert naiad(*command).code == 2
    source.write_text(text)
    journal = output.journal_of(out)
    kept, lines = journal.read_text(), out.read_text()
    journal.write_text("{")
    assert "cannot be read" in naiad(*command).err
    journal.write_text(kept)
    out.write_text(lines.replace("label3,", "label4,"))
    assert "was changed since" in naiad(*command).err
    out.unlink()
    assert "is gone" in naiad(*command).err
    out.write_text(lines)
    assert naiad(*command).code == 0
    assert len(rows_of(out)) == 100

    result = naiad(*command)
    assert result.code == 2 and "exists and is no interrupted run" in result.err
    assert naiad(*command, "--overwrite").code == 0
    assert len(rows_of(out)) == 100


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    first = output.BulkOutput(tmp_path / "out.csv", {}, overwrite=False)
    with pytest.raises(Exception, match="another run is writing it"):
        output.BulkOutput(tmp_path / "out.csv", {}, overwrite=True)
    first.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("in.csv", "more.csv", "--output", "out.csv"), "wants one file"),
        (("--output", "out.csv"), "wants one file"),
        (("in.csv", "--json", "--output", "out.csv"), "wants one file"),
        (("in.csv", "--output", "out.pdf"), "does not end in one of"),
        (("in.csv", "--output", "out.txt"), "does not end in one of"),
        (("in.pdf", "--output", "out.csv"), "does not end in one of"),
        (("in.csv", "--output", "in.csv"), "--output is the input"),
        (("in.csv", "--top-k", "0", "--output", "out.csv"), "--top-k"),
        (("gone.csv", "--output", "out.csv"), "gone.csv: No such file"),
        (("in.csv", "--column", "nope", "--output", "out.csv"), "has no column 'nope', but 'text', 'label'"),
        (("in.csv", "--output", "out.csv"), "has a column 'label' already; choose others with --prefix"),
        (("twice.csv", "--output", "out.csv"), "two columns of the same name"),
        (("ragged.csv", "--output", "out.csv"), "line 3 has 2 cells, the header 1"),
        (("latin.txt", "--output", "out.csv"), "not UTF-8"),
        (("broken.jsonl", "--output", "out.csv"), "line 2 is not a JSON object"),
        (("torn.csv.gz", "--output", "out.csv"), "torn.csv.gz"),
        (("in.csv", "--prefix", "p_", "--output", "no/such/out.csv"), "No such file"),
        (("in.csv", "--column", "text"), "--column is for files: add --output OUT"),
        (("in.csv",), "'in.csv' is a file: add --output OUT"),
    ],
)
@pytest.mark.usefixtures("in_tmp_path")
def test_wrong_usage_is_told_before_anything_is_written(
    naiad: Naiad, service: BulkService, words: tuple[str, ...], message: str
) -> None:
    Path("in.csv").write_text("text,label\na,b\n")
    Path("twice.csv").write_text("text,text\na,b\n")
    Path("ragged.csv").write_text("text\na\nb,c\n")
    Path("latin.txt").write_bytes("é".encode("latin-1"))
    Path("broken.jsonl").write_text('{"text": "a"}\n[1]\n')
    Path("torn.csv.gz").write_bytes(gzip.compress(b"text\n" + b"abc\n" * 1000)[:-9])
    result = naiad("classify", *words)
    assert result.code == 2, result.err
    assert message in result.err and len(result.err.splitlines()) == 1
    assert not Path("out.csv").exists()
    assert service.options == []


def test_names_of_added_columns_can_be_chosen(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text,label\na film,b\n")
    assert naiad("classify", str(source), "--prefix", "p_", "--output", str(out)).code == 0
    assert out.read_text() == "text,label,p_label,p_score,p_error\na film,b,a,0.75,\n"


def test_a_file_without_rows_makes_an_empty_one(naiad: Naiad, service: BulkService, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n")
    assert naiad("classify", str(source), "--output", str(out)).code == 0
    assert out.read_text() == ""


def test_a_text_that_the_service_would_refuse_for_its_size_is_not_sent_as_a_whole(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("é" * 3_000_000 + "\n")
    (row,) = read_rows(Source(str(source), "txt", "text"))
    assert row.texts is not None
    assert MAX_SENT_BYTES - 2 < len(row.texts[0].encode()) <= MAX_SENT_BYTES
    assert row.cells["text"] == "é" * 3_000_000
