import subprocess

import pytest

from mtla_espnet.files import UserError
from mtla_espnet.report.decodes import find_decodes
from mtla_espnet.report.tables import write_results

NAME = "decode_asr_asr_model_valid.acc.ave/test"


def test_results_have_espnets_headings_and_rows(experiments):
    experiment = experiments.add("asr_train_mtla", "mtla", correct=5, wrong=1, down_rate=2)
    experiments.score("asr_train_mtla", "ter", "CCCI")
    text = write_results(experiment)
    assert (experiment / "RESULTS.md").read_text() == text
    lines = text.splitlines()
    assert lines[0] == "# RESULTS"
    headings = [line for line in lines if line.startswith("##")]
    assert headings == [
        "## Environments",
        "## exp/asr_train_mtla",
        "### WER",
        "### CER",
        "### TER",
        "### Efficiency",
    ]
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in lines
    assert f"|{NAME}|1|6|83.33|16.67|0.00|0.00|16.67|100.00|" in lines
    assert f"|{NAME}|1|31|96.77|0.00|3.23|0.00|3.23|100.00|" in lines
    assert f"|{NAME}|1|3|100.00|0.00|0.00|33.33|33.33|100.00|" in lines
    assert f"|{NAME}|mtla|2|5|8|cpu|float32|2|20.0|50|6.0|0.300|0.33|2304|2.00|3.00|50.00|" in lines
    assert f"|{NAME}|6.00|1.00|4.00|2.50|1.00|0.50|" in lines
    assert any(line.startswith("- pytorch version: `2.") for line in lines)


def test_every_decoded_set_is_found(experiments):
    experiment = experiments.add("asr_a", "mha")
    experiments.add("asr_b", "mha")
    other = "decode_asr_asr_model_valid.acc.ave/org/dev"
    experiments.directory.joinpath("exp/asr_a", other).mkdir(parents=True)
    experiments.score("asr_a", "wer", "CCSS", other)
    found = find_decodes(experiment)
    assert [decode.test_set for decode in found] == ["org/dev", "test"]
    assert found[0].efficiency is None
    assert set(found[0].results["rates"].values) == {"wer"}
    text = write_results(experiment)
    assert f"|{other}|1|4|50.00|" in text
    assert text.count(other) == 1


def test_a_decoder_of_another_kind_has_dashes(experiments):
    experiment = experiments.add(
        "asr_t",
        None,
        down_rate=None,
        cache_bytes_peak=None,
        cache_bytes_allocated=None,
        cache_bytes_per_position=None,
        peak_memory_bytes=None,
    )
    assert f"|{NAME}|-|-|5|8|cpu|float32|2|20.0|50|6.0|0.300|0.33|-|-|-|-|" in write_results(
        experiment
    )


def test_the_commit_of_the_checkout_is_named(experiments):
    experiment = experiments.add("asr_a", "mha")
    assert "- Git hash: `unknown" in write_results(experiment)
    git = ["git", "-C", str(experiments.directory), "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    show = subprocess.run([*git, "log", "-1", "--format=%H"], capture_output=True, text=True)
    assert f"- Git hash: `{show.stdout.strip()}`" in write_results(experiment)


def test_nothing_scored_is_an_error(tmp_path):
    with pytest.raises(UserError, match="asr_x: nothing is scored there"):
        write_results(tmp_path / "asr_x")


def test_a_broken_result_is_named(experiments):
    experiment = experiments.add("asr_a", "mha")
    (experiment / NAME / "score_wer" / "result.txt").write_text("")
    with pytest.raises(UserError, match="score_wer/result.txt: no row"):
        write_results(experiment)
    assert not (experiment / "RESULTS.md").exists()


def test_a_translation(experiments):
    experiment = experiments.add("st_a", "mtla", down_rate=2)
    experiments.score_translation("st_a", 5)
    lines = write_results(experiment).splitlines()
    at = lines.index("### BLEU")
    assert lines[at + 2] == "|dataset|score|verbose_score|"
    assert lines[at + 4] == f"|{NAME} (true case)|35.00|a/b|"
    assert lines[at + 5] == f"|{NAME} (lower case, no punctuation)|35.00|a/b|"
    signature = "`nrefs:1\\|case:x`"
    assert f"|{NAME} (true case)|35.00|45.00|5.00|{signature}|" in lines


def test_intents(experiments):
    experiment = experiments.add("slu_a", "mtla", down_rate=2)
    experiments.score_intents("slu_a", 3)
    lines = write_results(experiment).splitlines()
    assert "|dataset|Snt|Intent Classification (%)|" in lines
    assert f"|{NAME}|10|70.00|" in lines
    assert f"|{NAME}|scenario|all|10|100.00|" in lines
    assert f"|{NAME}|scenario|a|10|70.00|" in lines
    assert f"|{NAME}|action|x|10|70.00|" in lines
    at = lines.index("### WER of the words after the intent")
    assert f"|{NAME}|1|10|70.00|30.00|0.00|0.00|30.00|100.00|" in lines[at:]


@pytest.mark.parametrize(
    ("normalisation", "note"), [("rouge", ""), ("paper", " (the paper's normalisation)")]
)
def test_summaries_beside_the_baseline(experiments, normalisation, note):
    experiment = experiments.add("mt_a", "mtla", down_rate=2, audio_s=0.0, rtf=None)
    experiments.score_summaries("mt_a", 2, normalisation=normalisation)
    text = write_results(experiment)
    assert "|dataset|ROUGE-1|ROUGE-2|ROUGE-L|METEOR|BERTScore|" in text
    assert f"|{NAME}{note}|38.00|18.00|28.00|-|-|" in text
    assert f"|{NAME} first sentence of the document{note}|21.00|9.00|15.00|-|-|" in text
    # of text there are no seconds
    assert f"|{NAME}|mtla|2|5|8|cpu|float32|2|-|50|6.0|-|" in text


def test_the_processors_time_stands_beside_the_clocks(experiments):
    experiment = experiments.add("asr_a", "mha", processor_s=5.5)
    text = write_results(experiment)
    assert "|dataset|decode s|CPU s|encoder s|" in text
    assert f"|{NAME}|6.00|5.50|1.00|" in text and "the clock ran" not in text
    experiments.add("asr_b", "mha", processor_s=4.6)
    text = write_results(experiments.directory / "exp/asr_b")
    assert f"- {NAME}: the clock ran 6.0 s and the processor worked 4.6 s: it had" in text


def test_what_went_wrong_stands_first(experiments):
    experiment = experiments.add("asr_a", "mha", utterances=47)
    failed = [f"u-{number}\tdoes not fit into memory\n" for number in range(3)]
    (experiment / NAME / "failed.tsv").write_text("utterance\treason\n" + "".join(failed))
    (experiment / NAME / "text").write_text("a\nb\n")
    lines = write_results(experiment).splitlines()
    at = lines.index("## exp/asr_a")
    assert lines[at + 2 : at + 5] == [
        f"- {NAME}: 3 of 50 utterances were not decoded (failed.tsv)",
        f"- {NAME}: all 2 hypotheses are empty: nothing was recognised",
        "",
    ]
