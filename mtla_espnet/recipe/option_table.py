"""Options of a recipe, each declared once: name, kind, default, help and what it changes.

Names and defaults are those of ESPnet2's asr.sh, st.sh, slu.sh and mt.sh, so that its users'
habits and command lines keep working.
"""

from mtla_espnet.task.option import Option

_VOCABULARY = "not supported: its vocabulary is that of a pretrained decoder: use bpe"
_OF_OTHER_DECODERS = dict.fromkeys(
    ("hugging_face", "whisper_en", "whisper_multilingual"), _VOCABULARY
)
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
            "skip_upload",
            True,
            "Of older recipes.",
            unsupported={False: "not supported: pack by --skip_packing false (stage 14)"},
        ),
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
            "GPUs for training, of each machine; 0: CPU. Unset: 1 where CUDA is visible, else 0; "
            "1 for a training that is submitted.",
        ),
        Option(
            "num_nodes",
            1,
            "Machines that train together: those of the job where --parallel names a Slurm. Else "
            "each runs the training stage alone, with RANK (0 to num_nodes - 1), MASTER_ADDR and "
            "MASTER_PORT in its environment.",
        ),
        Option(
            "save_interval_updates",
            0,
            "Updates of a training from one save inside an epoch to the next; 0: as the training "
            "configuration says, which may say none.",
        ),
        Option("nj", 32, "Jobs of the stages before training; at most one a core runs at once."),
        Option(
            "inference_nj",
            32,
            "Decoding jobs a set; at most one a core runs at once.",
            changes=(12,),
        ),
        Option(
            "gpu_inference",
            False,
            "Decode on GPUs, --inference_nj processes (unless it is given, one a GPU), which share "
            "the GPUs where they are more.",
            changes=(12,),
        ),
        Option(
            "parallel",
            "",
            "YAML file with espnet3's keys, such as conf/parallel/slurm.yaml: stages 2, 3, 6, 10 "
            "and 12 run their jobs on that cluster; of Slurm, also the trainings (7, 11). Unset: "
            "on this machine.",
        ),
        Option(
            "submit_training",
            True,
            "Where --parallel names a Slurm, train as a job of --num_nodes machines with --ngpu "
            "GPUs each, by the words of conf/slurm.conf; false: in this process.",
        ),
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
            of=("speech",),
        ),
        Option(
            "speed_perturb_factors",
            "",
            'Speeds of the training set, as in "0.9 1.0 1.1" (1.0: as it is); the set is then '
            "<train_set>_sp. Part of the tags.",
            of=("speech",),
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
            of=("speech",),
        ),
        Option(
            "audio_format",
            "flac",
            "Format of the audio in the dump.",
            choices=("wav", "flac", "wav.ark", "flac.ark"),
            of=("speech",),
            changes=(3,),
        ),
        Option("fs", "16k", "Sampling rate of the dump, as in 16k or 16000.", of=("speech",)),
        Option(
            "min_wav_duration",
            0.1,
            "Shortest utterance to train on, in seconds.",
            of=("speech",),
            changes=(4,),
        ),
        Option(
            "max_wav_duration",
            20.0,
            "Longest utterance to train on, in seconds.",
            of=("speech",),
            changes=(4,),
        ),
        Option(
            "allow_pipes",
            False,
            "Run the commands that wav.scp has, as in `sox a.mp3 -t wav - |`.",
            of=("speech",),
        ),
        Option(
            "channel",
            "0",
            "Channel of recordings that is used, from 0, or mean: the mean of all.",
            of=("speech",),
            changes=(2, 3),
        ),
        Option(
            "max_rejected",
            1.0,
            "Per cent of a set that may be left out because it cannot be used.",
            of=("speech",),
            changes=(2, 3),
            of_the_pass=True,
        ),
        Option(
            "max_unaligned",
            10.0,
            "Per cent of a set whose texts may be too long for CTC; the other losses have them.",
            of=("speech",),
        ),
        Option(
            "feats_normalize",
            "global_mvn",
            "global_mvn normalises by the statistics of stage 10; another value leaves what "
            "the training configuration says.",
            of=("speech",),
            changes=(11,),
        ),
        Option(
            "max_src_words",
            0,
            "Words of the longest document to train on; 0: any.",
            of=("text",),
            changes=(4,),
        ),
        Option(
            "max_tgt_words",
            0,
            "Words of the longest summary to train on; 0: any.",
            of=("text",),
            changes=(4,),
        ),
    ],
    "Tokens": [
        Option(
            "token_joint",
            False,
            "One token list for source and target, made of both by the options of the target.",
            of=("two token lists",),
        ),
        Option(
            "{side}token_type",
            "bpe",
            "Unit of text; phn: phonemes, which --g2p makes of the text, or which it holds.",
            choices=("bpe", "char", "word", "phn", *_OF_OTHER_DECODERS),
            unsupported=_OF_OTHER_DECODERS,
        ),
        Option(
            "lang", "noinfo", "Language, part of directory names; noinfo: left out.", changes=(15,)
        ),
        Option("{side}nbpe", 30, "Number of BPE tokens."),
        Option(
            "{side}bpemode", "unigram", "Kind of sentencepiece model.", choices=("unigram", "bpe")
        ),
        Option("{side}bpe_char_cover", 1.0, "Share of characters that the BPE model covers."),
        Option(
            "{side}bpe_input_sentence_size",
            100000000,
            "Lines to train BPE on.",
            unsupported={...: "not supported: give some of the lines as --bpe_train_text"},
        ),
        Option(
            "{side}bpe_nlsyms",
            "",
            "Symbols that BPE keeps whole, separated by commas, or a file with one a line. One "
            "that begins a word begins with ▁.",
        ),
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
