"""What decoding imports, loaded when this module is: for a process whose forks decode."""

from mtla_espnet.recipe.espnet_arguments import load_espnet

load_espnet()

import mtla_espnet.inference.decode  # noqa: E402, F401
