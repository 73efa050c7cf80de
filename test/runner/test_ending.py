"""The last lines of a run that was scored."""

from mtla_espnet.recipe.options import parse_options
from mtla_espnet.recipe.recipe import Recipe
from mtla_espnet.runner.ending import ending
from mtla_espnet.score.result import AlignedSentence, format_result

ARGV = ["--train_set", "a", "--valid_set", "b", "--test_sets", "test", "--use_lm", "false"]


def decoded(recipe, name, wrong):
    """Write results of a set with `wrong` of its four words wrong."""
    directory = recipe.paths.inference_dir / name
    words = ["w"] * 4
    sentence = AlignedSentence("u-1", words, words, "C" * (4 - wrong) + "S" * wrong)
    text = format_result("hyp.trn", {"u": [sentence]})
    for unit in ("wer", "cer"):
        (directory / f"score_{unit}").mkdir(parents=True)
        (directory / f"score_{unit}/result.txt").write_text(text)
    (directory / "text").write_text("u-1 a b\n")


def test_a_run_ends_with_its_scores_where_they_are_and_what_is_next(tmp_path):
    recipe = Recipe(parse_options(ARGV), tmp_path)
    decoded(recipe, "test", 1)
    other = Recipe(parse_options([*ARGV, "--inference_tag", "other"]), tmp_path)
    decoded(other, "test", 4)
    score, place, following = ending(recipe)
    assert score.startswith("test of 1 utterances: ") and "WER 25.00 %" in score
    assert place == f"All results are in {recipe.paths.exp_dir}/RESULTS.md"
    assert following.startswith(f"Next: mtla-espnet transcribe --model {recipe.paths.exp_dir} ")
    assert "WER 100.00 %" in ending(other)[0]


def test_what_went_wrong_is_told_with_the_score(tmp_path):
    recipe = Recipe(parse_options(ARGV), tmp_path)
    decoded(recipe, "test", 4)
    (recipe.paths.inference_dir / "test/text").write_text("u-1\n")
    assert ending(recipe)[1] == "Note: all 1 hypotheses are empty: nothing was recognised"
