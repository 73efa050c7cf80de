import concurrent.futures
import multiprocessing
import os
import pickle

import numpy as np
import pytest

from mtla_espnet.data.archives import fairseq_zip
from mtla_espnet.data.archives.ark import write_ark_matrices
from mtla_espnet.data.archives.fairseq_zip import FeatureZip
from mtla_espnet.data.features.reader import FeatureReader, FeatureTable, read_features
from mtla_espnet.data.kaldi.tables import write_table
from mtla_espnet.files import UserError, open_file
from mtla_espnet.jobs.parallel import run_jobs


def matrix(seed, frames=20):
    return np.random.default_rng(seed).normal(size=(frames, 8)).astype(np.float32)


@pytest.fixture
def table(tmp_path):
    """Features of every form; the number of an id is the seed."""
    entries = {}
    for number in range(3):
        with FeatureZip(tmp_path / f"{number}.zip") as archive:
            for seed in (number, number + 10):
                offset, size = archive.add(f"ü{seed}", matrix(seed))
                entries[f"u{seed:02d}"] = f"{tmp_path}/{number}.zip:{offset}:{size}"
    np.save(tmp_path / "a.npy", matrix(20))
    entries["u20"] = tmp_path / "a.npy"
    with open(tmp_path / "a.ark", "wb") as ark:
        offset = write_ark_matrices(ark, [("x", matrix(21))])["x"]
    entries["u21"] = f"{tmp_path}/a.ark:{offset}"
    write_table(tmp_path / "feats.scp", entries)
    return FeatureTable(tmp_path / "feats.scp")


def all_right(table):
    return all(np.array_equal(table[key], matrix(int(key[1:]))) for key in table)


def test_every_form_is_read(table):
    assert len(table) == 8
    assert "u00" in table
    assert all_right(table)


def test_forked_processes_may_read_at_the_same_time(table):
    assert all_right(table)  # files are open, and their descriptors will be shared
    rounds = run_jobs(lambda _: all(all_right(table) for _ in range(30)), range(3), n_workers=2)
    assert all(rounds)


def test_a_spawned_process_opens_its_own_files(table):
    assert all_right(table)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        found = dict(zip(table, pool.map(table.__getitem__, list(table), timeout=60), strict=True))
    assert all(np.array_equal(found[key], table[key]) for key in table)


def test_a_zip_is_opened_once_and_few_stay_open(table, monkeypatch):
    opened = []
    monkeypatch.setattr(
        fairseq_zip, "open_file", lambda path, *rest: opened.append(path) or open_file(path, *rest)
    )
    for _ in range(3):
        assert all_right(table)
    assert len(opened) == 3
    monkeypatch.setattr(fairseq_zip, "_MOST_OPEN_FILES", 2)
    copy = pickle.loads(pickle.dumps(table))
    assert all_right(copy)
    assert len(copy._reader._places._streams) == 2


def test_bad_entries_are_named(tmp_path, table):
    good = str(table._entries["u00"])
    path, offset, size = good.rsplit(":", 2)
    for entry, message in [
        (f"{path}:{offset}:99999", "is out of range, the file has"),
        (f"{path}:9999999:{size}", "is out of range"),
        (f"{path}:{int(offset) + 1}:{size}", "is not an array in numpy's format"),
        (f"{path}:{offset}:{int(size) - 4}", f"has {int(size) - 4} bytes, its array {size}"),
        (f"{tmp_path}/none.zip:1:2", "no such file"),
        (f"{tmp_path}/none.npy", "no such file"),
    ]:
        with pytest.raises(UserError, match=f"^{entry}: {message}"):
            read_features(entry)
    not_finite = matrix(0)
    not_finite[3, 3] = np.inf
    np.save(tmp_path / "inf.npy", not_finite)
    write_table(tmp_path / "bad.scp", {"u": tmp_path / "inf.npy"})
    with pytest.raises(UserError, match="bad.scp: 'u': .*inf.npy: has features that are not fin"):
        FeatureTable(tmp_path / "bad.scp")["u"]


def test_a_reader_closes_its_files(table):
    reader = FeatureReader()
    reader.read(table._entries["u00"])
    (stream,) = reader._places._streams.values()
    descriptor = stream.fileno()
    del reader
    assert stream.closed
    with pytest.raises(OSError):
        os.fstat(descriptor)
