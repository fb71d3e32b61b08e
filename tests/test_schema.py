"""What a JSON text must look like: every kind of schema, and what does not fit it."""

import json

import pytest

from mrcnn_np.schema import Optional, loads, one_line, require, shown

SCHEMA = {
    "step": range(0, 10),
    "name": str,
    "on": bool,
    "rate": float,
    "count": int,
    "box": (None, [float]),
    "sums": {str: int},
    "inner": {"a": [[int]], ...: object},
    "note": Optional(str),
}
GOOD = {
    "step": 3, "name": "x", "on": False, "rate": 1, "count": -5, "box": None, "sums": {"a": 1},
    "inner": {"a": [[1], []], "b": {}},
}  # fmt: skip


def test_what_fits():
    assert loads(json.dumps(GOOD), SCHEMA, "it") == GOOD
    assert loads(json.dumps(GOOD | {"box": [1, 2.5], "note": "n"}).encode(), SCHEMA, "it")["note"] == "n"
    require((1, 2), [int], "a tuple, which is what a list becomes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 10}, r"it\['step'\] is 10; expected a whole number from 0 to 9$"),
        ({"step": True}, r"it\['step'\] is True; expected a whole number"),
        ({"step": 3.0}, r"it\['step'\] is 3.0; expected a whole number"),
        ({"name": 7}, r"it\['name'\] is 7; expected a text$"),
        ({"on": 1}, r"it\['on'\] is 1; expected true or false$"),
        ({"rate": "1"}, r"it\['rate'\] is '1'; expected a finite number$"),
        ({"rate": False}, r"it\['rate'\] is False"),
        ({"rate": 10**400}, r"it\['rate'\] is a huge number; expected a finite number$"),
        ({"count": None}, r"it\['count'\] is None; expected a whole number$"),
        ({"box": [1, "2"]}, r"it\['box'\] is a list of 2; expected null or a list$"),
        ({"box": {}}, r"it\['box'\] is a dict of 0; expected null or a list$"),
        ({"sums": []}, r"it\['sums'\] is a list of 0; expected an object$"),
        ({"sums": {"a": "1"}}, r"it\['sums'\]\['a'\] is '1'; expected a whole number$"),
        ({"inner": {"b": 1}}, r"it\['inner'\] lacks 'a'$"),
        ({"inner": {"a": [3]}}, r"it\['inner'\]\['a'\]\[0\] is 3; expected a list$"),
        ({"inner": {"a": [[1], [2, {}]]}}, r"it\['inner'\]\['a'\]\[1\]\[1\] is a dict of 0"),
        ({"note": None}, r"it\['note'\] is None; expected a text$"),
        ({"more": 1}, r"it has 'more'; expected 'step', 'name', .*'note'$"),
    ],
)
def test_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        loads(json.dumps(GOOD | change), SCHEMA, "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON: Expecting value"),
        ("{", "it is not JSON"),
        ("1e999", "it is not JSON: 1e999 is too large for a number"),
        ("[-1e400]", "it is not JSON: -1e400 is too large"),
        ("NaN", "it is not JSON: NaN is no number"),
        ("[Infinity]", "Infinity is no number"),
        ("-Infinity", "-Infinity is no number"),
        ('{"a": 1, "b": 2, "a": 1}', "it is not JSON: 'a' is there twice"),
        ('[{"a": {"\\u001b": 1, "\\u001b": 2}}]', r"'\\x1b' is there twice"),
        ("[" * 100_000, "it nests too deep"),
        ('{"a":' * 100_000, "it nests too deep"),
        ("9" * 5000, "it is not JSON: Exceeds the limit"),
        (b"\xff\xff\xff", "it is not JSON"),
        ("[1, 2", "it is not JSON"),
    ],
)
def test_what_is_no_json(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        loads(text, object, "it")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_lack_is_named():
    for key in GOOD:
        with pytest.raises(ValueError, match=f"^it lacks '{key}'$"):
            require({k: v for k, v in GOOD.items() if k != key}, SCHEMA, "it")
    with pytest.raises(ValueError, match=r"^it is 3; expected an object$"):
        require(3, SCHEMA, "it")


def test_foreign_texts_are_repeated_in_part_and_without_control_characters():
    assert shown("\x1b[31mred\n") == "'\\x1b[31mred\\n'"
    assert len(shown("x" * 10**6)) < 100 and len(one_line("x\n" * 10**6)) < 400
    assert one_line("a\nb\x1b[0m") == "a b [0m"
