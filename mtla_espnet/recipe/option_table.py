"""Options of a recipe, each declared once: name, kind, default, help and what it changes.

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
        changes: stages whose results it changes, and which are done anew with another value,
            beside those whose directories it names. What a score depends on is said in
            `mtla_espnet.score.registry`.
    """

    name: str
    default: bool | int | float | str | None
    help: str
    choices: tuple = ()
    unsupported: dict = dataclasses.field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    changes: tuple[int, ...] = ()


SPEECH = tuple(name for name, task in TASKS.items() if task.speech)
TEXT = tuple(name for name, task in TASKS.items() if not task.speech)
_TWO_LISTS = tuple(name for name, task in TASKS.items() if len(task.sides) > 1)
_CASES = ("tc", "lc", "lc.rm")

# Those of models are in `mtla_espnet.recipe.model_option_table`.
DATA_OPTIONS: dict[str, list[Option]] = {
    "General": [
        Option("stage", 1, "First stage to run."),
        Option("stop_stage", 10000, "Last stage to run."),
        Option("skip_stages", "", 'Stages to leave out, as in "6 7 8".'),
        Option("skip_data_prep", False, "Leave out stages 1 to 5."),
        Option("skip_train", False, "Leave out stages 2 and 4 to 11."),
        Option("skip_eval", False, "Leave out stages 12 and 13."),
        Option("skip_packing", True, "Leave out stage 14."),
        Option("skip_upload_hf", True, "Leave out stage 15."),
        Option(
            "hf_repo",
            "",
            "Repository of the Hugging Face hub to upload to: OWNER/NAME.",
            changes=(15,),
        ),
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
        Option(
            "inference_nj",
            32,
            "Decoding jobs a set; at most one a core runs at once.",
            changes=(12,),
        ),
        Option("gpu_inference", False, "Decode on a GPU, a set at a time.", changes=(12,)),
        Option("dumpdir", "dump", "Directory of formatted data."),
        Option("expdir", "exp", "Directory of experiments."),
        Option("python", "python3", "Python that runs the stages."),
        Option(
            "trust_files",
            False,
            "Let downloaded models and checkpoints of pretrained encoders run code that they "
            "hold, and name any file. Say it for files whose maker you trust as yourself.",
        ),
    ],
    "Data": [
        Option("train_set", "", "Name of the training set. Required."),
        Option("valid_set", "", "Name of the validation set. Required."),
        Option("test_sets", "", 'Names of the test sets, as in "dev test". Required.'),
        Option("local_data_opts", "", "Options for local/data.sh.", changes=(1,)),
        Option(
            "fairseq_dir",
            "",
            "Directory of manifests of Fairseq S2T, <set>.tsv: stage 1 makes the data of them "
            "instead of local/data.sh, and what of a config.yaml there applies lies under the "
            "training configuration.",
            tasks=SPEECH,
        ),
        Option(
            "speed_perturb_factors",
            "",
            'Speeds of the training set, as in "0.9 1.0 1.1" (1.0: as it is); the set is then '
            "<train_set>_sp. Part of the tags.",
            tasks=SPEECH,
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
            tasks=SPEECH,
        ),
        Option(
            "audio_format",
            "flac",
            "Format of the audio in the dump.",
            choices=("wav", "flac", "wav.ark", "flac.ark"),
            tasks=SPEECH,
            changes=(3,),
        ),
        Option("fs", "16k", "Sampling rate of the dump, as in 16k or 16000.", tasks=SPEECH),
        Option(
            "min_wav_duration",
            0.1,
            "Shortest utterance to train on, in seconds.",
            tasks=SPEECH,
            changes=(4,),
        ),
        Option(
            "max_wav_duration",
            20.0,
            "Longest utterance to train on, in seconds.",
            tasks=SPEECH,
            changes=(4,),
        ),
        Option(
            "allow_pipes",
            False,
            "Run the commands that wav.scp has, as in `sox a.mp3 -t wav - |`.",
            tasks=SPEECH,
        ),
        Option(
            "channel",
            "0",
            "Channel of recordings that is used, from 0, or mean: the mean of all.",
            tasks=SPEECH,
            changes=(2, 3),
        ),
        Option(
            "max_rejected",
            1.0,
            "Per cent of a set that may be left out because it cannot be used.",
            tasks=SPEECH,
            changes=(2, 3),
        ),
        Option(
            "max_unaligned",
            10.0,
            "Per cent of a set whose texts may be too long for CTC; the other losses have them.",
            tasks=SPEECH,
        ),
        Option(
            "feats_normalize",
            "global_mvn",
            "global_mvn normalises by the statistics of stage 10; another value leaves what "
            "the training configuration says.",
            tasks=SPEECH,
            changes=(11,),
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
            changes=(11,),
        ),
        Option(
            "pre_postencoder_norm",
            False,
            "ESPnet's option of the same name.",
            tasks=("slu",),
            changes=(11,),
        ),
        Option(
            "max_src_words",
            0,
            "Words of the longest document to train on; 0: any.",
            tasks=TEXT,
            changes=(4,),
        ),
        Option(
            "max_tgt_words",
            0,
            "Words of the longest summary to train on; 0: any.",
            tasks=TEXT,
            changes=(4,),
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
        Option(
            "lang", "noinfo", "Language, part of directory names; noinfo: left out.", changes=(15,)
        ),
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
        Option("cleaner", "none", "ESPnet's text cleaner.", changes=(5, 6, 7, 9, 10, 11)),
        Option(
            "g2p",
            "none",
            "ESPnet's method from graphemes to phonemes, for phn.",
            changes=(5, 6, 7, 9, 10, 11),
        ),
        Option(
            "nlsyms_txt",
            "none",
            "File of non-linguistic symbols, one a line: each is one token of char, and is left "
            "out of word and character error rates.",
        ),
    ],
}
