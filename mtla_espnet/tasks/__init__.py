"""ESPnet2's tasks with this package's classes.

Importing this package registers them: `decoder: decoder_only`, `encoder: conv1d_conformer`
and `encoder: conv1d_transformer` become legal in ESPnet's YAML, and ESPnet's own classes
(`Speech2Text`, ...) load the models trained with them. It imports ESPnet's tasks, which
costs about ten seconds.
"""

import contextlib
import importlib
import io

from mtla_espnet.other_user import give_what_is_missing

give_what_is_missing()
# ESPnet's attention module prints on stderr where flash_attn, which we do not use, is missing.
with contextlib.redirect_stderr(io.StringIO()):
    importlib.import_module("espnet2.legacy.nets.pytorch_backend.transformer.attention")

from mtla_espnet.tasks import register as _register  # noqa: E402

_register.register()
