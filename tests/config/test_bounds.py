"""Every field refuses what it cannot be, where the configuration is made: one sweep over all fields."""

import contextlib
import json
import math
import re
import time
import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn_np.backbone import ARCHITECTURES
from mrcnn_np.config import DECLARATIONS, Config, presets
from mrcnn_np.config.fields import BACKBONES
from mrcnn_np.errors import ConfigError
from mrcnn_np.vgg import VGGS

BASES = ("tiny", "torchvision", "matterport")
HINTS = typing.get_type_hints(Config)
NUMERIC = [name for name, d in DECLARATIONS.items() if d.range is not None]
TUPLES = [name for name, hint in HINTS.items() if "tuple" in str(hint)]
NAN, INFINITE = float("nan"), float("inf")

#: no number of pixels, channels, classes, steps, shares or rates
ABSURD = [10**9 + 7, 10**30, -(10**9), -(10**30), 10**5000, 1e300, -1e300, NAN, INFINITE, -INFINITE]
#: no number at all
OTHER_TYPES = ["1", "0.5", "", b"1", True, False, [1], {}, {"a": 1}, (), ((1,),), object, 1j, float]


def refusal(name, value, base="tiny"):
    """Return the message with which a value is refused; an empty text if it is taken."""
    try:
        presets.by_name(base).replace(**{name: value})
    except ConfigError as error:
        return str(error)
    return ""


def in_place(name, value):
    """Put a value where the field has numbers: itself, or each entry of its tuple in turn."""
    usual = getattr(presets.tiny(), name) or getattr(presets.matterport(), name)
    if name not in TUPLES:
        return [value]
    return [tuple(value if i == k else v for k, v in enumerate(usual)) for i in range(len(usual))]


def printed(value):
    """What a message has to repeat of a value."""
    try:
        return repr(value)[:100]
    except ValueError:
        return "too large to print"


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", NUMERIC)
def test_absurd_numbers_are_refused_with_field_value_and_expectation(name, base):
    for absurd in ABSURD:
        for value in in_place(name, absurd):
            message = refusal(name, value, base)
            assert message.startswith(f"{name} is ") and "; expected " in message, (value, message)
            if absurd is not ABSURD[4]:
                assert printed(value) in message
            assert len(message) < 1000


@pytest.mark.parametrize("name", NUMERIC)
def test_other_types_are_refused(name):
    for other in OTHER_TYPES:
        for value in in_place(name, other):
            message = refusal(name, value)
            assert message.startswith(f"{name} is ") and "; expected " in message, (value, message)


@pytest.mark.parametrize("name", NUMERIC)
def test_the_ends_of_a_range_are_what_the_table_says(name):
    """Just outside is refused; the ends themselves are, if at all, because of another field."""
    declared = DECLARATIONS[name].range
    whole = "int" in str(HINTS[name])
    step = 1 if whole else 1e-6
    low, high = (int(v) if whole else float(v) for v in (declared.low, declared.high))
    outside = [low if declared.above else low - step, high * (1 + 1e-6) + step]
    for number in outside if not whole else [low if declared.above else low - 1, high + 1]:
        for value in in_place(name, number):
            assert declared.expected(or_none="None" in str(HINTS[name])) in refusal(name, value), value
    for number in (low + (step if declared.above else 0), high):
        for value in in_place(name, number):
            message = refusal(name, value)
            assert not message or declared.expected(or_none="None" in str(HINTS[name])) not in message or declared.words


def test_what_the_reports_named():
    for name, value in (("rpn_convs", 10**9), ("mask_head_convs", 100000), ("fpn_channels", 10**30),
                        ("num_classes", 10**7), ("image_max_size", 2**20), ("box_pool_size", 10**4)):  # fmt: skip
        message = refusal(name, value)
        assert message.startswith(f"{name} is {value}; expected ") and " and at most " in message


@pytest.mark.parametrize("name", [*TUPLES, "name", "backbone"])
def test_a_million_entries_or_characters(name):
    began = time.perf_counter()
    if name in TUPLES:
        first = (getattr(presets.tiny(), name) or getattr(presets.matterport(), name) or ("x",))[0]
        message = refusal(name, (first,) * 10**6)
        assert re.match(rf"{name} has 1000000 entries; expected at most \d+$", message), message
        if name in ("no_decay", "frozen"):
            assert "expected at most 200" in refusal(name, ("x" * 10**6,))
    else:
        assert refusal(name, "x" * 10**6) == f"{name} has 1000000 characters; expected at most 200"
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("name", list(DECLARATIONS))
def test_none_and_nothing_where_they_mean_nothing(name):
    allowed = "None" in str(HINTS[name])
    assert bool(refusal(name, None)) != allowed
    if name in TUPLES and "..." not in str(HINTS[name]):
        assert refusal(name, ()).startswith(f"{name} is (); expected a tuple of ")


@pytest.mark.parametrize("name", [name for name, hint in HINTS.items() if hint is bool])
def test_switches_are_switches(name):
    for value in (0, 1, 2, "yes", "true", "no", None, [], 1.0, NAN):
        message = refusal(name, value)
        assert message.startswith(f"{name} is ") and message.endswith("; expected bool"), message


CHOICES = {name: typing.get_args(h) for name, h in HINTS.items() if typing.get_origin(h) is typing.Literal}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_name_all_and_suggest_the_nearest(name):
    for value in (0, True, None, [], (), "", "nothing like it", 10**5000, {"a": 1}, ("fc",)):
        message = refusal(name, value)
        assert message.startswith(f"{name} is ") and all(repr(c) in message for c in CHOICES[name])
    for choice in CHOICES[name]:
        for wrong in (choice.upper(), choice + "s", choice.replace("_", "-")):
            if wrong not in CHOICES[name]:
                assert refusal(name, wrong).endswith(f"; did you mean {choice!r}?"), wrong


def test_wrong_names_get_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown config field 'RPN_Convs'; did you mean 'rpn_convs'\?"):
        presets.tiny(RPN_Convs=1)
    with pytest.raises(ConfigError, match=r"; `mrcnn-np conventions --list` shows all fields"):
        presets.tiny(zzzzzz=1)
    for wrong, meant in (("tinny", "tiny"), ("matterpot", "matterport"), ("Torchvision", "torchvision"),
                         ("detectron", "detectron2"), ("torchvision_v3", "torchvision_v2")):  # fmt: skip
        with pytest.raises(
            ConfigError, match=rf"unknown preset '{wrong}'; expected one of .*; did you mean '{meant}'\?"
        ):
            presets.by_name(wrong)


def test_a_backbone_is_a_choice_too():
    with pytest.raises(
        ConfigError, match=r"backbone is 'ResNet-50'; expected one of tiny, .*; did you mean 'resnet50'\?"
    ):
        presets.tiny(backbone="ResNet-50")
    with pytest.raises(ConfigError, match=r"backbone is 'resnet5'; .*; did you mean 'resnet50'\?"):
        presets.tiny().replace(backbone="resnet5")  # where it is made, not where it is first used


def test_a_preset_that_is_none():
    with pytest.raises(AttributeError, match=r"no preset 'matterprt'; expected one of .*; did you mean 'matterport'\?"):
        _ = presets.matterprt
    assert not hasattr(presets, "__wrapped__") and callable(presets.tiny)


# --- JSON ---

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(10**18, 10**40), st.floats(), st.text(max_size=8),
    st.sampled_from(["1", "0.5", "none", "true", "tiny", "square", 10**400, "x" * 1000]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
NAMES = st.sampled_from(list(DECLARATIONS)) | st.text(max_size=10) | st.integers() | st.none()
FUZZ = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@given(st.dictionaries(NAMES, JSON, max_size=6), st.sets(st.sampled_from(list(DECLARATIONS)), max_size=5))
@FUZZ
def test_hostile_json_is_a_configuration_or_a_config_error(changes, missing):
    values = {**presets.tiny().to_dict(), **changes}
    for name in missing:
        values.pop(name, None)
    try:
        config = Config.from_dict(values)
    except ConfigError as error:
        assert str(error) and len(str(error)) < 1500
    else:
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert all(math.isfinite(v) for v in config.to_dict().values() if isinstance(v, (int, float)))


@given(JSON | st.dictionaries(NAMES, JSON, max_size=6))
@FUZZ
def test_whatever_else_json_holds_is_a_config_error(value):
    with pytest.raises(ConfigError):  # no text that small holds name and num_classes by chance
        Config.from_dict(value)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"learning_rate": 1e999}', "learning_rate is inf; expected float"),
        ('{"learning_rate": NaN}', "learning_rate is nan; expected float"),
        ('{"learning_rate": "0.1"}', "learning_rate is '0.1'; expected float"),
        ('{"steps": "100"}', "steps is '100'; expected int"),
        ('{"steps": 1e3}', "steps is 1000.0; expected int"),
        ('{"steps": true}', "steps is True; expected int"),
        ('{"steps": [1]}', r"steps is (1,); expected int"),
        ('{"steps": null}', "steps is None; expected int"),
        ('{"roi_aligned": 1}', "roi_aligned is 1; expected bool"),
        ('{"pixel_mean": [1, 2, [3]]}', r"pixel_mean is (1, 2, [3]); expected a tuple of 3 numbers"),
        ('{"pixel_mean": {"r": 1}}', "pixel_mean is {'r': 1}; expected a tuple of 3 numbers"),
        ('{"resize_mode": ["square"]}', "resize_mode is ('square',); expected 'square' or 'shortest_edge'"),
        ('{"frozen": "backbone.*"}', "frozen is 'backbone.*'; expected a tuple of texts"),
        ('{"": 1}', "unknown config field ''"),
        ('{"rpn_convs": 1000000000}', "rpn_convs is 1000000000; expected positive and at most 32"),
    ],
)
def test_json_by_hand(text, message):
    with pytest.raises(ConfigError) as error:
        Config.from_dict({**presets.tiny().to_dict(), **json.loads(text)})
    assert message in str(error.value)


@pytest.mark.parametrize(
    "value", [None, [], [["name", "tiny"]], "tiny", 3, 1.5, True, {"name": "x"}, {"num_classes": 3}, {}]
)
def test_what_is_no_configuration(value):
    with pytest.raises(ConfigError, match=r"a configuration is|incomplete config: it lacks (name|num_classes)"):
        Config.from_dict(value)


def test_nesting_without_end():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigError, match="steps is tuple that is too large to print; expected int"):
        Config.from_dict({**presets.tiny().to_dict(), "steps": deep})


@given(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(list(DECLARATIONS)), JSON.map(str) | st.text()))
@FUZZ
def test_overrides_of_any_text(text):
    with contextlib.suppress(ConfigError):
        presets.tiny().with_overrides([text])


def test_the_names_of_backbones():
    assert (*ARCHITECTURES, *VGGS) == BACKBONES
