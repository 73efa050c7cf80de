"""Options of a recipe's models: language model, training, decoding and scoring."""

from mtla_espnet.task.option import Option

MODEL_OPTIONS: dict[str, list[Option]] = {
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
        Option("lm_fold_length", 150, "Tokens that halve a batch of its training.", changes=(7,)),
        Option("inference_lm", "valid.loss.ave.pth", "Model file of the language model."),
        Option(
            "use_ngram", False, "Train an n-gram of tokens by KenLM (stage 9) and decode with it."
        ),
        Option("ngram_num", 3, "Order of the n-gram.", changes=(9,)),
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
            of=("speech",),
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
            "ignore_init_mismatch",
            False,
            "Leave out its parameters whose shape differs.",
            changes=(11,),
        ),
        Option(
            "num_splits_{model}",
            1,
            "Parts that a large training set is split into, of which one at a time is in memory.",
        ),
        Option(
            "{model}_speech_fold_length",
            800,
            "Frames (of 100 samples) that halve a batch.",
            of=("speech",),
            changes=(11,),
        ),
        Option("{model}_text_fold_length", 150, "Tokens that halve a batch.", changes=(11,)),
    ],
    "Decoding and scoring": [
        Option("inference_config", "", "Decoding configuration (YAML)."),
        Option("inference_args", "", 'Arguments laid over it, as in "--beam_size 5".'),
        Option("inference_tag", "", "Name of the decoding; default: made of its options."),
        Option(
            "inference_{model}_model",
            "valid.acc.ave.pth",
            "Model file of the experiment. Several, with blanks between them, are an ensemble; a "
            "name with a slash is a file of any experiment.",
        ),
        Option("batch_size", 1, "Utterances that are decoded together.", changes=(12,)),
        Option(
            "batch_length",
            0,
            "Their length in all, with padding, in samples of speech, frames of features or "
            "tokens of text, at most. 0: any.",
            changes=(12,),
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
            of=("translation", "summaries"),
        ),
        Option(
            "bleu_tokenize",
            "auto",
            "What BLEU cuts texts into words by (sacrebleu): auto is zh for Chinese, ja-mecab for "
            "Japanese (char where it is not installed), ko-mecab for Korean (13a), char for other "
            "scripts without blanks, else 13a.",
            choices=("auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"),
            of=("translation",),
        ),
        Option(
            "unknown_intents",
            "error",
            "References with an intent that no training text has: an error, or wrong whatever "
            "is recognised.",
            choices=("error", "wrong"),
            of=("intents",),
        ),
        Option(
            "rouge",
            "rouge",
            "Normalisation before ROUGE: rouge replaces punctuation by blanks (rouge-score's own), "
            "paper deletes it.",
            choices=("rouge", "paper"),
            of=("summaries",),
        ),
        Option(
            "heading_mark",
            "",
            "Word that ends the heading of each document, as in pydocs; the first sentence, which "
            "is scored beside the model, is that of what follows. Empty: there are no headings.",
            of=("summaries",),
        ),
        Option(
            "scorer",
            "ours",
            "Who aligns for word, character and token error rates: our own scorer, or NIST's "
            "sclite where it is installed; the counts are the same.",
            choices=("ours", "sclite"),
            of=("rates",),
        ),
        Option(
            "score_opts",
            "",
            "Options for sclite. Our own scorer knows -s alone: case matters.",
            of=("rates",),
        ),
        Option("local_score_opts", "", "Options for local/score.sh.", changes=(13,)),
    ],
}
