"""Tags, directories and texts, compared with names that ESPnet's recipes give."""

from pathlib import Path

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe

SETS = [
    *("--train_set", "train", "--valid_set", "dev", "--test_sets", "dev test"),
    *("--use_lm", "false"),
]


def recipe_of(*argv, root=Path(".")):
    return Recipe(parse_options([*SETS, *argv]), root)


def test_directories_of_a_bpe_recipe():
    recipe = recipe_of(
        *("--lang", "en", "--nbpe", "100", "--asr_config", "conf/train_asr_mtla.yaml"),
        *("--inference_config", "conf/decode_asr.yaml"),
    )
    assert recipe.tokens.token_list == Path("data/en_token_list/bpe_unigram100/tokens.txt")
    assert recipe.tokens.bpe_model == Path("data/en_token_list/bpe_unigram100/bpe.model")
    assert recipe.paths.stats_dir == Path("exp/asr_stats_raw_en_bpe100")
    assert recipe.paths.inference_dir == Path(
        "exp/asr_train_asr_mtla_raw_en_bpe100/decode_asr_asr_model_valid.acc.ave"
    )


def test_directories_without_language_and_configuration():
    recipe = recipe_of("--token_type", "char")
    assert recipe.tokens.token_list == Path("data/token_list/char/tokens.txt")
    assert recipe.tokens.bpe_model is None
    assert recipe.paths.stats_dir == Path("exp/asr_stats_raw_char")
    assert recipe.paths.exp_dir == Path("exp/asr_train_raw_char")
    assert recipe.paths.inference_dir.name == "inference_asr_model_valid.acc.ave"


def test_arguments_become_part_of_the_tags():
    recipe = recipe_of(
        *("--asr_args", "--optim_conf lr=0.1 --init_param a/b:c"),
        *("--inference_args", "--beam_size 2 --x a/b"),
        *("--inference_asr_model", "sub/3epoch.pth"),
    )
    assert recipe.tags.experiment == "train_raw_bpe30_optim_conflr0.1_init_paramab:c"
    decoded = recipe.paths.exp_dir / "inference_beam_size2_xa/b_asr_model_sub_3epoch"
    assert recipe.paths.inference_dir == decoded


def test_several_models_are_an_ensemble():
    names = "valid.acc.ave.pth 3epoch.pth exp/asr_b/latest.pth"
    recipe = recipe_of("--inference_asr_model", names)
    exp_dir = recipe.paths.exp_dir
    assert recipe.paths.model_file == exp_dir / "valid.acc.ave.pth"
    assert recipe.paths.ensemble == [exp_dir / "3epoch.pth", Path("exp/asr_b/latest.pth")]
    tag = recipe.paths.inference_dir.name
    assert tag.endswith("_asr_model_valid.acc.ave_3epoch_exp_asr_b_latest")
    assert recipe_of().paths.ensemble == []


def test_speeds_change_the_training_set_and_the_tags():
    recipe = recipe_of(
        *("--speed_perturb_factors", "0.9 1.0 1.1", "--lang", "en", "--attention", "mla"),
        *("--asr_config", "conf/train_asr.yaml", "--asr_args", "--max_epoch 3"),
    )
    assert (recipe.sets.original_train, recipe.sets.train) == ("train", "train_sp")
    assert recipe.sets.formatted_dir(recipe.sets.train) == Path("dump/raw/org/train_sp")
    assert recipe.paths.stats_dir == Path("exp/asr_stats_raw_en_bpe30_sp")
    assert recipe.tags.experiment == "train_asr_raw_en_bpe30_mla_max_epoch3_sp"
    assert recipe.tokens.token_list == recipe_of("--lang", "en").tokens.token_list
    assert (
        recipe_of("--speed_perturb_factors", "1.1", "--asr_tag", "mine").tags.experiment == "mine"
    )
    with pytest.raises(UserError, match="--train_set train_sp is also"):
        recipe_of("--speed_perturb_factors", "1.1", "--test_sets", "train_sp")


def test_directories_of_a_language_model():
    argv = ["--use_lm", "true", "--lang", "en", "--nbpe", "100", "--lm_args", "--max_epoch 3"]
    recipe = recipe_of(*argv, "--lm_config", "conf/train_lm.yaml")
    assert recipe.paths.lm_stats_dir == Path("exp/lm_stats_en_bpe100")
    assert recipe.paths.lm_exp_dir == Path("exp/lm_train_lm_en_bpe100_max_epoch3")
    assert recipe.paths.inference_dir.name == (
        "inference_lm_lm_train_lm_en_bpe100_max_epoch3_valid.loss.ave_asr_model_valid.acc.ave"
    )
    assert recipe_of(*argv, "--lm_stats_dir", "exp/other").paths.lm_stats_dir == Path("exp/other")
    recipe = recipe_of(*argv, "--lm_tag", "mine", "--inference_lm", "2epoch.pth")
    assert recipe.paths.inference_dir.name == "inference_lm_lm_mine_2epoch_asr_model_valid.acc.ave"
    assert recipe.paths.lm_files == {
        "lm_train_config": Path("exp/lm_mine/config.yaml"),
        "lm_file": Path("exp/lm_mine/2epoch.pth"),
    }
    assert recipe_of(*argv, "--lm_exp", "exp/other").paths.lm_exp_dir == Path("exp/other")
    assert recipe_of("--use_lm", "true", "--token_type", "char").paths.lm_exp_dir == Path(
        "exp/lm_train_char"
    )
    assert recipe_of().paths.lm_files == {}


def test_the_packed_model_is_named_as_in_espnet():
    assert recipe_of().paths.packed_model == Path(
        "exp/asr_train_raw_bpe30/asr_train_raw_bpe30_valid.acc.ave.zip"
    )


def test_given_tags_and_directories_win():
    recipe = recipe_of("--asr_tag", "mine", "--inference_tag", "now", "--expdir", "e")
    assert recipe.paths.inference_dir == Path("e/asr_mine/now")
    recipe = recipe_of("--asr_exp", "else/where", "--asr_stats_dir", "s", root=Path("/r"))
    assert (recipe.paths.exp_dir, recipe.paths.stats_dir) == (Path("/r/else/where"), Path("/r/s"))


def test_attention_adds_its_name_to_the_tag(tmp_path):
    assert recipe_of("--attention", "mtla").tags.experiment == "train_raw_bpe30_mtla"
    assert recipe_of("--attention", "conf/my.yaml").tags.experiment == "train_raw_bpe30_my"


def test_attention_overlay_is_a_file_or_the_recipes_or_the_checkouts(tmp_path):
    root = tmp_path / "egs2/x/asr1"
    ours, theirs = root / "conf/attention", tmp_path / "conf/attention"
    for place, names in ((ours, ["a"]), (theirs, ["a", "b"])):
        place.mkdir(parents=True)
        for name in names:
            (place / f"{name}.yaml").touch()
    (root / "c.yaml").touch()

    def found(name):
        return recipe_of("--attention", name, root=root).attention_overlay.resolve()

    assert found("a") == ours / "a.yaml"
    assert found("b") == theirs / "b.yaml"
    assert found("c.yaml") == root / "c.yaml"
    with pytest.raises(UserError, match=r"--attention d: no such .* \(known: a, b\)"):
        found("d")
    assert recipe_of().attention_overlay is None


def test_a_validation_set_among_the_test_sets_is_reported_as_org():
    recipe = recipe_of()
    assert recipe.sets.tests == ["test"]
    assert recipe.sets.evaluated == {
        "org/dev": Path("dump/raw/org/dev"),
        "test": Path("dump/raw/test"),
    }


@pytest.mark.parametrize("name", ["train_set", "valid_set", "test_sets"])
def test_the_sets_are_required(name):
    with pytest.raises(UserError, match=f"^--{name} is required$") as caught:
        recipe_of(f"--{name}", " ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("argv", [["--valid_set", "train"], ["--test_sets", "a train"]])
def test_the_training_set_is_no_other_set(argv):
    with pytest.raises(UserError, match="--train_set train is also"):
        recipe_of(*argv)


def of_task(task, *argv):
    return Recipe(parse_options([*SETS, *argv], task=task))


def test_translation_has_two_texts_with_token_lists_of_their_own():
    recipe = of_task(
        "st",
        *("--lang", "en_de", "--src_lang", "en", "--tgt_lang", "de", "--tgt_nbpe", "500"),
        *("--src_token_type", "char", "--st_config", "conf/train_st.yaml", "--attention", "mla"),
        *("--speed_perturb_factors", "0.9 1.0"),
    )
    assert [(text.name, text.table) for text in recipe.texts] == [
        ("text", "text.tc.de"),
        ("src_text", "text.lc.rm.en"),
    ]
    assert recipe.tables == ["text", "text.tc.de", "text.lc.rm.en"]
    target, source = (text.tokens for text in recipe.texts)
    assert target.bpe_model == Path("data/en_de_token_list/tgt_bpe_unigram500/bpe.model")
    assert source.token_list == Path("data/en_de_token_list/src_char/tokens.txt")
    assert source.bpe_model is None
    assert target.texts == {Path("dump/raw/lm_train.txt"): 4}
    assert source.texts == {Path("data/train/text.lc.rm.en"): 1}
    assert recipe.tokens.token_list == target.token_list
    assert recipe.paths.stats_dir == Path("exp/st_stats_raw_en_de_bpe500_sp")
    assert recipe.paths.exp_dir == Path("exp/st_train_st_raw_en_de_bpe_tc500_mla_sp")
    assert recipe.paths.inference_dir.name == "inference_st_model_valid.acc.ave"
    assert [text.shape_file for text in recipe.texts] == ["text_shape.bpe", "src_text_shape.char"]


def test_a_joint_token_list_is_made_of_both_texts():
    recipe = of_task("st", "--token_joint", "true", "--tgt_lang", "de")
    target, source = (text.tokens for text in recipe.texts)
    assert source is target
    assert list(target.texts) == [
        Path("dump/raw/lm_train.txt"),
        Path("dump/raw/org/train/text.lc.rm.es"),
    ]
    given = of_task("st", "--token_joint", "true", "--tgt_bpe_train_text", "a b").tokens.texts
    assert given == {Path("a"): 0, Path("b"): 0}


def test_understanding_may_have_a_transcript_of_words():
    assert of_task("slu").tables == ["text"]
    recipe = of_task("slu", "--use_transcript", "true", "--lang", "en", "--nbpe", "500")
    transcript = recipe.texts[1]
    assert recipe.tables == ["text", "transcript"]
    assert transcript.tokens.token_list == Path("data/en_transcript_token_list/word/tokens.txt")
    assert transcript.shape_file == "transcript_shape.word"
    assert recipe.paths.exp_dir == Path("exp/slu_train_raw_en_bpe500")


def test_summarisation_reads_text():
    recipe = of_task("sum", "--lang", "en", "--token_joint", "true", "--tgt_nbpe", "2000")
    assert recipe.tables == ["text", "src_text"]
    assert recipe.paths.exp_dir == Path("exp/mt_train_raw_en_bpe2000")
    assert recipe.paths.stats_dir == Path("exp/mt_stats_raw_en_bpe2000")
    assert recipe.paths.inference_dir.name == "inference_mt_model_valid.acc.ave"
    assert recipe.tokens.token_list == Path("data/en_token_list/tgt_bpe_unigram2000/tokens.txt")
    assert recipe.rate is None


def test_another_sampling_rate_has_directories_of_its_own():
    plain, other, features = (
        recipe_of("--token_type", "bpe", *argv)
        for argv in ([], ["--fs", "8k"], ["--fs", "22050", "--feats_type", "extracted"])
    )
    assert plain.sets.dump_dir == Path("dump/raw")
    assert plain.tokens.directory == Path("data/token_list/bpe_unigram30")
    assert other.sets.dump_dir == Path("dump/raw_8k")
    assert other.paths.exp_dir == Path("exp/asr_train_raw_8k_bpe30")
    assert other.paths.stats_dir == Path("exp/asr_stats_raw_8k_bpe30")
    assert other.tokens.directory == Path("data/token_list_8k/bpe_unigram30")
    assert features.sets.dump_dir == Path("dump/extracted_22.05k")
    assert recipe_of("--fs", "16000").paths.exp_dir == recipe_of("--fs", "16k").paths.exp_dir
