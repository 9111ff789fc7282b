"""The parts of the encoder benchmark that need no model."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.comparison import Comparison, Row
from benchmarks.encoders.__main__ import parse
from benchmarks.encoders.check import EncoderCheck, cosines
from benchmarks.encoders.loads import ARRIVAL, SORTED, Bulk, Clients, one_text_a_call, rates
from benchmarks.encoders.page import goals_table, page, systems_table
from benchmarks.encoders.plots import draw
from benchmarks.encoders.texts import TOKEN_LIMIT, SizedTexts, TextSource, recorded_lengths
from benchmarks.systems.adapters.encoder_batches import (
    BatchEncoder,
    FloatArray,
    IntArray,
    Setting,
    mean_vectors,
    padded,
)
from benchmarks.systems.adapters.encoder_naiad import in_flight
from benchmarks.systems.protocol import About, Embedded, EmbedRequest, Unsupported, answer_to

WORDS = ["the", "sea", "har", "##bour", "lay", "qui", "##et", "[UNK]"]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def source(lengths: list[int] | None = None) -> TextSource:
    return TextSource(["the harbour lay quiet", "the sea"], tokenizer(), lengths or [3, 4, 9, 20])


class WidthEncoder(BatchEncoder):
    """Hidden vectors that say which token they are of; notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []
        self._tokenizer = tokenizer()

    def load(self, options: dict[str, Any]) -> About:
        return About({}, "none", 0, "", "")

    def hidden(self, ids: IntArray, mask: IntArray, parallel: int) -> FloatArray:
        self.widths.append(ids.shape[1])
        return np.eye(len(WORDS), dtype=np.float32)[ids] + np.float32(0.5)


def test_recorded_lengths_are_mixed_with_a_long_tail() -> None:
    lengths = recorded_lengths()
    assert len(lengths) == 2_000 and min(lengths) >= 3 and max(lengths) == TOKEN_LIMIT
    assert statistics.mean(lengths) == pytest.approx(42, abs=3)
    assert statistics.median(lengths) < 30 and statistics.quantiles(lengths, n=10)[-1] > 80


def test_texts_have_exactly_the_recorded_tokens_and_differ_between_variants() -> None:
    work = source().sample(40, "a")
    assert work == source().sample(40, "a") != source().sample(40, "b")
    counts = [len(tokenizer().encode(text).ids) + 2 for text in work.texts]
    assert counts == list(work.tokens) and set(counts) == {3, 4, 9, 20}
    alike = work.by_length()
    assert list(alike.tokens) == sorted(work.tokens)
    assert sorted(alike.texts) == sorted(work.texts)
    assert [len(tokenizer().encode(text).ids) + 2 for text in alike.texts] == list(alike.tokens)


def test_texts_longer_than_all_sentences_are_filled_up() -> None:
    (text,) = source([80]).sample(1, "a").texts
    assert len(tokenizer().encode(text).ids) == 78


def test_rates_count_real_tokens() -> None:
    work = SizedTexts(("a", "b"), (10, 30))
    assert rates(work, Embedded(2.0)) == {"tokens_per_second": 20, "texts_per_second": 1}
    timed = rates(work, Embedded(2.0, [0.010, 0.030]))
    assert timed["latency_p50_ms"] == pytest.approx(10) and timed["latency_p99_ms"] == pytest.approx(10)


def test_both_orders_of_a_round_have_the_same_texts() -> None:
    asked: list[dict[str, Any]] = []

    def ask(message: dict[str, Any]) -> dict[str, Any]:
        asked.append(message)
        return {"embedded": {"seconds": 1.0, "latencies_s": [], "vectors": []}}

    for by_length in (False, True):
        Bulk(source(), 20, by_length).measure(ask, "round 1")
    Clients(source(), 8, 16).measure(ask, "round 1")
    arrival, alike, clients = asked
    assert sorted(arrival["texts"]) == sorted(alike["texts"]) and arrival["texts"] != alike["texts"]
    assert [one["by_length"] for one in asked] == [False, True, False]
    assert [one["clients"] for one in asked] == [0, 0, 8] and len(clients["texts"]) == 16


def test_batches_are_of_neighbours_and_padding_changes_no_vector() -> None:
    encoder = WidthEncoder()
    texts = ["the", "the sea lay the sea", "sea", "lay lay"]
    alone = np.concatenate([encoder.alone(text) for text in texts])
    encoder.widths.clear()
    for setting in (Setting(2), Setting(3), Setting(1, 2), Setting(2, 2)):
        np.testing.assert_allclose(encoder.together(texts, setting), alone, rtol=1e-6)
    assert encoder.widths[:4] == [5, 2, 5, 2]
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, rtol=1e-6)


def test_masked_tokens_do_not_count_in_the_mean() -> None:
    ids, mask = padded([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    hidden = np.array([[[1, 0], [1, 0], [1, 0]], [[0, 2], [9, 9], [9, 9]]], np.float32)
    np.testing.assert_allclose(mean_vectors(hidden, mask), [[1, 0], [0, 1]])


def test_tuning_keeps_a_setting_for_each_order(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = WidthEncoder()
    encoder.settings = (Setting(2), Setting(4))
    slow = {False: Setting(2), True: Setting(4)}
    for by_length, slowest in slow.items():
        monkeypatch.setattr(encoder, "_seconds", lambda _, setting, slowest=slowest: float(setting == slowest))
        chosen = answer_to(encoder, {"op": "tune", "texts": ["sea"], "by_length": by_length})["chosen"]
        assert chosen == f"batches of {6 - slowest.batch}"
    encoder.embed(EmbedRequest(("sea", "the sea", "the"), by_length=False))
    assert encoder.widths == [2]


def test_a_library_serves_one_client_only() -> None:
    encoder = WidthEncoder()
    done = encoder.embed(EmbedRequest(("sea", "the sea"), clients=1))
    assert len(done.latencies_s) == 2 and 0 < sum(done.latencies_s) <= done.seconds
    with pytest.raises(Unsupported, match="one caller"):
        encoder.embed(EmbedRequest(("sea",), clients=8))
    kept = answer_to(encoder, {"op": "embed", "texts": ["sea"], "clients": 0, "by_length": False, "keep_vectors": True})
    assert np.shape(kept["embedded"]["vectors"]) == (1, len(WORDS))


async def test_calls_in_flight_are_limited_and_keep_their_order() -> None:
    running, most = 0, 0

    async def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(9 - number):
            await asyncio.sleep(0)
        running -= 1
        return number

    assert await in_flight([call(number) for number in range(9)], 4) == list(range(9))
    assert most == 4


def test_cosines_of_other_vectors_fail_the_check() -> None:
    one = np.array([[1, 0], [1, 1]], np.float32)
    np.testing.assert_allclose(cosines(one, 3 * one), [1, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="not"):
        cosines(one, one[:1])

    def says(vectors: list[list[float]]) -> Any:
        done = {"seconds": 1.0, "latencies_s": [], "vectors": vectors}
        return lambda message: {"chosen": "batches of 8"} if message["op"] == "tune" else {"embedded": done}

    work = SizedTexts(("a", "b"), (3, 4))
    check = EncoderCheck(work, work, lambda _: one)
    found = check.answers(says([[1, 0], [1, 0.9]]))
    assert found["cosine_mean"] > found["cosine_least"] > 0.99 and found["sorted_setting"] == "batches of 8"
    for wrong in ([[0.0, 1.0], [1.0, 1.0]], [[float("nan"), 0.0], [1.0, 1.0]]):
        with pytest.raises(ValueError, match="not those of the checkpoint"):
            check.answers(says(wrong))


def rows() -> list[Row]:
    single = one_text_a_call(1)
    made = []
    for number, drift in ((1, 1.0), (2, 2.0)):
        for system, arrival, alike, p50 in (("naiad fp32", 300, 310, 9.0), ("A", 100, 200, 8.5), ("B", 120, 150, 7.0)):
            made += [
                Row(number, "bulk", ARRIVAL, system, {"tokens_per_second": drift * arrival, "texts_per_second": 3}),
                Row(number, "bulk", SORTED, system, {"tokens_per_second": drift * alike, "texts_per_second": 3}),
                Row(number, "clients", single, system, {"tokens_per_second": 50, "texts_per_second": 3,
                                                        "latency_p50_ms": p50, "latency_p99_ms": 2 * p50}),
            ]  # fmt: skip
    return made


def test_naiad_in_arrival_order_is_compared_with_each_order_of_the_best_peer() -> None:
    told = goals_table(Comparison(rows()))
    assert "tokens/s to A, sorted" in told and "tokens/s to B, arrival order" in told
    assert "| naiad fp32 | bulk, arrival order | 1.50 | 2.50 |  |" in told
    assert "+2.00" in told and SORTED not in told.split("\n", 1)[1]


def test_the_page_and_the_pictures_of_a_run(tmp_path: Path) -> None:
    about = {"versions": {"a": "1"}, "weights": "fp32", "weight_bytes": 9e6, "kv_cache": "", "settings": "plain"}
    sanity = {"arrival_setting": "x", "sorted_setting": "y", "cosine_mean": 1.0, "cosine_least": 0.5}
    systems = [
        {"name": "A", "about": about, "sanity": sanity, "problem": ""},
        {"name": "C", "about": None, "sanity": {}, "problem": "not installed"},
    ]
    figures = {
        "machine": {"cpu": "a CPU", "cores": 2, "kernel": "6"},
        "threads": 2,
        "sizes": {"bulk": 9, "single": 8, "a_client": 7},
        "systems": systems,
        "rows": [{"round": 1}, {"round": 2}],
    }
    compared = Comparison(rows())
    told = page(json.loads(json.dumps(figures)), compared)
    assert "| naiad fp32 | 450 (300 - 600) | 465 (310 - 620) | 50 |" in told
    assert "| A | 8.5 / 17.0 |" in told
    assert "| C | **not measured**: not installed |" in systems_table(systems)
    assert [file.name for file in draw(compared, tmp_path, "run")] == ["run-throughput.svg", "run-clients.svg"]


def test_options_choose_models_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse(["--quick", "--peers", "OpenVINO bf16", "--encoder", "embed"])
    assert [system.name for system in options.systems()] == ["naiad fp32", "naiad fp32 engine", "OpenVINO bf16"]
    assert [system.name for system in parse(["--peers", ""]).systems()][2:] == ["naiad int8", "naiad int8 engine"]
    with pytest.raises(SystemExit):
        parse(["--peers", "OpenVINO"])
    assert "--peers: no OpenVINO; there are sentence-transformers, " in capsys.readouterr().err
