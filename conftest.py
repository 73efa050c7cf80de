"""What pytest passes over."""

import importlib.util

# Any file that cannot be imported is an error. (With `--doctest-ignore-import-errors` a test file
# would be passed over in silence, too.)
collect_ignore_glob = ["test/*/interpreted_*.py"]  # programs that tests run
if importlib.util.find_spec("triton") is None:  # it is not everywhere that torch is
    collect_ignore_glob += ["mtla_espnet/*_triton.py", "mtla_espnet/*_kernels.py"]
