"""`mtla-espnet demo`: its arguments, and the server of the page."""

import argparse
import contextlib
import os
import socket
import tempfile
from pathlib import Path

from mtla_espnet.files import UserError
from mtla_espnet.trust import add_trust_argument, files_trusted

_LOOPBACK = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        required=True,
        help="an experiment's directory, a pack of it (zip), or smarthome, which comes with the "
        "package; given again: to compare with",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument(
        "--host",
        default=_LOOPBACK,
        help="address to listen at; the default, %(default)s, is reached from this machine alone",
    )
    parser.add_argument(
        "--port", type=int, default=7860, help="0: one that is free (default: %(default)s)"
    )
    parser.add_argument(
        "--largest_mb", type=int, default=50, help="of an upload, in MB (default: %(default)s)"
    )
    parser.add_argument(
        "--longest", type=float, default=20.0, help="seconds of a piece; default: 20"
    )
    add_trust_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C.

    Returns:
        The exit code.

    Raises:
        UserError: a model is not whole, the models take different inputs, or the address cannot
            be listened at.
    """
    if arguments.largest_mb < 1:
        raise UserError(f"--largest_mb is 1 or more, not {arguments.largest_mb}", exit_code=2)
    with (
        _listening(arguments.host, arguments.port) as listener,
        tempfile.TemporaryDirectory(prefix="mtla-espnet-demo-") as directory,
    ):
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["GRADIO_TEMP_DIR"] = directory  # recordings are gone when the page is
        # here: they take long to import, and a wrong argument need not wait
        from mtla_espnet.demo.models import shown_models
        from mtla_espnet.demo.page import application

        with files_trusted(arguments.trust_files):
            models = shown_models(arguments.model, arguments.device, arguments.longest)
        names = ["127.0.0.1", "localhost"] if arguments.host == _LOOPBACK else ["*"]
        app = application(models, arguments.largest_mb, names)
        port = listener.getsockname()[1]
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"The page is at http://{host}:{port}/ until Ctrl-C", flush=True)
        import uvicorn

        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port}: {reason}: choose another") from None
