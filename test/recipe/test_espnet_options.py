"""Values of ESPnet's options, checked without ESPnet as its parser takes them."""

import contextlib
import io
import shlex

import pytest
from humanfriendly import InvalidSize
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.recipe.espnet_options import check_values, espnet_table, where_given


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_epoch": "two"}, "t.yaml: max_epoch must be a whole number, not 'two'"),
        ({"max_epoch": None}, "t.yaml: max_epoch must be a whole number, not None"),
        ({"max_epoch": True}, "t.yaml: max_epoch must be a whole number, not True"),
        ({"max_epoch": 0}, "t.yaml: max_epoch must be 1 or more, not 0"),
        ({"num_workers": -3}, "t.yaml: num_workers must be 0 or more, not -3"),
        ({"seed": 1.5}, "t.yaml: seed must be a whole number, not 1.5"),
        ({"patience": "x"}, "t.yaml: patience must be a whole number or none, not 'x'"),
        ({"grad_clip": [1]}, r"t.yaml: grad_clip must be a number, not \[1\]"),
        ({"grad_clip": float("nan")}, "t.yaml: grad_clip must be a number, not nan"),
        ({"use_amp": "maybe"}, "t.yaml: use_amp must be true or false, not 'maybe'"),
        ({"keep_nbest_models": [5, "all"]}, "keep_nbest_models must be a whole number, not 'all'"),
        ({"max_cache_size": [1]}, "max_cache_size must be a size such as 2GB, not"),
        ({"ctc_conf": 3}, "t.yaml: ctc_conf must be `key: value` lines, not 3"),
        ({"batch_type": "zz"}, r"t.yaml: batch_type: unknown 'zz' \(legal: catbel, catpow"),
        ({"batch_type": "sort"}, r"batch_type: unknown 'sort' \(nearest: 'sorted'\)"),
        ({"batch_type": None}, "batch_type: unknown None"),
        ({"iterator_type": 3}, "iterator_type: unknown 3"),
    ],
)
def test_values_that_espnet_cannot_take(config, message):
    with pytest.raises(UserError, match=message):
        check_values(config, "t.yaml", "asr_train")


def test_values_that_espnet_takes():
    config = {"max_epoch": "3", "patience": "none", "num_iters_per_epoch": None, "grad_clip": 5}
    config |= {"keep_nbest_models": [1, 5], "use_amp": "yes", "max_cache_size": "2 GB"}
    config |= {"batch_type": "numel", "log_level": "debug", "valid_batch_type": None}
    config |= {"encoder_conf": None, "init_param": ["a", "b"], "best_model_criterion": [["a"]]}
    check_values(config, "t.yaml", "asr_train")


WORDS = ["0", "1", "3", "-2", "2.5", "none", "true", "no", "abc", "sorted", "numel", "chunk", "2GB"]


@pytest.fixture(scope="module")
def parser():
    from espnet2.tasks.asr import ASRTask

    import mtla_espnet.tasks  # noqa: F401  (registers)

    return ASRTask.get_parser()


@pytest.mark.espnet
@given(data=st.data())
def test_a_word_passes_as_espnets_parser_takes_it(parser, data):
    table = espnet_table()["asr_train"]["options"]
    checked = sorted(name for name, rule in table.items() if rule.keys() & {"kind", "choices"})
    checked = [name for name in checked if table[name].get("kind") != "mapping"]
    name, word = data.draw(st.sampled_from(checked)), data.draw(st.sampled_from(WORDS))
    try:
        check_values({name: word}, "t.yaml", "asr_train")
        passes = True
    except UserError as error:
        passes = " or more, not " in str(error)  # of ESPnet's parser, which has no bounds
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            parser.parse_args([f"--{name}={shlex.quote(word)}"])
            takes = True
        except (SystemExit, InvalidSize):  # argparse lets the latter through
            takes = False
    assert passes == takes, f"--{name} {word}"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("max_epoch", '--st_args "--max_epoch ..."'),
        ("encoder_conf", '--st_args "--encoder_conf ..."'),
        ("ctc_weight", '--inference_args "--ctc_weight ..."'),
        ("linear_units", '--st_args "--encoder_conf linear_units=..."'),
        ("nothing_like_it", None),
    ],
)
def test_where_an_option_is_given(name, place):
    found = where_given(name, "st", "st_train")
    assert found == place or place and found.endswith(f"or {place}") or place in str(found)
