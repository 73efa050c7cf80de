"""From audio to features: inside the model, and ahead of training by the same functions.

A module that writes files of features (`mtla-espnet feats NAME`) has `add_arguments(parser)`,
and `write(arguments, form)`.
"""

# Name -> module, form of the files (or whose features), help; a module is imported when it is
# asked for.
FEATS = {
    "fbank-zip": (
        "mtla_espnet.frontend.fbank_files",
        "zip",
        "log-Mel features in a zip file, with manifests for Fairseq S2T",
    ),
    "fbank-ark": (
        "mtla_espnet.frontend.fbank_files",
        "ark",
        "log-Mel features in Kaldi archives, with data directories",
    ),
    "s3prl": (
        "mtla_espnet.frontend.encoder_files",
        "s3prl",
        "layers of an upstream of S3PRL, in Kaldi archives or a zip file",
    ),
    "transformers": (
        "mtla_espnet.frontend.encoder_files",
        "transformers",
        "layers of a speech encoder of transformers, in Kaldi archives or a zip file",
    ),
}
