import signal

import pytest
import torch
from hypothesis import settings

# Times differ too much between machines to be a law; the blob reproduces a failure.
settings.register_profile("laws", deadline=None, print_blob=True, max_examples=25)
settings.load_profile("laws")

# Tests run side by side, one process a core.
torch.set_num_threads(1)

# A shell lets what it starts in the background ignore Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
