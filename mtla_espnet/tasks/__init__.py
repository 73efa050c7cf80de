"""ESPnet2's tasks with this package's classes.

Importing this package registers them: `decoder: decoder_only`, `encoder: conv1d_conformer`
and `encoder: conv1d_transformer` become legal in ESPnet's YAML, and ESPnet's own classes
(`Speech2Text`, ...) load the models trained with them. It imports ESPnet's tasks, which
costs about ten seconds.
"""

from mtla_espnet.tasks import register as _register

_register.register()
