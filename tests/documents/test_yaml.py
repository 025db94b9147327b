"""Bytes to values and back: limits, lines, scalars, and that nothing ever escapes."""

import math
import re
from enum import StrEnum
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.documents import yaml

# -- scalars -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        ("0", 0),
        ("-0", 0),
        ("12", 12),
        ("-7", -7),
        ("1.5", 1.5),
        ("1.0", 1),
        ("1e3", 1000),
        ("-1.5e-2", -0.015),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", float(2**63)),
        ("1e300", 1e300),
        *[
            (text, text)
            for text in (
                "on off yes no y n On NO tRUE nULL 010 0o17 0x1f 0b1 1_000 1:30 +1 .5 1. 1e .inf -.inf .nan NaN"
                " Infinity 2025-07-22 2025-07-22T21:26:54Z 1.2.3 -a = << 12a value"
            ).split()
        ],
        ('"true"', "true"),
        ("'1'", "1"),
        ('"\\u0041"', "A"),
        ("!!str 1", "1"),
        ("!!str true", "true"),
    ],
)
def test_scalars_are_typed_as_json_types_them_and_everything_else_is_a_string(text, value):
    (document,) = yaml.read("a.yaml", f"key: {text}\n".encode()).documents
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "rule"),
    [
        pytest.param(b"a: 1\nb: 2\na: 3\n", 3, "DuplicateKey", id="a key twice"),
        pytest.param(b"a:\n  b: 1\n  'b': 2\n", 3, "DuplicateKey", id="a key twice, once quoted"),
        pytest.param(b"a: {b: {}, b: []}\n", 1, "DuplicateKey", id="a key twice, its values being collections"),
        pytest.param(b"a: &x [1]\nb: *x\n", 2, "Alias", id="an alias as a value"),
        pytest.param(b"a: &x y\n*x : 1\n", 2, "Alias", id="an alias as a key"),
        pytest.param(b"a:\n  <<: {b: 1}\n", 2, "MergeKey", id="a merge key"),
        pytest.param(b"1: a\n", 1, "KeyNotString", id="a number as a key"),
        pytest.param(b"true: a\n", 1, "KeyNotString", id="a boolean as a key"),
        pytest.param(b"~: a\n", 1, "KeyNotString", id="nothing as a key"),
        pytest.param(b"a: 1\n? [b]\n: 1\n", 2, "KeyNotString", id="a list as a key"),
        pytest.param(b"a: 1\n? {b: 1}\n: 1\n", 2, "KeyNotString", id="a mapping as a key"),
        pytest.param(b"a: !!python/object:os.system x\n", 1, "Tag", id="a Python tag"),
        pytest.param(b"a: !!int '1'\n", 1, "Tag", id="an int tag"),
        pytest.param(b"a: !!timestamp 2001-13-99\n", 1, "Tag", id="a timestamp tag"),
        pytest.param(b"a: !!binary x\n", 1, "Tag", id="a binary tag"),
        pytest.param(b"a: !mine {b: 1}\n", 1, "Tag", id="a tag of somebody's own"),
        pytest.param(b"a: !!set {b, c}\n", 1, "Tag", id="a set"),
        pytest.param(b"a: b: c\n", 1, "InvalidYaml", id="two colons"),
        pytest.param(b"a: 1\n\tb: 2\n", 2, "InvalidYaml", id="a tab as indentation"),
        pytest.param(b"a: [1\n", 2, "InvalidYaml", id="an open bracket"),
        pytest.param(b'a: "\\ud800"\n', 1, "InvalidYaml", id="half a surrogate pair"),
        pytest.param(b"a: @b\n", 1, "InvalidYaml", id="a reserved indicator"),
        pytest.param(b"%YAML 3.0\n---\na: 1\n", 1, "InvalidYaml", id="YAML of another version"),
        pytest.param(b"a: 1\nb: caf\xe9\n", 2, "NotUtf8", id="Latin-1"),
        pytest.param("a: 1\n".encode("utf-16"), 1, "NotUtf8", id="UTF-16 with a mark"),
        pytest.param("a: 1\n".encode("utf-16-le"), 1, "ControlCharacter", id="UTF-16 without a mark"),
        pytest.param(b"a: 1\nb: \x00\n", 2, "ControlCharacter", id="NUL"),
        pytest.param(b"a: 1\nb: \x1b[31m\n", 2, "ControlCharacter", id="a terminal escape"),
        pytest.param("# hidden\u2028a: 1\n".encode(), 1, "ControlCharacter", id="a line separator in a comment"),
        pytest.param("# hidden\x85a: 1\n".encode(), 1, "ControlCharacter", id="a next-line character in a comment"),
        pytest.param(b"# hidden\ra: 1\n", 1, "ControlCharacter", id="a carriage return on its own"),
        pytest.param("a: \ufeffb\n".encode(), 1, "ControlCharacter", id="a byte order mark inside"),
        pytest.param(b"a: 1e999\n", 1, "InvalidNumber", id="an infinite number"),
        pytest.param(b"a: " + b"9" * 5000, 1, "InvalidNumber", id="a number of 5,000 digits"),
        pytest.param(b"a: " + b"x" * yaml.MAX_BYTES, 0, "TooLarge", id="more than two mebibytes"),
        pytest.param(b"\n" + b"[" * 30_000, 2, "TooDeep", id="30,000 open brackets"),
        pytest.param(b"\n" + b"{a: " * 30_000, 2, "TooDeep", id="30,000 open braces"),
        pytest.param(b"\n" + b"- " * 50_000, 2, "TooDeep", id="50,000 dashes"),
        pytest.param(b"a: 1\n---\n" * 200 + b"b: 1\n", 400, "TooMany", id="201 documents"),
        pytest.param(b"[" + b"1," * 250_000 + b"1]", 0, "TooMany", id="250,000 values"),
        pytest.param(b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2, "Alias", id="a bomb of aliases"),
    ],
)
def test_a_bad_file_is_refused_with_its_line_and_rule(data, line, rule):
    read = yaml.read("resources/a.yaml", data)
    assert read.documents == ()
    assert [(one.path, one.line, one.rule) for one in read.problems] == [("resources/a.yaml", line, rule)]


@pytest.mark.parametrize(
    ("data", "line", "rule"),
    [
        pytest.param(b'{\n"a": 1,\n"a": 2}', 3, "DuplicateKey", id="a key twice"),
        pytest.param(b'{"a": NaN}', None, None, id="NaN is only a word, read as YAML"),
        pytest.param(b"[" * 30_000, 1, "TooDeep", id="30,000 open brackets"),
        pytest.param(b"[" * 65 + b"]" * 65, 1, "TooDeep", id="65 levels"),
        pytest.param(b'\n{"a": "\\ud800"}', 2, "InvalidJson", id="half a surrogate pair"),
        pytest.param(b'{"a": 1e999}', 1, "InvalidNumber", id="an infinite number"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", 1, "InvalidNumber", id="a number of 5,000 digits"),
        pytest.param(b'{"a": 1\n', 2, "InvalidYaml", id="an open brace"),
        pytest.param(b"[" + b"1," * 250_000 + b"1]", 0, "TooMany", id="250,000 values"),
    ],
)
def test_a_bad_json_file_is_refused_likewise(data, line, rule):
    problems = yaml.read("a.json", data).problems
    assert [(one.line, one.rule) for one in problems] == ([(line, rule)] if rule else [])


def test_messages_quote_no_values():
    """A value may be a Secret's; names of keys may be told."""
    bad = [
        "a: hunter2: x",
        "a: [hunter2",
        "a: 'hunter2",
        "a: !hunter2 hunter2",
        "a: |hunter2",
        "hunter2: 1\nhunter2: 1",
    ]
    told = [str(yaml.read("a.yaml", text.encode()).problems[0]) for text in bad]
    assert ["hunter2" in text for text in told] == [False, False, False, False, False, True]


# -- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" * 64 + b"]" * 64, id="64 levels"),
        pytest.param(b"a: 1\n---\n" * 199 + b"b: 1\n", id="200 documents"),
        pytest.param(b"a: " + b"x" * (yaml.MAX_BYTES - 3), id="a mebibyte"),
        pytest.param(b"a: 1" + b"0" * 300, id="a number of 301 digits"),
        pytest.param(b"[" + b"1," * 199_000 + b"1]", id="199,000 values"),
    ],
)
def test_what_just_fits_is_read(data):
    assert yaml.read("a.yaml", data).problems == ()


# -- encodings, line ends, documents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "values"),
    [
        pytest.param(b"", [], id="an empty file"),
        pytest.param(b"# nothing\n", [], id="comments only"),
        pytest.param(b"---\n", [None], id="a separator only"),
        pytest.param(b"---\n---\na: 1\n...\n---\nb: 2\n", [None, {"a": 1}, {"b": 2}], id="several documents"),
        pytest.param(b"\xef\xbb\xbfa: 1\n", [{"a": 1}], id="a byte order mark at the beginning"),
        pytest.param(b"a: 1\r\nb: |\r\n  c\r\n  d\r\n", [{"a": 1, "b": "c\nd\n"}], id="CRLF"),
        pytest.param(b"a:\t1\n", [{"a": 1}], id="a tab before a value"),
        pytest.param("a: é😀\n".encode(), [{"a": "é😀"}], id="letters of all kinds"),
        pytest.param(b"a: &x 1\n", [{"a": 1}], id="an anchor that nobody uses"),
        pytest.param(b"on: 1\nyes: 2\n", [{"on": 1, "yes": 2}], id="on and yes as keys"),
        pytest.param(b'"<<": 1\n', [{"<<": 1}], id="a quoted merge key is a key"),
        pytest.param(b'{"a": 1, "b": [true, null]}', [{"a": 1, "b": [True, None]}], id="JSON in a YAML file"),
    ],
)
def test_files_of_all_kinds_are_read(data, values):
    read = yaml.read("a.yaml", data)
    assert read.problems == ()
    assert [document.value for document in read.documents] == values


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param(b'\t{"a"\t:\t1,\n\t"b":[1.5,"x"]\t}', {"a": 1, "b": [1.5, "x"]}, id="tabs as white space"),
        pytest.param(b'{"a": "\\ud83d\\ude00\\/"}', {"a": "😀/"}, id="a surrogate pair"),
        pytest.param(
            b'{"a": "true", "b": {}, "c": []}', {"a": "true", "b": {}, "c": []}, id="a string, empty collections"
        ),
        pytest.param(b'{"a": "[{,\\"}]:"}', {"a": '[{,"}]:'}, id="brackets in a string"),
        pytest.param(b"[]", [], id="a list"),
        pytest.param(b"3", 3, id="a number"),
        pytest.param(b'"text"', "text", id="a string"),
        pytest.param(b'"a": 1,\n"b": {"c": 2}\n', {"a": 1, "b": {"c": 2}}, id="members without braces"),
        pytest.param(
            b'a: 1\n"status": {\n"x": [\n1\n]\n}\n', {"a": 1, "status": {"x": [1]}}, id="YAML with JSON in it"
        ),
        pytest.param(b'{"a": 1,}', {"a": 1}, id="a trailing comma, which is YAML"),
    ],
)
def test_a_json_file_is_read_as_json_first_and_then_as_yaml(data, value):
    (document,) = yaml.read("a.JSON", data).documents
    assert document.value == value


# -- lines -----------------------------------------------------------------------------------------------------

LINES = """\
# a comment

a:
  b: 1
  list:
  - x
  - y: 2
    z/z: 3
---
c: 4
"""


def test_lines_are_those_of_the_keys_and_the_items():
    first, second = yaml.read("a.yaml", LINES.encode(), lines=True).documents
    assert (first.line, second.line) == (3, 10)
    assert first.lines == {
        "": 3,
        "/a": 3,
        "/a/b": 4,
        "/a/list": 5,
        "/a/list/0": 6,
        "/a/list/1": 7,
        "/a/list/1/y": 7,
        "/a/list/1/z~1z": 8,
    }
    assert second.lines == {"": 10, "/c": 10}


def test_lines_of_json_are_told_too():
    (document,) = yaml.read("a.json", b'{\n"a": [\n1,\n{"b": 2}\n]}', lines=True).documents
    assert document.lines == {"": 1, "/a": 2, "/a/0": 3, "/a/1": 4, "/a/1/b": 4}


def test_lines_are_left_out_unless_asked_for():
    assert [document.lines for document in yaml.read("a.yaml", LINES.encode()).documents] == [{}, {}]


# -- dump --------------------------------------------------------------------------------------------------------

DUMPED = """\
apiVersion: v1
data:
  bool: "true"
  date: "2025-07-22"
  empty: ""
  exponent: "1e3"
  hash: '# no comment'
  hex: "0x1f"
  "null": "~"
  number: "1"
  octal: "010"
  script: |
    one
      two
  stripped: |-
    one
    two
  time: "1:30"
  trailing: "one \\n two"
  "y": "n"
  "yes": "on"
kind: ConfigMap
list: []
mapping: {}
nested:
- - 1
  - 2.5
- a: null
  b: true
text: All clusters in the stage are updated, waiting for after-stage tasks to complete
  and then some more
"""


def test_dump_writes_as_kubectl_does():
    """Keys sorted, lists at the column of their key, double quotes where a string could be taken for something else."""
    (document,) = yaml.read("a.yaml", DUMPED.encode()).documents
    assert yaml.dump(document.value) == DUMPED


def test_dump_takes_tuples_and_any_mapping_and_refuses_what_is_not_finite():
    reason = StrEnum("Reason", {"ON": "on", "TEXT": "text"})
    assert yaml.dump(MappingProxyType({"a": (1, 2)})) == "a:\n- 1\n- 2\n"
    assert yaml.dump([reason.ON, reason.TEXT]) == '- "on"\n- text\n'
    with pytest.raises(ValueError, match="not finite"):
        yaml.dump({"a": math.nan})


def _is_text(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)


_texts = st.one_of(
    st.text().filter(_is_text),
    st.text(alphabet="\n\t\r -#:'\"|>[]{}?&*!%@`,a1\x85\u2028\ufeff\x00"),
    st.sampled_from(
        ["on", "1:30", "010", "~", "<<", "=", ".inf", "1e3", "2025-07-22", "true", "y", "---", "...", "- a"]
    ),
    st.text(alphabet=" a\n", min_size=70, max_size=200),
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=_values)
def test_what_was_dumped_reads_as_it_was(value):
    text = yaml.dump(value)
    read = yaml.read("a.yaml", text.encode())
    assert read.problems == ()
    assert [document.value for document in read.documents] == [value]
    assert yaml.dump(read.documents[0].value) == yaml.dump(yaml.read("a.yaml", text.encode()).documents[0].value)


@settings(max_examples=400, deadline=None)
@given(value=_values, depth=st.integers(min_value=0, max_value=40))
def test_dump_writes_what_the_library_writes(value, depth):
    """The lines are put together here, for speed; how they look is the library's alone."""
    for number in range(depth):
        value = {f"k{number}": value} if number % 3 else [value, "text of some words"]
    assert yaml.dump(value) == yaml._by_library(value)


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(_texts, _values, min_size=1, max_size=4), other=_values)
def test_what_was_written_before_is_written_alike_wherever_it_stands(value, other):
    def twice(one):
        return {"a": [one, other, {"b": one}], "c": one, "d": {"e": {"f": one}}}

    written = yaml.Written(value)
    for _ in range(2):
        assert yaml.dump(twice(written)) == yaml.dump(twice(value))


# -- whatever comes ------------------------------------------------------------------------------------------------

_SNIPPETS = [
    b"a: ",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\n",
    b"  ",
    b"&a ",
    b"*a",
    b"<<: ",
    b"? ",
    b"!!x ",
    b"|",
    b'"',
    b"'",
]
_SNIPPETS += [
    b"\\u",
    b"\\ud800",
    b"%YAML 1.1\n",
    b"---\n",
    b"...\n",
    b"#",
    b"\t",
    b"\r",
    b"\x00",
    b"\xff",
    b"1e9",
    b",",
    b":",
]
_bytes = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(_SNIPPETS), max_size=60).map(b"".join))


@settings(max_examples=300, deadline=None)
@given(data=_bytes, path=st.sampled_from(["a.yaml", "a.json"]))
def test_no_bytes_make_it_raise_and_the_verdict_is_always_the_same(data, path):
    read = yaml.read(path, data, lines=True)
    assert (read.documents == ()) or (read.problems == ())
    assert len(read.problems) <= 1
    assert repr(read) == repr(yaml.read(path, data, lines=True))
