import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtla_espnet.files import UserError
from mtla_espnet.score.efficiency import merge_efficiency, read_efficiency, rtf_log, was_busy

SHARD = {
    "utterances": 4,
    "audio_s": 10.0,
    "tokens": 30,
    "encoder_s": 0.5,
    "search_s": 1.5,
    "search_decoder_s": 1.0,
    "search_ctc_s": 0.25,
    "search_bookkeeping_s": 0.25,
    "total_s": 2.5,
    "processor_s": 2.25,
    "rtf": 0.25,
    "utterances_per_s": 1.6,
    "peak_memory_bytes": 1000,
    "mean_memory_bytes": 600,
    "cache_bytes_peak": 300,
    "cache_bytes_prefix_peak": 200,
    "cache_bytes_allocated": 400,
    "cache_bytes_per_position": 96.0,
    "device": "cpu",
    "dtype": "float32",
    "attention": "mtla",
    "down_rate": 2,
    "prefix_cache": "auto",
    "beam_size": 5,
    "batch": 8,
}


def test_times_add_up_and_memory_is_the_maximum():
    other = {**SHARD, "utterances": 1, "audio_s": 2.0, "total_s": 0.5, "cache_bytes_peak": 900}
    merged = merge_efficiency([SHARD, other])
    assert merged.keys() == SHARD.keys()
    expected = {"utterances": 5, "tokens": 60, "audio_s": 12.0, "total_s": 3.0, "search_s": 3.0}
    expected |= {"rtf": 0.25, "cache_bytes_peak": 900, "cache_bytes_allocated": 400}
    assert {key: merged[key] for key in expected} == expected
    assert merged["utterances_per_s"] == pytest.approx(5 / 3, abs=1e-6)


def test_mean_memory_is_that_of_all_utterances():
    others = [SHARD | {"utterances": 1, "mean_memory_bytes": value} for value in (1100, None)]
    assert merge_efficiency([SHARD, *others])["mean_memory_bytes"] == (4 * 600 + 1100) // 5
    earlier = {key: value for key, value in SHARD.items() if key != "mean_memory_bytes"}
    assert merge_efficiency([earlier])["mean_memory_bytes"] is None


def test_one_shard_stays_as_it_is():
    assert merge_efficiency([SHARD]) == SHARD


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "utterances": st.integers(0, 99),
                "total_s": st.floats(0, 1e4),
                "audio_s": st.floats(0, 1e4),
                "peak_memory_bytes": st.none() | st.integers(0, 10**12),
            }
        ),
        min_size=2,
        max_size=6,
    )
)
def test_the_order_of_shards_does_not_matter(values):
    shards = [SHARD | value for value in values]
    assert merge_efficiency(shards) == merge_efficiency(shards[::-1])


def test_an_unmeasured_size_stays_unmeasured():
    shard = {**SHARD, "cache_bytes_peak": None, "attention": None, "down_rate": None}
    merged = merge_efficiency([shard, shard])
    assert merged["cache_bytes_peak"] is None
    assert merged["attention"] is None


def test_shards_of_different_decodes_are_refused():
    with pytest.raises(UserError, match=r"shards differ in 'beam_size' \(10, 5\)"):
        merge_efficiency([SHARD, {**SHARD, "beam_size": 10}])


def test_a_file_without_a_key_is_refused_by_name(tmp_path):
    path = tmp_path / "efficiency.json"
    path.write_text(json.dumps(SHARD))
    assert read_efficiency(path) == SHARD
    path.write_text(json.dumps({key: SHARD[key] for key in SHARD if key != "rtf"}))
    with pytest.raises(UserError, match="efficiency.json: no key 'rtf'"):
        read_efficiency(path)
    with pytest.raises(UserError, match="absent.json: no such file"):
        read_efficiency(tmp_path / "absent.json")


def test_the_log_has_the_lines_of_espnet():
    assert rtf_log(SHARD).splitlines() == [
        "Total audio duration: 10.000 [sec]",
        "Total decoding time: 2.500 [sec]",
        "RTF: 0.250000",
        "Latency: 625.000 [ms/sentence]",
    ]


def test_files_of_earlier_decodes_are_read(tmp_path):
    later = {"prefix_cache", "cache_bytes_prefix_peak", "processor_s"}
    earlier = {key: value for key, value in SHARD.items() if key not in later}
    (tmp_path / "efficiency.json").write_text(json.dumps(earlier))
    read = read_efficiency(tmp_path / "efficiency.json")
    assert read == earlier | dict.fromkeys(later)
    assert merge_efficiency([earlier, earlier])["cache_bytes_prefix_peak"] is None
    assert merge_efficiency([SHARD, SHARD | {"processor_s": None}])["processor_s"] is None
    assert merge_efficiency([SHARD, SHARD])["processor_s"] == 4.5


@pytest.mark.parametrize(
    ("changes", "busy"),
    [
        ({"processor_s": 1.9}, True),
        ({"processor_s": 2.0}, False),
        ({"processor_s": 9.0}, False),
        ({"processor_s": None}, False),
        ({"processor_s": 0.1, "device": "a GPU"}, False),
    ],
)
def test_a_cpu_is_busy_where_the_clock_runs_much_longer_than_the_processor_works(changes, busy):
    assert was_busy(SHARD | changes) == busy
