"""Corpora: each module brings one raw layout into data directories.

A corpus module has `add_arguments(parser)`, which declares its options, and
`prepare(args)`, which writes `<args.output>/<set>/`.
"""

# Name -> module; imported only when that corpus is prepared.
CORPORA = {
    "ami": "mtla_espnet.corpora.ami",
    "mini_an4": "mtla_espnet.corpora.mini_an4",
    "must_c": "mtla_espnet.corpora.must_c",
    "pydocs": "mtla_espnet.corpora.pydocs",
    "slurp": "mtla_espnet.corpora.slurp",
    "smarthome": "mtla_espnet.corpora.smarthome",
    "tuxpaint": "mtla_espnet.corpora.tuxpaint",
    "xsum": "mtla_espnet.corpora.xsum",
}
