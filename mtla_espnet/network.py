"""Whether what is to be fetched can be reached, asked within seconds.

Libraries that fetch try again and again, for half a minute and more, before they say that there
is no network.
"""

import os
import socket
import urllib.request
from urllib.parse import urlsplit

from mtla_espnet.files import UserError

_HUB = "https://huggingface.co"
_WAIT_S = 5.0


def unreachable(url: str) -> str | None:
    """Return why the machine of a URL cannot be reached; None: it can, or a proxy knows.

    Args:
        url: with `https://` or `http://`.
    """
    if urllib.request.getproxies():
        return None
    address = urlsplit(url)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=_WAIT_S).close()
    except OSError as error:
        return f"{address.hostname} cannot be reached: {error.strerror or error}"
    return None


def unreachable_on_hub(model: str) -> str | None:
    """Return why a model of the Hugging Face hub cannot be fetched.

    None: it is in the cache, the hub answers, or `HF_HUB_OFFLINE` lets the library say so.

    Args:
        model: OWNER/NAME.
    """
    from huggingface_hub import constants, try_to_load_from_cache  # here: few models need it
    from huggingface_hub.errors import HFValidationError

    try:
        cached = isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError as error:
        return str(error)
    if cached or constants.HF_HUB_OFFLINE:
        return None
    return unreachable(os.environ.get("HF_ENDPOINT") or _HUB)


def no_model(model: str, reason: str) -> UserError:
    """Return the error for a front end of the hub that is not there."""
    return UserError(
        f"frontend_conf.model: {model} is not in the cache and cannot be fetched: put its "
        f"config.json and model.safetensors into a folder, and name that ({reason})"
    )
