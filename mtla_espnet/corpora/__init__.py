"""Corpora: each module brings one raw layout into data directories.

A corpus module has `add_arguments(parser)`, which declares its options, and
`prepare(args)`, which writes `<args.output>/<set>/`.
"""

# Name -> module, which is imported only when that corpus is prepared, and what it is.
CORPORA = {
    "amazon_queen": (
        "mtla_espnet.corpora.amazon_queen.prepare",
        "acted English of an adventure game, for recognition",
    ),
    "ami": ("mtla_espnet.corpora.ami.prepare", "AMI: meetings in English, for recognition"),
    "debian": ("mtla_espnet.corpora.debian", "Debian's package descriptions, for summaries"),
    "home_assistant": (
        "mtla_espnet.corpora.home_assistant.prepare",
        "commands of Home Assistant's intents, English and German (synthetic), for understanding",
    ),
    "mini_an4": ("mtla_espnet.corpora.mini_an4", "seven recordings of AN4, in espnet's wheel"),
    "must_c": ("mtla_espnet.corpora.must_c.prepare", "MuST-C: translated talks"),
    "pydocs": ("mtla_espnet.corpora.pydocs.prepare", "docstrings of packages, for summaries"),
    "slurp": ("mtla_espnet.corpora.slurp", "SLURP: spoken commands and their intents"),
    "smarthome": ("mtla_espnet.corpora.smarthome.prepare", "synthetic home commands, made here"),
    "table": ("mtla_espnet.corpora.table.prepare", "your own: a table, a folder, a data set"),
    "tuxpaint": (
        "mtla_espnet.corpora.tuxpaint.prepare",
        "names of things, said by people",
    ),
    "wesnoth": (
        "mtla_espnet.corpora.wesnoth.prepare",
        "texts of a game (synthetic) and two spoken games, English to German, for translation",
    ),
    "xsum": ("mtla_espnet.corpora.xsum.prepare", "XSum: news articles and their summaries"),
}
