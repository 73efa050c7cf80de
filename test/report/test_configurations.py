import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.report.configurations import configuration_labels

VALUES = st.sampled_from(["a", "b", 3])
CONFIGURATIONS = st.dictionaries(
    st.sampled_from("xyz"), VALUES | st.dictionaries(st.sampled_from("uv"), VALUES)
)


@given(st.lists(CONFIGURATIONS, min_size=1, max_size=6))
def test_names_are_equal_where_configurations_are(configurations):
    labels = configuration_labels(configurations)
    for one, label in zip(configurations, labels, strict=True):
        for other, another in zip(configurations, labels, strict=True):
            if one == other:
                assert label == another
            elif not ({} in one.values() or {} in other.values()):
                assert label != another


@pytest.mark.parametrize("none", [[{"a": 1}] * 3, [None, None], [{}]])
def test_nothing_is_said_where_nothing_differs(none):
    assert set(configuration_labels(none)) == {""}


def test_the_least_nested_value_that_tells_them_apart_is_named():
    base = {"encoder_conf": {"num_blocks": 2}, "frontend": "fbank"}
    other = {"encoder_conf": {"num_blocks": 6}, "frontend": "s3prl"}
    assert configuration_labels([base, other]) == ["frontend=fbank", "frontend=s3prl"]


def test_what_is_too_long_to_be_named_is_numbered():
    lists = [{"token_list": ["a" * 30, str(number)]} for number in range(2)]
    assert configuration_labels(lists) == ["", ""]
