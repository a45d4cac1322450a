"""The codec for every message there could be: what is said is understood, and what is no message is refused by its word and never by accident."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import RemoteError
from mesh.wire import canonical, codec, messages
from tests.property.strategies import BY_TYPE, JSON, MESSAGES


@given(MESSAGES)
def test_every_message_is_understood_as_it_was_meant(message):
    assert codec.decode(codec.encode(message)) == message


@given(MESSAGES)
def test_one_message_has_one_sequence_of_bytes(message):
    frame = codec.encode(message)
    assert codec.encode(codec.decode(frame)) == frame


@given(MESSAGES, st.dictionaries(st.text("xyz", min_size=1), JSON, max_size=3))
def test_fields_of_a_later_version_change_nothing(message, extra):
    value = {**{f"later_{name}": field for name, field in extra.items()}, **message.to_json()}
    assert codec.decode(canonical.encode(value)) == message


@pytest.mark.parametrize("kind", sorted(BY_TYPE))
@settings(max_examples=40)
@given(data=st.data())
def test_any_value_in_any_field_is_read_or_refused_by_its_word(kind, data):
    value = data.draw(BY_TYPE[kind]).to_json()
    name = data.draw(st.sampled_from(sorted(value)))
    value[name] = data.draw(JSON)
    refused_or_read(value)


@pytest.mark.parametrize("kind", sorted(BY_TYPE))
@settings(max_examples=40)
@given(data=st.data())
def test_any_value_deep_inside_a_message_is_read_or_refused_by_its_word(kind, data):
    value = data.draw(BY_TYPE[kind]).to_json()
    inside = data.draw(st.sampled_from(sorted(name for name in value if name != "type")))
    replace_inside(value, inside, data)
    refused_or_read(value)


@given(JSON)
def test_any_json_is_a_message_or_refused_by_its_word(value):
    refused_or_read(value)


@given(st.dictionaries(st.sampled_from(["type", "epoch", "task", "attempt"]), JSON))
def test_any_object_is_a_message_or_refused_by_its_word(value):
    refused_or_read(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused_by_their_word(data):
    try:
        codec.decode(data)
    except RemoteError as error:
        assert error.word in ("malformed", "version")  # noqa: PT017  both outcomes are right


@given(MESSAGES, st.data())
def test_a_frame_that_is_cut_short_is_malformed(message, data):
    frame = codec.encode(message)
    cut = frame[: data.draw(st.integers(0, len(frame) - 1))]
    with pytest.raises(RemoteError) as caught:
        codec.decode(cut)
    assert caught.value.word == "malformed"


def test_there_is_a_strategy_for_every_message():
    assert sorted(BY_TYPE) == sorted(codec._READERS)
    assert len(BY_TYPE) == len(messages.Message.__args__)


def replace_inside(value, name, data):
    """Another value somewhere below `value[name]`, or in its place where there is no below."""
    inner = value[name]
    if isinstance(inner, dict) and inner:
        replace_inside(inner, data.draw(st.sampled_from(sorted(inner))), data)
    elif isinstance(inner, list) and inner:
        replace_inside(inner, data.draw(st.integers(0, len(inner) - 1)), data)
    else:
        value[name] = data.draw(JSON)


def refused_or_read(value):
    try:
        message = codec.decode(canonical.encode(value))
    except RemoteError as error:
        assert error.word in ("malformed", "version")  # noqa: PT017  both outcomes are right
        return
    # What was read can be said again, and is then understood alike.
    assert message is None or codec.decode(codec.encode(message)) == message
