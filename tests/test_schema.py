"""What a JSON text holds is checked against an example of what is expected."""

import pytest

from mrcnn_np.errors import CheckpointError, UserError
from mrcnn_np.schema import Any, Number, OneOf, check_value, parse_json

GOOD = [
    (3, int), (3, float), (2.5, float), ("a", str), (True, bool), (None, None), (10**400, int), ([], [int]),
    ([1, 2], [int]), ({}, {}), ({"a": 1, "z": []}, {"a": int}), ({}, {"a?": int}), ({"b": 1}, {"a?": int, ...: int}),
    (None, (str, None)), ("x", (str, None)), ([[1], None], [([int], None)]), (1, Number(int, 1)),
    (0.5, Number(float, 0, 1)),
    ("voc", OneOf("voc", "coco")), ({"deep": [{}]}, Any), ({"c": {"d": [1]}}, {"c": {"d": [int]}}),
]  # fmt: skip
BAD = [
    (3.5, int, "holds 3.5; expected int"),
    (True, int, "holds True; expected int"),
    (False, float, "holds False; expected float"),
    (1, bool, "holds 1; expected bool"),
    (10**400, float, "holds 1000.*; expected float"),
    ("3", int, "holds '3'; expected int"),
    (0, Number(int, 1), "holds 0; expected int of at least 1"),
    (7, Number(float, 0, 1), "holds 7; expected float of at least 0 and at most 1"),
    ("3", Number(int, 1), "holds '3'; expected int of at least 1"),
    (None, str, "holds None; expected str"),
    ([], {"a": int}, "holds list; expected a JSON object"),
    ({}, [int], "holds {}; expected list of int"),
    ({"a": 5}, {"a": (str, None)}, r"has a 5; expected str \| None"),
    ({}, {"a": int}, "lacks a; expected int"),
    ({"c": {}}, {"c": {"d": int}}, r"lacks c\.d; expected int"),
    ({"c": {"d": [1, "x"]}}, {"c": {"d": [int]}}, r"has c\.d\[1\] 'x'; expected int"),
    ({"a": 1, "b": "x"}, {"a": int, ...: float}, "has 'b' 'x'; expected float"),
    (1, OneOf(True, "b"), "holds 1; expected True or 'b'"),
    ({"a": {"b": "x" * 10**6}}, {"a": int}, "has a {'b': 'xx"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "schema"), GOOD)
def test_what_fits(value, schema):
    check_value(value, schema, "f.json")


@pytest.mark.parametrize(("value", "schema", "message"), BAD)
def test_what_does_not_fit_is_named(value, schema, message):
    with pytest.raises(UserError, match=f"^f.json (?:{message})") as caught:
        check_value(value, schema, "f.json")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("1e999", "is not JSON: 1e999 is too large a number"),
        ('{"a": -1e400}', "-1e400 is too large"),
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("9" * 5000, "is not JSON"),
        ("[" * 65 + "]" * 65, "is nested too deeply; expected at most 64 levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "is nested too deeply"),
        ("[" * 10**5, "is nested too deeply"),
        ("[" * 10**5 + "]" * 10**5, "is nested too deeply"),
    ],
)
def test_texts_that_are_refused(text, message):
    with pytest.raises(CheckpointError, match=message):
        parse_json(text, "f.json", error=CheckpointError)


def test_texts_that_are_read():
    assert parse_json(' {"a": [1, 2.5e3, null, true, "x"]} ', "f") == {"a": [1, 2500.0, None, True, "x"]}
    assert parse_json("[" * 64 + "]" * 64, "f")
