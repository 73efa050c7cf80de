"""Corpora: each module brings one raw layout into data directories.

A corpus module has `add_arguments(parser)`, which declares its options, and
`prepare(args)`, which writes `<args.output>/<set>/`.
"""

# Name -> module; imported only when that corpus is prepared.
CORPORA = {
    "ami": "mtla_espnet.corpora.ami.prepare",
    "mini_an4": "mtla_espnet.corpora.mini_an4",
    "must_c": "mtla_espnet.corpora.must_c.prepare",
    "pydocs": "mtla_espnet.corpora.pydocs.prepare",
    "slurp": "mtla_espnet.corpora.slurp",
    "smarthome": "mtla_espnet.corpora.smarthome.prepare",
    "tuxpaint": "mtla_espnet.corpora.tuxpaint.prepare",
    "xsum": "mtla_espnet.corpora.xsum.prepare",
}
