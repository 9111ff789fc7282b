from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.labelled_texts import DataError, LabelledText, majority_share, make_dataset, read_table, split_texts

GOOD_ROWS = [LabelledText(f"good {index}", "good") for index in range(30)]
BAD_ROWS = [LabelledText(f"bad {index}", "bad") for index in range(10)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_values_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        '\ufeffid,label,text\r\n1,x,"one, two"\r\n2,y,"say ""no"""\r\n'
        '3,x,"line\nbreak"\r\n\r\n4,y,\u00e9\u2028t\u00e9\r\n',
    )
    dataset = read_table(path, "text", "label")
    assert dataset.texts == (
        LabelledText("one, two", "x"),
        LabelledText('say "no"', "y"),
        LabelledText("line break", "x"),
        LabelledText("\u00e9 t\u00e9", "y"),
    )
    assert dataset.labels == ("x", "y")
    assert dataset.name == "a.csv"


def test_tsv_knows_no_quoting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"half a quote\tx\nplain, with comma\tx\nc\ty\nd\ty\n')
    assert [item.text for item in read_table(path, "text", "label").texts] == [
        '"half a quote',
        "plain, with comma",
        "c",
        "d",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.csv: the file is empty"),
        ("text,label\n", "a.csv: there is no labelled text in it"),
        ("text,mood\na,b\n", "a.csv: no column 'label'; the header has 'text', 'mood'"),
        ("body,label\na,b\n", "a.csv: no column 'text'; the header has 'body', 'label'"),
        ("text,label\na,x\nb,x\n", "a.csv: every text has the label 'x'; at least two labels are needed"),
        ("text,label\na,x\nb,x\nc,y\n", "a.csv: each label needs 2 texts or more; too few of 'y'"),
        ("text,label\na,x\nb\n", "a.csv: row 2 has 1 values, the header 2"),
        ('text,label\n"a,x\n', "a.csv: line 2: unexpected end of data"),
        (b"text,label\n\xff,x\n", "a.csv: not UTF-8 text (byte 11)"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(DataError) as caught:
        read_table(path, "text", "label")
    assert str(caught.value).removeprefix(f"{tmp_path}/") == message


@pytest.mark.parametrize(("name", "reason"), [("missing.csv", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(DataError, match=f"cannot be read: {reason}$"):
        read_table(tmp_path / name, "text", "label")


def test_repeats_are_kept_once_contradictions_not_at_all_and_each_is_counted() -> None:
    rows = [
        LabelledText("Same  text", "good"),
        LabelledText("same text", "good"),
        LabelledText("torn", "good"),
        LabelledText("Torn", "bad"),
        LabelledText("torn", "good"),
        LabelledText(" ", "good"),
        LabelledText("no label", ""),
        *GOOD_ROWS,
        *BAD_ROWS,
    ]
    dataset = make_dataset("rows", "", rows, left_out={"rating of zero": 5})
    assert dataset.texts == (LabelledText("Same text", "good"), *GOOD_ROWS, *BAD_ROWS)
    assert dataset.left_out == {"blank": 2, "contradictory": 3, "rating of zero": 5, "repeated": 1}


def test_the_split_is_disjoint_complete_and_holds_out_the_share_of_each_label() -> None:
    dataset = make_dataset("rows", "", [*GOOD_ROWS, *BAD_ROWS])
    split = split_texts(dataset, 0.2, seed=1)
    assert sorted(item.text for item in (*split.train, *split.held_out)) == sorted(item.text for item in dataset.texts)
    assert sum(item.label == "good" for item in split.held_out) == 6
    assert sum(item.label == "bad" for item in split.held_out) == 2
    assert majority_share(split.held_out) == 0.75


def test_the_split_follows_from_the_seed_and_not_from_the_order_of_the_rows() -> None:
    forwards = split_texts(make_dataset("rows", "", [*GOOD_ROWS, *BAD_ROWS]), 0.2, seed=1)
    backwards = split_texts(make_dataset("rows", "", [*BAD_ROWS, *GOOD_ROWS][::-1]), 0.2, seed=1)
    other_seed = split_texts(make_dataset("rows", "", [*GOOD_ROWS, *BAD_ROWS]), 0.2, seed=2)
    assert forwards == backwards
    assert set(forwards.held_out) != set(other_seed.held_out)


def test_the_split_of_a_known_text_list_stays_what_it_was() -> None:
    split = split_texts(make_dataset("rows", "", [*GOOD_ROWS, *BAD_ROWS]), 0.1, seed=13)
    assert [item.text for item in split.held_out] == ["bad 7", "good 10", "good 25", "good 29"]


@given(
    rows=st.lists(st.tuples(st.text(max_size=4), st.sampled_from(["x", "y"]))),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_no_text_is_on_both_sides_whatever_the_rows_are(rows: list[tuple[str, str]], share: float, seed: int) -> None:
    enough = [LabelledText(f"{label} {index}", label) for label in ("x", "y") for index in range(2)]
    dataset = make_dataset("rows", "", [*(LabelledText(*row) for row in rows), *enough])
    split = split_texts(dataset, share, seed)
    train = {" ".join(item.text.split()).casefold() for item in split.train}
    held_out = {" ".join(item.text.split()).casefold() for item in split.held_out}
    assert not train & held_out
    assert len(train) + len(held_out) == len(dataset.texts)
    assert {item.label for item in split.train} == {item.label for item in split.held_out} == {"x", "y"}
