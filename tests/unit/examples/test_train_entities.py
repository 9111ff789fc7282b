from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from examples import entity_lists, entity_sentences, train_entities
from examples.entity_lists import NameLists
from examples.entity_sentences import MarkedText, Span
from examples.film_reviews import OUTER_MEMBER
from examples.token_training import LABELS, entity_scores, label_ids, spans_of

NAMES = NameLists(("Ada", "Max"), ("Lovelace", "Planck"), ("Kiel", "Ulm"), ("Peru", "Chad"), ("Acme Inc", "Zuse AG"))


def named(text: MarkedText) -> list[tuple[str, str]]:
    return [(text.text[span.start : span.end], span.label) for span in text.spans]


def test_templates_are_filled_with_names_that_the_spans_point_at() -> None:
    chance = random.Random(1)
    texts = entity_sentences.from_templates(["{PER} of {ORG} left {LOC}.", "It rained."], NAMES, 50, chance)
    assert {label for text in texts for _, label in named(text)} == {"PER", "ORG", "LOC"}
    assert all(
        name in (*NAMES.cities, *NAMES.countries) for text in texts for name, label in named(text) if label == "LOC"
    )
    assert any(not text.spans for text in texts)
    renamed = entity_sentences.renamed(
        MarkedText("Bo saw Rome.", (Span(0, 2, "PER"), Span(7, 11, "LOC"))), NAMES, chance
    )
    assert [label for _, label in named(renamed)] == ["PER", "LOC"]
    assert renamed.text.endswith(".") and " saw " in renamed.text


def test_the_parts_share_no_template_and_no_sentence_labelled_by_hand() -> None:
    train, held_out = entity_sentences.templates(False), entity_sentences.templates(True)
    assert not set(train) & set(held_out)
    assert len(held_out) > 15
    gold = entity_sentences.hand_labelled()
    assert ("Ada Lovelace", "PER") in named(gold[0])
    assert not any(mark in text.text for text in gold for mark in "[]{}")


def archive_with(sentences: list[str], folder: Path) -> Path:
    def packed(name: str, content: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    lines = "\n".join(f"{number + 1}_1\t0.5\t{sentence}" for number, sentence in enumerate(sentences))
    path = folder / "archive.tar.gz"
    path.write_bytes(packed(OUTER_MEMBER, packed(entity_sentences.EDITORIALS, lines.encode())))
    return path


def test_real_sentences_are_kept_only_if_every_capital_is_understood(tmp_path: Path) -> None:
    archive = archive_with(
        [
            "Then Mr. Smithson went to Peru on Monday.",
            "The Zorblax committee met again, as then and the week before then.",
            "the end then was near, and in the Justice Department nobody slept.",
        ],
        tmp_path,
    )
    texts = entity_sentences.editorials(archive, (NAMES, NAMES), held_out=False)
    assert [named(text) for text in texts] == [[("Smithson", "PER"), ("Peru", "LOC")], [("Justice Department", "ORG")]]


def tokenizer() -> Tokenizer:
    words = ["[UNK]", "[CLS]", "[SEP]", "anna", "pl", "##anck", "saw", "ulm", "."]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return made


def test_labels_of_tokens_and_names_are_two_forms_of_the_same() -> None:
    text = "anna planck saw ulm."
    spans = (Span(0, 11, "PER"), Span(16, 19, "LOC"))
    encoding = tokenizer().encode(text)
    labels = label_ids(encoding, spans)
    words = [LABELS[label] if label >= 0 else "-" for label in labels]
    assert words == ["-", "B-PER", "I-PER", "I-PER", "O", "B-LOC", "O", "-"]
    assert spans_of(encoding, labels) == set(spans)
    # A name that begins with I-, and a word whose later tokens say something else.
    assert spans_of(encoding, [0, 0, 2, 0, 0, 4, 0, 0]) == {Span(5, 11, "PER"), Span(16, 19, "LOC")}


def test_f1_counts_whole_names_of_the_right_kind() -> None:
    expected = [{Span(0, 3, "PER"), Span(5, 9, "LOC")}, set()]
    found = [{Span(0, 3, "PER"), Span(5, 8, "LOC")}, {Span(0, 2, "ORG")}]
    scores = entity_scores(found, expected)
    assert scores == {"all": 0.4, "LOC": 0.0, "ORG": 0.0, "PER": 1.0}


def test_lists_are_read_from_the_packages_and_share_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_people(path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            for kind in ("female.first", "male.first", "all.last"):
                rows = "".join(f"{kind[0].upper()}NAME{number} 1.0 1.0 {number}\n" for number in range(50)).encode()
                member = tarfile.TarInfo(f"names-0.3.0/names/dist.{kind}")
                member.size = len(rows)
                archive.addfile(member, io.BytesIO(rows))

    def write_wheels(places: Path, companies: Path) -> None:
        with zipfile.ZipFile(places, "w") as wheel:
            cities = "".join(
                "\t".join(["1", f"City{n}", *[""] * 12, str(90_000 + 1_000 * n)]) + "\n" for n in range(100)
            )
            wheel.writestr("geotext/data/cities15000.txt", cities)
            lands = "".join("\t".join(["XX", "", "", "", f"Land{n}", "", "", "1000000"]) + "\n" for n in range(100))
            wheel.writestr("geotext/data/countryInfo.txt", "#comment\n" + lands)
        with zipfile.ZipFile(companies, "w") as wheel:
            content = {"DAX": {"companies": [{"name": f"Company {n} (old)"} for n in range(100)]}}
            wheel.writestr("pytickersymbols/indices_data.py", f'"""Data."""\nINDICES = {content!r}\n')

    write_people(tmp_path / "people")
    write_wheels(tmp_path / "places", tmp_path / "companies")
    files = {"names==0.3.0": "people", "geotext==0.4.0": "places", "pytickersymbols==1.17.10": "companies"}
    monkeypatch.setattr(entity_lists, "fetch", lambda file, _folder: tmp_path / files[file.requirement])
    train, held_out = entity_lists.read_name_lists(tmp_path)
    for field in ("first_names", "surnames", "cities", "countries", "companies"):
        one, other = getattr(train, field), getattr(held_out, field)
        assert one and other and not set(one) & set(other)
    assert "Fname0" in (*train.first_names, *held_out.first_names)
    assert "City0" not in (*train.cities, *held_out.cities), "a small town"
    assert "Company 7" in (*train.companies, *held_out.companies)


def test_training_gives_a_checkpoint_and_says_how_good_it_is(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = MarkedText("the film was dull", (Span(4, 8, "ORG"),))
    options = replace(train_entities.QUICK.options, trained_layers=1)
    monkeypatch.setattr(train_entities, "QUICK", replace(train_entities.QUICK, options=options))
    monkeypatch.setattr(train_entities, "make_texts", lambda _preset, _folder: ([text] * 64, {"own": [text]}))
    output = tmp_path / "output"
    arguments = ["--quick", "--base", str(tiny_bert), "--output", str(output)]
    assert train_entities.main(arguments) == 0
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    assert record["labels"] == list(LABELS)
    assert record["held_out_f1"].keys() == {"own"}
    assert (record["base"], record["epochs"], record["trained_layers"]) == ("tiny-bert", 1, 1)
    assert json.loads((output / "config.json").read_text())["id2label"]["1"] == "B-PER"
    capsys.readouterr()
    assert train_entities.main(arguments) == 0
    assert "is up to date" in capsys.readouterr().out
