"""Sums of features in float64 blocks: the same whatever the number of jobs."""

import numpy as np
import pytest
import torch

from mtla_espnet.stages.shared.statistics import add_statistics, block_size, split_blocks

pytestmark = pytest.mark.espnet


class Model(torch.nn.Module):
    """Features are three numbers a frame of two samples, with padding."""

    def collect_feats(self, speech, speech_lengths, text, text_lengths):
        frames = speech[:, : speech.size(1) // 2 * 2].unflatten(1, (-1, 2))
        frames = torch.stack([frames[..., 0], frames[..., 1].exp(), frames.sum(-1)], -1)
        return {"feats": frames, "feats_lengths": speech_lengths // 2}


def batches(values, keys, size):
    for start in range(0, len(keys), size):
        chosen = keys[start : start + size]
        speech = [values[key] for key in chosen]
        text = torch.ones(len(chosen), 3, dtype=torch.int64)
        yield (
            chosen,
            {
                "speech": torch.nn.utils.rnn.pad_sequence(speech, batch_first=True),
                "speech_lengths": torch.tensor(list(map(len, speech))),
                "text": text,
                "text_lengths": torch.full((len(chosen),), 2),
            },
        )


@pytest.fixture(scope="module")
def values():
    torch.manual_seed(0)
    lengths = torch.randint(2, 300, (150,)).tolist()
    return {f"utt{n:03}": torch.randn(length) for n, length in enumerate(lengths)}


def collected(values, nj, directory, size=None):
    """Collect in nj parts; return the bytes of what is written for training."""
    from mtla_espnet.tasks.statistics import collect_stats

    keys = sorted(values)
    size = size or block_size(len(keys))
    jobs = []
    for number, shard in enumerate(split_blocks(keys, nj, size)):
        jobs.append(directory / f"{number}")
        data = batches(values, shard, size), batches(values, shard[:1], 1)
        collect_stats(Model(), *data, jobs[-1])
    add_statistics([job / "train" for job in jobs], directory / "train", [])
    return {path.name: path.read_bytes() for path in sorted((directory / "train").iterdir())}


def test_the_bytes_do_not_depend_on_the_number_of_jobs(values, tmp_path):
    one = collected(values, 1, tmp_path / "1")
    assert one.keys() == {"feats_stats.npz", "speech_shape", "text_shape"}
    for nj in (2, 3, 7, 64, 1000):
        assert collected(values, nj, tmp_path / f"{nj}") == one


def test_the_sums_are_those_of_the_frames(values, tmp_path):
    collected(values, 3, tmp_path)
    found = np.load(tmp_path / "train/feats_stats.npz")
    features = []
    for value in values.values():
        for a, b in value.double().numpy()[: len(value) // 2 * 2].reshape(-1, 2):
            features.append([a, np.float32(np.exp(np.float32(b))), np.float32(a + b)])
    features = np.array(features)
    assert found["count"] == len(features)
    assert found["sum"].dtype == found["sum_square"].dtype == np.float64
    np.testing.assert_allclose(found["sum"], features.sum(0), rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(found["sum_square"], (features**2).sum(0), rtol=1e-6)
    shapes = (tmp_path / "train/speech_shape").read_text().splitlines()
    assert shapes == [f"{key} {len(values[key])}" for key in sorted(values)]
    assert (tmp_path / "train/text_shape").read_text().splitlines()[0] == "utt000 2"


def test_espnets_collection_gives_the_same_to_its_own_precision(values, tmp_path):
    from espnet2.main_funcs.collect_stats import collect_stats as espnets
    from espnet2.train.abs_espnet_model import AbsESPnetModel

    class ESPnetsModel(Model, AbsESPnetModel):
        def forward(self, **batch):
            raise NotImplementedError

    keys = sorted(values)
    model, valid = ESPnetsModel(), list(batches(values, keys[:1], 1))
    espnets(model, list(batches(values, keys, 4)), valid, tmp_path / "espnet", 0, None, False)
    collected(values, 2, tmp_path / "ours", size=4)
    theirs = np.load(tmp_path / "espnet/train/feats_stats.npz")
    ours = np.load(tmp_path / "ours/train/feats_stats.npz")
    assert theirs.files == ours.files
    assert theirs["count"] == ours["count"]
    for kind in ("sum", "sum_square"):
        np.testing.assert_allclose(theirs[kind], ours[kind], rtol=1e-4, atol=0.05)
    for name in ("speech_shape", "text_shape"):
        found = [(tmp_path / x / "train" / name).read_text() for x in ("espnet", "ours")]
        assert found[0] == found[1]


def test_the_statistics_normalise(values, tmp_path):
    from espnet2.layers.global_mvn import GlobalMVN

    collected(values, 2, tmp_path)
    normalise = GlobalMVN(tmp_path / "train/feats_stats.npz")
    features = []
    for _, batch in batches(values, sorted(values), 1):
        data = Model().collect_feats(**batch)
        features.append(normalise(data["feats"], data["feats_lengths"])[0][0])
    joined = torch.cat(features)
    assert joined.dtype == torch.float32
    assert joined.mean(0).abs().max() < 1e-5
    assert (joined.std(0, correction=0) - 1).abs().max() < 1e-4


def test_espnets_programs_collect_in_blocks_while_asked_to():
    import espnet2.tasks.abs_task

    from mtla_espnet.tasks.statistics import collect_stats, sums_in_blocks

    before, threads = espnet2.tasks.abs_task.collect_stats, torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(KeyError), sums_in_blocks():
        assert espnet2.tasks.abs_task.collect_stats is collect_stats
        assert torch.get_num_threads() == 1
        raise KeyError
    assert espnet2.tasks.abs_task.collect_stats is before
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


@pytest.mark.parametrize("n_keys", [1, 2, 63, 64, 127, 129, 1000, 5000])
@pytest.mark.parametrize("nj", [1, 2, 5, 32])
def test_parts_are_whole_blocks_in_order(n_keys, nj):
    keys = [f"{n:04}" for n in range(n_keys)]
    size = block_size(n_keys)
    parts = split_blocks(keys, nj, size)
    assert [key for part in parts for key in part] == keys
    assert len(parts) == min(nj, -(-n_keys // size))
    assert all(len(part) % size == 0 for part in parts[:-1])
    assert all(parts)
    assert len(split_blocks(keys, 64, size)) >= min(n_keys, 43)
