"""What an event says is kept; in which words is only remarked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.fidelity import compare

PUT = '{"a":1.10,"b":[1,{"c":"é"}],"d":9007199254740993,"e":null,"f":true}'


def test_the_same_text_says_nothing() -> None:
    assert compare(PUT, PUT) == compare("{}", "{}")
    assert not compare(PUT, PUT).changed
    assert not compare(PUT, PUT).rewritten


@pytest.mark.parametrize(
    ("arrived", "said"),
    [
        (PUT.replace("1.10", "1.1"), "/a was written 1.10 and is written 1.1"),
        (PUT.replace("9007199254740993", "9007199254740993.0"), "/d was written"),
        (
            '{"b":[1,{"c":"é"}],"a":1.10,"d":9007199254740993,"e":null,"f":true}',
            "the keys of / stand in another",
        ),
        (PUT.replace("é", "\\u00e9"), "characters written as escapes"),
        (PUT.replace(",", ", "), "blanks"),
    ],
)
def test_other_words_for_the_same_are_no_change(arrived: str, said: str) -> None:
    comparison = compare(PUT, arrived)
    assert comparison.changed == ()
    (rewritten,) = comparison.rewritten
    assert said in rewritten


@pytest.mark.parametrize(
    ("arrived", "said"),
    [
        (PUT.replace("1.10", "1.1000000000000001"), "/a was 1.10 and is 1.1000000000000001"),
        (
            PUT.replace("9007199254740993", "9007199254740992"),
            "/d was 9007199254740993 and is 9007199254740992",
        ),
        (PUT.replace("1.10", '"1.10"'), '/a was 1.10 and is "1.10"'),
        (PUT.replace('"f":true', '"f":1'), "/f was true and is 1"),
        (PUT.replace(',"f":true', ""), "/f is lost"),
        (PUT.replace("}]", '}],"g":0'), "/g is new"),
        (PUT.replace('"c":"é"', '"c":"?"'), '/b/1/c was "é" and is "?"'),
        (PUT.replace("[1,", "["), "/b was a list of 2 and is a list of 1"),
        (PUT.replace('"e":null', '"e":{}'), "/e was null and is an object"),
        ("", "what arrived is no JSON"),
        ("NaN", "what arrived is no JSON"),
        ("[]", " was an object and is a list of 0"),
    ],
)
def test_a_value_that_is_lost_new_or_another_is_a_change(arrived: str, said: str) -> None:
    comparison = compare(PUT, arrived)
    assert [said in change for change in comparison.changed] == [True]
    assert comparison.rewritten == ()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(values, values)
def test_a_change_is_found_where_python_finds_one(put: object, arrived: object) -> None:
    changed = compare(json.dumps(put), json.dumps(arrived)).changed
    # True equals 1 in Python, at any depth; in JSON text it does not.
    assert bool(changed) == (json.dumps(put, sort_keys=True) != json.dumps(arrived, sort_keys=True))
