"""Every option of a recipe, declared once: name, kind, default and help.

Names and defaults are those of ESPnet2's asr.sh, st.sh, slu.sh and mt.sh, so that its users'
habits and command lines keep working.
"""

import dataclasses

from mtla_espnet.recipe.task import TASKS


@dataclasses.dataclass(frozen=True)
class Option:
    """One option.

    Args:
        name: with underscores; `--a_b` and `--a-b` both set `a_b`. `{model}` in it stands for
            the task's `asr`, `st`, `slu` or `mt`; with `{side}` there is one for each token
            list of the task: `nbpe` in ASR, `src_nbpe` and `tgt_nbpe` in translation.
        default: its type is the option's type: bool, int, float or str. None: an int
            that is chosen by the machine when it is needed.
        help: one or two sentences.
        choices: the values that mean something; empty: any.
        unsupported: value -> why this project cannot do it yet; `...` stands for every
            value but the default.
        tasks: names of the tasks that have it; empty: all.
    """

    name: str
    default: bool | int | float | str | None
    help: str
    choices: tuple = ()
    unsupported: dict = dataclasses.field(default_factory=dict)
    tasks: tuple[str, ...] = ()


_SPEECH = tuple(name for name, task in TASKS.items() if task.speech)
_TEXT = tuple(name for name, task in TASKS.items() if not task.speech)
_TWO_LISTS = tuple(name for name, task in TASKS.items() if len(task.sides) > 1)
_CASES = ("tc", "lc", "lc.rm")

OPTIONS: dict[str, list[Option]] = {
    "General": [
        Option("stage", 1, "First stage to run."),
        Option("stop_stage", 10000, "Last stage to run."),
        Option("skip_stages", "", 'Stages to leave out, as in "6 7 8".'),
        Option("skip_data_prep", False, "Leave out stages 1 to 5."),
        Option("skip_train", False, "Leave out stages 2 and 4 to 11."),
        Option("skip_eval", False, "Leave out stages 12 and 13."),
        Option("skip_packing", True, "Leave out stage 14."),
        Option("skip_upload_hf", True, "Leave out stage 15."),
        Option("hf_repo", "", "Repository of the Hugging Face hub to upload to: OWNER/NAME."),
        Option("force", False, "Redo the chosen stages, also those that are done."),
        Option("dry_run", False, "Say what each stage would read, write and run; run nothing."),
        Option("eval_valid_set", False, "Also decode and score the validation set."),
        Option(
            "ngpu",
            None,
            "GPUs for training, of each machine; 0: CPU. Unset: 1 where CUDA is visible, else 0.",
        ),
        Option(
            "num_nodes",
            1,
            "Machines that train together; each runs the training stage alone, with RANK (0 to "
            "num_nodes - 1), MASTER_ADDR and MASTER_PORT in its environment.",
        ),
        Option("nj", 32, "Jobs of the stages before training; at most one a core runs at once."),
        Option("inference_nj", 32, "Decoding jobs a set; at most one a core runs at once."),
        Option("gpu_inference", False, "Decode on a GPU, a set at a time."),
        Option("dumpdir", "dump", "Directory of formatted data."),
        Option("expdir", "exp", "Directory of experiments."),
        Option("python", "python3", "Python that runs the stages."),
    ],
    "Data": [
        Option("train_set", "", "Name of the training set. Required."),
        Option("valid_set", "", "Name of the validation set. Required."),
        Option("test_sets", "", 'Names of the test sets, as in "dev test". Required.'),
        Option("local_data_opts", "", "Options for local/data.sh."),
        Option(
            "fairseq_dir",
            "",
            "Directory of manifests of Fairseq S2T, <set>.tsv: stage 1 makes the data of them "
            "instead of local/data.sh, and what of a config.yaml there applies lies under the "
            "training configuration.",
            tasks=_SPEECH,
        ),
        Option(
            "speed_perturb_factors",
            "",
            'Speeds of the training set, as in "0.9 1.0 1.1" (1.0: as it is); the set is then '
            "<train_set>_sp. Part of the tags.",
            tasks=_SPEECH,
        ),
        Option(
            "feats_type",
            "raw",
            "Kind of input: raw: audio; extracted: features in Kaldi archives; fairseq_zip: "
            "features in zip files. Features are those of data/<set>/feats.scp, or else "
            "log-Mel features that stage 3 computes.",
            choices=("raw", "raw_copy", "fbank_pitch", "extracted", "fairseq_zip"),
            unsupported={
                "raw_copy": "not supported: use raw, which also copies",
                "fbank_pitch": "not supported: use raw with `frontend: fbank`, or extracted",
            },
            tasks=_SPEECH,
        ),
        Option(
            "audio_format",
            "flac",
            "Format of the audio in the dump.",
            choices=("wav", "flac", "wav.ark", "flac.ark"),
            tasks=_SPEECH,
        ),
        Option("fs", "16k", "Sampling rate of the dump, as in 16k or 16000.", tasks=_SPEECH),
        Option(
            "min_wav_duration", 0.1, "Shortest utterance to train on, in seconds.", tasks=_SPEECH
        ),
        Option(
            "max_wav_duration", 20.0, "Longest utterance to train on, in seconds.", tasks=_SPEECH
        ),
        Option(
            "allow_pipes",
            False,
            "Run the commands that wav.scp has, as in `sox a.mp3 -t wav - |`.",
            tasks=_SPEECH,
        ),
        Option(
            "channel",
            "0",
            "Channel of recordings that is used, from 0, or mean: the mean of all.",
            tasks=_SPEECH,
        ),
        Option(
            "max_rejected",
            1.0,
            "Per cent of a set that may be left out because it cannot be used.",
            tasks=_SPEECH,
        ),
        Option(
            "max_unaligned",
            10.0,
            "Per cent of a set whose texts may be too long for CTC; the other losses have them.",
            tasks=_SPEECH,
        ),
        Option(
            "feats_normalize",
            "global_mvn",
            "global_mvn normalises by the statistics of stage 10; another value leaves what "
            "the training configuration says.",
            tasks=_SPEECH,
        ),
        Option("src_lang", "es", "Language that is spoken.", tasks=("st",)),
        Option("tgt_lang", "en", "Language that is written.", tasks=("st",)),
        Option(
            "src_case",
            "lc.rm",
            "Case of the source text, data/<set>/text.<src_case>.<src_lang>: tc as it is, lc "
            "lower, lc.rm lower without punctuation.",
            choices=_CASES,
            tasks=("st",),
        ),
        Option(
            "tgt_case",
            "tc",
            "Case of the target text, data/<set>/text.<tgt_case>.<tgt_lang>.",
            choices=_CASES,
            tasks=("st",),
        ),
        Option(
            "use_transcript",
            False,
            "Give the model data/<set>/transcript too, words and no intent.",
            tasks=("slu",),
        ),
        Option(
            "two_pass",
            False,
            "Understand speech and transcript: the training configuration has a postdecoder. "
            "Needs --use_transcript true.",
            tasks=("slu",),
        ),
        Option("pre_postencoder_norm", False, "ESPnet's option of the same name.", tasks=("slu",)),
        Option(
            "max_src_words", 0, "Words of the longest document to train on; 0: any.", tasks=_TEXT
        ),
        Option(
            "max_tgt_words", 0, "Words of the longest summary to train on; 0: any.", tasks=_TEXT
        ),
    ],
    "Tokens": [
        Option(
            "token_joint",
            False,
            "One token list for source and target, made of both by the options of the target.",
            tasks=_TWO_LISTS,
        ),
        Option(
            "{side}token_type",
            "bpe",
            "Unit of text; phn: phonemes, which --g2p makes of the text, or which it holds.",
            choices=("bpe", "char", "word", "phn"),
        ),
        Option("lang", "noinfo", "Language, part of directory names; noinfo: left out."),
        Option("{side}nbpe", 30, "Number of BPE tokens."),
        Option(
            "{side}bpemode", "unigram", "Kind of sentencepiece model.", choices=("unigram", "bpe")
        ),
        Option("{side}bpe_char_cover", 1.0, "Share of characters that the BPE model covers."),
        Option("{side}bpe_nlsyms", "", "Symbols that BPE keeps whole, separated by commas."),
        Option(
            "{side}bpe_train_text", "", "Text to train BPE on; default: that of the training set."
        ),
        Option("oov", "<unk>", "Symbol of unknown tokens."),
        Option("blank", "<blank>", "Symbol of the CTC blank."),
        Option("sos_eos", "<sos/eos>", "Symbol of start and end."),
        Option("cleaner", "none", "ESPnet's text cleaner."),
        Option("g2p", "none", "ESPnet's method from graphemes to phonemes, for phn."),
        Option(
            "nlsyms_txt",
            "none",
            "File of non-linguistic symbols, one a line: each is one token of char, and is left "
            "out of word and character error rates.",
        ),
    ],
    "Language model": [
        Option(
            "use_lm",
            True,
            "Train a language model (stages 6 to 8) and decode with it.",
        ),
        Option("lm_config", "", "Training configuration (YAML) of the language model."),
        Option("lm_args", "", 'Arguments laid over it, as in "--max_epoch 3".'),
        Option("lm_tag", "", "Name of the language model; default: made of its options."),
        Option("lm_exp", "", "Directory of the language model; default: <expdir>/lm_<lm_tag>."),
        Option(
            "lm_train_text",
            "",
            'Text to train it on, as in "data/train/text data/more/text"; default: that of the '
            "training set.",
        ),
        Option("lm_dev_text", "", "Text to validate it on; default: the validation set's."),
        Option("lm_test_text", "", "Text of its perplexity; default: that of the first test set."),
        Option("lm_stats_dir", "", "Directory of the statistics of stage 6."),
        Option("num_splits_lm", 1, "Parts that its training text is split into."),
        Option(
            "use_word_lm",
            False,
            "A language model of words.",
            unsupported={True: "not supported, as in ESPnet: --use_lm trains one of tokens"},
        ),
        Option("lm_fold_length", 150, "Tokens that halve a batch of its training."),
        Option("inference_lm", "valid.loss.ave.pth", "Model file of the language model."),
        Option(
            "use_ngram", False, "Train an n-gram of tokens by KenLM (stage 9) and decode with it."
        ),
        Option("ngram_num", 3, "Order of the n-gram."),
        Option("ngram_exp", "", "Directory of the n-gram; default: <expdir>/ngram."),
        Option("inference_ngram", "", "File of the n-gram; default: <ngram_num>gram.bin."),
    ],
    "Model": [
        Option("{model}_config", "", "Training configuration (YAML)."),
        Option("{model}_args", "", 'Arguments laid over it, as in "--max_epoch 3".'),
        Option(
            "frontend",
            "",
            "Front end to lay over it: a YAML file, or a name in conf/frontend of the recipe or "
            "of the checkout, such as fbank. Part of the tags.",
            tasks=_SPEECH,
        ),
        Option(
            "attention",
            "",
            "Overlay to lay over it: a YAML file, or a name in conf/attention of the recipe or "
            "of the checkout. Part of the tag.",
        ),
        Option(
            "{model}_tag", "", "Name of the experiment; default: made of configuration and options."
        ),
        Option("{model}_exp", "", "Directory of the experiment; default: <expdir>/{model}_<tag>."),
        Option("{model}_stats_dir", "", "Directory of the statistics of stage 10."),
        Option("pretrained_model", "", "Model to start from, as ESPnet's --init_param."),
        Option(
            "pretrained_asr",
            "",
            "The same, for a recogniser whose encoder it is: exp/asr_x/y.pth:encoder:encoder.",
            tasks=("st",),
        ),
        Option("ignore_init_mismatch", False, "Leave out its parameters whose shape differs."),
        Option(
            "num_splits_{model}",
            1,
            "Parts that a large training set is split into, of which one at a time is in memory.",
        ),
        Option(
            "{model}_speech_fold_length",
            800,
            "Frames (of 100 samples) that halve a batch.",
            tasks=_SPEECH,
        ),
        Option("{model}_text_fold_length", 150, "Tokens that halve a batch."),
    ],
    "Decoding and scoring": [
        Option("inference_config", "", "Decoding configuration (YAML)."),
        Option("inference_args", "", 'Arguments laid over it, as in "--beam_size 5".'),
        Option("inference_tag", "", "Name of the decoding; default: made of its options."),
        Option("inference_{model}_model", "valid.acc.ave.pth", "Model file of the experiment."),
        Option("batch_size", 1, "Utterances that are decoded together."),
        Option(
            "use_k2",
            False,
            "Decode by k2.",
            unsupported={True: "not supported: decoding is a beam search of this project's own"},
            tasks=("asr",),
        ),
        Option(
            "use_streaming",
            False,
            "Decode while the speaker speaks.",
            unsupported={True: "not supported: the decoder reads the whole utterance first"},
            tasks=("asr", "st"),
        ),
        Option(
            "batch_length",
            0,
            "Their length in all, with padding, in samples of speech, frames of features or "
            "tokens of text, at most. 0: any.",
        ),
        Option(
            "max_memory",
            0.0,
            "GB (10^9 bytes) that decoding on CPUs may take above the model, all jobs together; "
            "batches are made so small. 0: what is free.",
        ),
        Option(
            "download_model",
            "",
            "Trained model to decode with: a zip file of stage 14, or a name of ESPnet's model "
            "zoo, such as OWNER/NAME on the Hugging Face hub. Needs --skip_train true.",
        ),
        Option(
            "detokenize",
            False,
            "Join references and hypotheses by Moses' rules of tgt_lang (summaries: lang) before "
            "they are scored: for texts that stage 1 tokenised.",
            tasks=("st", "sum"),
        ),
        Option(
            "bleu_tokenize",
            "auto",
            "What BLEU cuts texts into words by (sacrebleu): auto is zh for Chinese, ja-mecab for "
            "Japanese (char where it is not installed), ko-mecab for Korean (13a), char for other "
            "scripts without blanks, else 13a.",
            choices=("auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"),
            tasks=("st",),
        ),
        Option(
            "unknown_intents",
            "error",
            "References with an intent that no training text has: an error, or wrong whatever "
            "is recognised.",
            choices=("error", "wrong"),
            tasks=("slu",),
        ),
        Option(
            "rouge",
            "rouge",
            "Normalisation before ROUGE: rouge replaces punctuation by blanks (rouge-score's own), "
            "paper deletes it.",
            choices=("rouge", "paper"),
            tasks=("sum",),
        ),
        Option(
            "heading_mark",
            "",
            "Word that ends the heading of each document, as in pydocs; the first sentence, which "
            "is scored beside the model, is that of what follows. Empty: there are no headings.",
            tasks=("sum",),
        ),
        Option(
            "scorer",
            "ours",
            "Who aligns for word, character and token error rates: our own scorer, or NIST's "
            "sclite where it is installed; the counts are the same.",
            choices=("ours", "sclite"),
            tasks=("asr", "slu"),
        ),
        Option(
            "score_opts",
            "",
            "Options for sclite. Our own scorer knows -s alone: case matters.",
            tasks=("asr", "slu"),
        ),
        Option("local_score_opts", "", "Options for local/score.sh."),
    ],
}
