"""Data: tables, data directories, audio, features and token lists.

A module that `mtla-espnet data NAME` runs has `add_arguments(parser)` and `run(arguments)`.
"""

# Name -> module, help; a module is imported only when it is asked for.
COMMANDS = {
    "from-fairseq": (
        "mtla_espnet.data.from_fairseq",
        "make a data directory of a manifest of Fairseq S2T",
    ),
    "to-fairseq": (
        "mtla_espnet.data.to_fairseq",
        "write a manifest of Fairseq S2T of a data directory",
    ),
}
