"""The reader of documentation pages itself."""

from tests.support.documentation import Example, commands, examples, same_but_for_numbers

PAGE = """# Title

```python
print(1)
```

```text
1
```

```python
x = 2
```

```console
$ echo one \\
  two
one two
$ true
```

```sh
true \\
  one

false
```
"""


def test_blocks_are_found_with_what_they_print() -> None:
    assert list(examples(PAGE)) == [
        Example("python", "print(1)\n", 3, "1\n"),
        Example("python", "x = 2\n", 11, None),
        Example("console", "$ echo one \\\n  two\none two\n$ true\n", 15, None),
        Example("sh", "true \\\n  one\n\nfalse\n", 22, None),
    ]


def test_commands_come_with_their_output() -> None:
    assert list(commands("$ echo one \\\n  two\none two\n$ true\n")) == [
        ("echo one \\\n  two", "one two\n"),
        ("true", ""),
    ]
    assert list(commands("true \\\n  one\n\nfalse\n")) == [("true    one", ""), ("false", "")]


def test_outputs_may_differ_in_numbers_only() -> None:
    assert same_but_for_numbers("good  +0.25  ███\n\n3 runs", "good  -0.5   █\n12 runs\n")
    assert not same_but_for_numbers("good", "bad")
    assert not same_but_for_numbers("good\nbad", "good")
    assert not same_but_for_numbers("", "good")
    assert same_but_for_numbers("a\nb\nc\nd", "a\n...\nd")
    assert same_but_for_numbers("a\nd", "a\n...\nd") is False
