"""An exported model of text to text: `generate` writes what `mtla-espnet summarise` does."""

import copy

import pytest
import sentencepiece
import torch
import yaml
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from mtla_espnet import Text2Text
from mtla_espnet.cli import main
from mtla_espnet.hf import (
    Text2TextMTLAConfig,
    Text2TextMTLAForConditionalGeneration,
    Text2TextMTLATokenizer,
)
from mtla_espnet.user_error import UserError
from small_models import QUIET_TRAINING, SOURCE, TARGET, save_model

pytestmark = pytest.mark.espnet

DOCUMENTS = ["lm nop", "q", "qpon m\nlll", "p p", "olm nz"]
END = len(TARGET) - 1


def exported(directory, inference=None, **more):
    """The experiment's directory, and the exported one, of a model with random weights."""
    experiment = save_model(directory / "exp", "sum", more.pop("attention", "mtla"), **more)
    if inference is not None:
        (experiment / "inference.yaml").write_text(yaml.safe_dump(inference))
    assert main(["export", "hf", str(experiment), str(directory / "out")]) == 0
    return experiment, directory / "out"


def load(directory):
    model = AutoModelForSeq2SeqLM.from_pretrained(directory)
    return model, AutoTokenizer.from_pretrained(directory)


def written(model, tokenizer, **options):
    inputs = tokenizer(DOCUMENTS, padding=True, return_tensors="pt")
    return tokenizer.batch_decode(model.generate(**inputs, **options), skip_special_tokens=True)


def expected(experiment, **options):
    text2text = Text2Text.from_pretrained(experiment, **options)
    documents = [" ".join(document.split()) for document in DOCUMENTS]  # as the command does
    return [result[0] for results in text2text(documents) for result in results]


@pytest.fixture(scope="module", params=["mtla", "mla"])
def both(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    experiment, out = exported(directory, attention=request.param)
    return experiment, *load(out)


WAYS = {
    "as it is kept": ({}, {}),
    "greedy": ({"num_beams": 1}, {"beam_size": 1}),
    "greedy, free": (
        {"num_beams": 1, "max_new_tokens": 30, "min_new_tokens": 0},
        {"beam_size": 1, "maxlenratio": -30, "minlenratio": 0},
    ),
    "beams": (
        {"num_beams": 5, "max_new_tokens": 12, "min_new_tokens": 0},
        {"beam_size": 5, "maxlenratio": -12, "minlenratio": 0},
    ),
    "n best": ({"num_return_sequences": 3}, {"nbest": 3}),
    "by length": ({"length_penalty": 0.7}, {"lenpen": 0.7}),
    "no repetitions": ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
    "max_length": ({"max_length": 7}, {"maxlenratio": -6}),
    "a ratio": (
        {"search": {"maxlenratio": 0.8, "penalty": 0.4}, "max_new_tokens": None},
        {"maxlenratio": 0.8, "penalty": 0.4},
    ),
    "a beginning": (
        {"decoder_input_ids": torch.tensor([[END, 5, 4]] * 5)},
        {"forced_prefix": "cb"},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_generate_writes_what_summarise_does(both, way):
    experiment, model, tokenizer = both
    options, search = WAYS[way]
    if way == "max_length":
        options = options | {"max_new_tokens": None, "min_new_tokens": None}
        search = search | {"minlenratio": 0}
    found = written(model, tokenizer, **options)
    assert found == expected(experiment, **search)
    if model.model.decoder.attention == "mtla":  # the other one's weights like few tokens
        assert all(found) and len(set(found)) > 1


def test_the_command_writes_it_too(both, tmp_path, capsys):
    experiment, model, tokenizer = both
    paths = [tmp_path / f"{number}.txt" for number in range(len(DOCUMENTS))]
    for path, document in zip(paths, DOCUMENTS, strict=True):
        path.write_text(document)
    arguments = ["summarise", "--model", str(experiment), "--device", "cpu", *map(str, paths)]
    assert main(arguments) == 0
    found = written(model, tokenizer)
    lines = [f"{path}: {text}" for path, text in zip(paths, found, strict=True)]
    assert capsys.readouterr().out.splitlines() == lines


@torch.no_grad()
def test_greedy_is_the_argmax_of_forward(both):
    """Independent of the search and its cache: the whole beginning is scored at every step."""
    _, model, tokenizer = both
    for document in DOCUMENTS:
        inputs = tokenizer(document, return_tensors="pt")
        tokens = torch.tensor([[END]])
        while tokens.size(1) < 10:
            logits = model(**inputs, decoder_input_ids=tokens).logits[:, -1]
            logits[:, 0] = float("-inf")  # <blank>
            tokens = torch.cat((tokens, logits.argmax(dim=-1, keepdim=True)), dim=1)
            if tokens[0, -1] == END:
                break
        found = model.generate(**inputs, num_beams=1, max_new_tokens=9, min_new_tokens=0)
        assert found[0, : tokens.size(1)].tolist() == tokens[0].tolist()


def test_the_best_of_n_come_first_with_their_ranks(both):
    _, model, tokenizer = both
    inputs = tokenizer(DOCUMENTS, padding=True, return_tensors="pt")
    told = {"return_dict_in_generate": True, "num_return_sequences": 3, "length_penalty": 1.0}
    output = model.generate(**inputs, **told)
    assert output.sequences.shape[0] == 3 * len(DOCUMENTS)
    ranks = output.sequences_scores.view(-1, 3)
    assert (ranks[:, :-1] >= ranks[:, 1:]).all()
    row = output.sequences[0]
    row = row[: row.tolist().index(END, 1) + 1][None]
    with torch.no_grad():
        encoded = model.encode(inputs["input_ids"][:1], inputs["attention_mask"][:1])
        scores = model(encoder_outputs=encoded, decoder_input_ids=row[:, :-1]).logits.log_softmax(
            -1
        )
    taken = scores.gather(-1, row[:, 1:, None]).flatten()
    if row.size(1) == 10:  # at the limit <sos/eos> is appended unscored
        taken = taken[:-1]
    assert float(taken.sum()) / (row.size(1) - 1) == pytest.approx(float(ranks[0, 0]), abs=1e-4)


def test_draws_follow_the_seed(both):
    _, model, tokenizer = both
    told = {"do_sample": True, "num_beams": 1, "max_new_tokens": 9, "min_new_tokens": 0}

    def drawn(seed, **more):
        set_seed(seed)
        return written(model, tokenizer, **told | more)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    several = drawn(1, num_return_sequences=4)
    assert len(several) == 4 * len(DOCUMENTS) and len(set(several[:4])) > 1
    greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": 9, "min_new_tokens": 0}
    assert drawn(3, top_k=1) == written(model, tokenizer, **greedy)
    assert drawn(3, top_p=1e-6) == written(model, tokenizer, **greedy)
    assert drawn(3, temperature=0.01, top_k=0) == written(model, tokenizer, **greedy)


@torch.no_grad()
def test_a_padded_batch_scores_as_its_rows_alone(both):
    _, model, tokenizer = both
    inputs = tokenizer(DOCUMENTS, padding=True, return_tensors="pt")
    targets = torch.randint(2, END, (len(DOCUMENTS), 6), generator=torch.Generator().manual_seed(0))
    together = model(**inputs, labels=targets)
    losses = []
    for number, document in enumerate(DOCUMENTS):
        alone = tokenizer(document, return_tensors="pt")
        output = model(**alone, labels=targets[number : number + 1])
        torch.testing.assert_close(output.logits[0], together.logits[number], atol=1e-4, rtol=1e-4)
        losses.append(float(output.loss))
    assert float(together.loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    padded = torch.cat((targets, torch.full_like(targets, -100)), dim=1)
    assert float(model(**inputs, labels=padded).loss) == pytest.approx(
        float(together.loss), rel=1e-4
    )


def test_weights_that_change_are_searched_with(both):
    _, model, tokenizer = both
    model = copy.deepcopy(model)
    before = written(model, tokenizer)
    with torch.no_grad():
        model.model.decoder.output_layer.weight.mul_(-1.0)
    assert written(model, tokenizer) != before
    assert not any("_search" in name for name in model.state_dict())


def test_trainer_teaches_it_a_pair(both, tmp_path):
    _, model, tokenizer = both
    model = copy.deepcopy(model)
    torch.manual_seed(4)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
        else:
            torch.nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
    pairs = [("lm nop", "a bad"), ("qq p", "feed")]
    rows = [
        dict(tokenizer(source), labels=tokenizer(text_target=target)["input_ids"])
        for source, target in pairs
    ]
    assert rows[0]["labels"] == [3, 2, 4, 3, 6, END]
    arguments = Seq2SeqTrainingArguments(
        tmp_path,
        max_steps=60,
        per_device_train_batch_size=2,
        learning_rate=2e-2,
        lr_scheduler_type="constant",
        **QUIET_TRAINING,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    Seq2SeqTrainer(model, arguments, train_dataset=rows, data_collator=collator).train()
    inputs = tokenizer([source for source, _ in pairs], padding=True, return_tensors="pt")
    found = model.eval().generate(**inputs, num_beams=2, max_new_tokens=9, min_new_tokens=0)
    assert tokenizer.batch_decode(found, skip_special_tokens=True) == ["a bad", "feed"]


def test_saved_again_and_loaded(both, tmp_path):
    experiment, model, tokenizer = both
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)  # over itself
    assert (tmp_path / "model.safetensors").exists()
    again, cutter = load(tmp_path)
    assert type(again) is Text2TextMTLAForConditionalGeneration
    assert type(cutter) is Text2TextMTLATokenizer
    assert type(AutoConfig.from_pretrained(tmp_path)) is Text2TextMTLAConfig
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert written(again, cutter) == expected(experiment)


def test_shared_weights_stay_one(tmp_path):
    tied = {
        "decoder_conf": {
            "attention": "mla",
            "num_blocks": 1,
            "attention_heads": 2,
            "linear_units": 32,
            "tie_embeddings": True,
        }
    }
    experiment, out = exported(tmp_path, **tied)
    model, tokenizer = load(out)
    decoder = model.model.decoder
    assert decoder.output_layer.weight is decoder.embed[0].weight
    assert written(model, tokenizer) == expected(experiment)


KEPT = {
    "as many as frames": {"beam_size": 3},
    "ratios": {"beam_size": 3, "maxlenratio": 0.9, "minlenratio": 0.2, "normalize_length": True},
    "temperature and bonus": {
        "beam_size": 3,
        "maxlenratio": -9,
        "temperature": 2.5,
        "penalty": 0.5,
    },
    "a forced beginning": {"beam_size": 3, "maxlenratio": -9, "forced_prefix": "bad"},
    "greedy": {"beam_size": 1, "maxlenratio": -9, "no_repeat_ngram_size": 3},
}


@pytest.mark.parametrize("kept", KEPT)
def test_the_search_that_is_kept_goes_along(tmp_path, kept):
    experiment, out = exported(tmp_path, KEPT[kept])
    found = written(*load(out))
    assert found == expected(experiment)
    assert any(found)


def test_pieces_of_sentencepiece_and_their_files(tmp_path):
    text = tmp_path / "text"
    text.write_text("".join(f"{word} lot of dogs ran to a mill near {word}\n" for word in "abcdef"))
    prefix = str(tmp_path / "bpe")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=prefix, vocab_size=40, model_type="bpe", minloglevel=2
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    tokens = ["<blank>", "<unk>"]
    tokens += [pieces.id_to_piece(number) for number in range(3, len(pieces))] + ["<sos/eos>"]
    told = {"src_token_list": tokens, "token_list": tokens, "bpemodel": f"{prefix}.model"}
    told |= {"src_bpemodel": f"{prefix}.model", "src_token_type": "bpe", "token_type": "bpe"}
    experiment, out = exported(tmp_path, **told)
    (tmp_path / "bpe.vocab").unlink()
    model, tokenizer = load(out)
    inputs = tokenizer("a lot of dogs")["input_ids"]
    text2text = Text2Text.from_pretrained(experiment)
    assert inputs == text2text.prepare(0, "a lot of dogs")["src_text"].tolist()
    assert tokenizer.decode(inputs) == "a lot of dogs"
    found = model.generate(**tokenizer("dogs ran", return_tensors="pt"))
    assert tokenizer.decode(found[0], skip_special_tokens=True) == text2text("dogs ran")[0][0]
    assert {path.name for path in out.iterdir()} >= {"source.model", "target.model", "tokens.json"}


def test_texts_are_cut_as_the_model_was_trained(both):
    experiment, _, tokenizer = both
    text2text = Text2Text.from_pretrained(experiment)
    for document in DOCUMENTS:
        wanted = text2text.prepare(0, " ".join(document.split()))["src_text"].tolist()
        assert tokenizer(document)["input_ids"] == wanted
    assert tokenizer.convert_ids_to_tokens([3, 2, END]) == ["a", "<space>", "<sos/eos>"]
    assert tokenizer.decode([END, 3, 2, 4, END, 0], skip_special_tokens=True) == "a b"
    assert (tokenizer.vocab_size, tokenizer.pad_token_id) == (len(SOURCE), 0)


REFUSED = {
    "cache_implementation='static': the search has a cache of its own": {
        "cache_implementation": "static"
    },
    "do_sample draws without beams: say num_beams=1": {"do_sample": True},
    "RepetitionPenaltyLogitsProcessor: the search of mtla-espnet": {"repetition_penalty": 1.3},
    "MinPLogitsWarper: the search of mtla-espnet": {
        "do_sample": True, "num_beams": 1, "min_p": 0.1
    },
    "MaxTimeCriteria: the search of mtla-espnet": {"max_time": 60.0},
    "output_scores: single steps are not kept": {
        "output_scores": True, "return_dict_in_generate": True
    },
    "drafts .assistant_model, prompt_lookup. are not known": {
        "prompt_lookup_num_tokens": 2, "num_beams": 1
    },
    "all documents of a call have the same beginning": {
        "decoder_input_ids": torch.tensor([[END, 5 + n] for n in range(5)])
    },
}  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_generate_cannot_do_is_one_line(both, line):
    _, model, tokenizer = both
    with pytest.raises(ValueError, match=line):
        written(model, tokenizer, **REFUSED[line])


def test_inputs_that_cannot_be_are_one_line(both):
    _, model, tokenizer = both
    with pytest.raises(ValueError, match="a document is empty"):
        model.generate(torch.tensor([[3], [4]]), attention_mask=torch.tensor([[1], [0]]))
    with pytest.raises(ValueError, match="padded on the right: tokenizer.padding_side"):
        model.generate(torch.tensor([[0, 3]]), attention_mask=torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match="either input_ids or encoder_outputs"):
        model()
    with pytest.raises(ValueError, match="either decoder_input_ids or labels"):
        model(torch.tensor([[3]]))
    with pytest.raises(ValueError, match="pad targets on the right"):
        ids = torch.tensor([[3]])
        mask = torch.tensor([[0, 1]])
        model(ids, decoder_input_ids=torch.tensor([[3, END]]), decoder_attention_mask=mask)
    with pytest.raises(ValueError, match="has no `training`: make one by `mtla-espnet export hf"):
        Text2TextMTLAForConditionalGeneration(Text2TextMTLAConfig())
    training = model.config.training | {"encoder": "transfromer"}
    with pytest.raises(UserError, match="config.json: encoder: unknown 'transfromer' .nearest"):
        Text2TextMTLAForConditionalGeneration(Text2TextMTLAConfig(training=training))
