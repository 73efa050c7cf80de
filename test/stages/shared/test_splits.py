"""A training set in parts is read whole, a part at a time."""

from pathlib import Path

import pytest

from mtla_espnet.data.kaldi.tables import read_table, write_table
from mtla_espnet.files import UserError
from mtla_espnet.stages.shared.splits import in_splits, split_arguments, write_splits

KEYS = [f"utt{number}" for number in range(7)]
ARGV = [
    *("--train_data_path_and_name_and_type", "d/wav.scp,speech,sound"),
    *("--valid_data_path_and_name_and_type", "v/wav.scp,speech,sound"),
    *("--train_shape_file", "s/speech_shape", "--fold_length", "8"),
]


def test_only_the_training_set_is_replaced():
    argv, tables = split_arguments(ARGV, Path("exp/splits2"))
    assert argv == [
        *("--train_data_path_and_name_and_type", "exp/splits2/wav.scp,speech,sound"),
        *("--valid_data_path_and_name_and_type", "v/wav.scp,speech,sound"),
        *("--train_shape_file", "exp/splits2/speech_shape", "--fold_length", "8"),
        *("--multiple_iterator", "true"),
    ]
    assert tables == [Path("d/wav.scp"), Path("s/speech_shape")]


def test_one_part_is_none(tmp_path):
    assert in_splits(ARGV, tmp_path, 1, write=True) == ARGV
    assert not list(tmp_path.iterdir())
    words = in_splits(ARGV, tmp_path, 3, write=False)
    assert words[1] == f"{tmp_path}/splits3/wav.scp,speech,sound"
    assert not list(tmp_path.iterdir())


@pytest.mark.espnet
@pytest.mark.parametrize("n_splits", [2, 3, 7])
def test_the_parts_are_those_of_espnet(tmp_path, n_splits):
    from espnet2.bin.split_scps import split_scps

    write_table(tmp_path / "text", {key: f"text of {key}" for key in KEYS})
    write_table(tmp_path / "shape", {key: "12" for key in KEYS})
    tables = [tmp_path / "text", tmp_path / "shape"]
    for _ in range(2):  # the second one replaces the first
        write_splits(tables, tmp_path / "ours", n_splits)
    split_scps(list(map(str, tables)), n_splits, None, str(tmp_path / "espnets"), "INFO")

    def files(root):
        return {
            str(path.relative_to(root)): path.read_text()
            for path in root.rglob("*")
            if path.is_file()
        }

    assert files(tmp_path / "ours") == files(tmp_path / "espnets")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["espnets", "ours", "shape", "text"]


def test_what_cannot_be_split_is_named(tmp_path):
    write_table(tmp_path / "a", dict.fromkeys(KEYS, "1"))
    write_table(tmp_path / "b", dict.fromkeys(KEYS[1:], "1"))
    with pytest.raises(UserError, match="b: has other utterances than .*a"):
        write_splits([tmp_path / "a", tmp_path / "b"], tmp_path / "out", 2)
    with pytest.raises(UserError, match="a: 7 utterances cannot be 8 parts"):
        write_splits([tmp_path / "a"], tmp_path / "out", 8)
    assert not (tmp_path / "out").exists()


@pytest.mark.espnet
def test_a_training_reads_every_part(tmp_path):
    import torch

    from mtla_espnet.tasks.register import run_espnet

    words = {f"utt{number}": "onoffupon"[: number + 2] for number in range(6)}
    write_table(tmp_path / "text", words)
    write_table(
        tmp_path / "text_shape.char", {key: f"{len(text)},9" for key, text in words.items()}
    )
    tokens = ["<blank>", "<unk>", "<space>", *"fnopu", "<sos/eos>"]
    (tmp_path / "tokens.txt").write_text("".join(f"{token}\n" for token in tokens))
    argv = [
        *("--train_data_path_and_name_and_type", f"{tmp_path}/text,text,text"),
        *("--valid_data_path_and_name_and_type", f"{tmp_path}/text,text,text"),
        *("--train_shape_file", f"{tmp_path}/text_shape.char"),
        *("--valid_shape_file", f"{tmp_path}/text_shape.char"),
        *("--token_list", f"{tmp_path}/tokens.txt", "--token_type", "char", "--max_epoch", "1"),
        *("--lm_conf", "unit=4", "--lm_conf", "nlayers=1", "--num_workers", "0"),
        *("--batch_type", "unsorted", "--batch_size", "1", "--output_dir", f"{tmp_path}/exp"),
        *("--use_tensorboard", "false", "--use_matplotlib", "false"),
    ]
    argv, tables = split_arguments(argv, tmp_path / "splits")
    write_splits(tables, tmp_path / "splits", 3)
    run_espnet("espnet2.bin.lm_train", argv)
    states = torch.load(tmp_path / "exp/checkpoint.pth", weights_only=True)
    found = states["reporter"]["stats"][1]["train"]
    assert found["total_count"] == 6
    assert found["inputs"] == pytest.approx(sum(map(len, words.values())) / 6)
    assert read_table(tmp_path / "splits/text/split.0").keys() == {"utt0", "utt3"}
