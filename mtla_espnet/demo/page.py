"""The page itself: gradio's parts, which come from this machine, and what happens on a click."""

from collections.abc import Sequence
from pathlib import Path

import gradio
import numpy as np
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware

from mtla_espnet.demo.html import answers_html, error_html
from mtla_espnet.demo.models import ShownModel, read_recording
from mtla_espnet.files import UserError

_LARGEST_BEAM = 100
_LONGEST_TEXT = 100_000
_CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
# Fonts of the reader's machine: gradio's own themes name fonts of a server.
_THEME = gradio.themes.Default(
    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
)


def application(
    models: Sequence[ShownModel], largest_mb: int, host_names: Sequence[str]
) -> FastAPI:
    """Return the application that serves the page.

    Args:
        models: that it offers; all hear, or all read.
        largest_mb: of an upload, in MB.
        host_names: names that a browser may call this machine by; others are those of pages
            elsewhere that want to get in.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(host_names))
    return gradio.mount_gradio_app(
        app,
        _blocks(models),
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=f"{largest_mb}mb",
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=_THEME,
        css=_CSS,
    )


def _blocks(models: Sequence[ShownModel]) -> gradio.Blocks:
    hears = models[0].task.speech
    names = [model.name for model in models]
    # An hour after they came, uploads are removed.
    with gradio.Blocks(
        title="mtla_espnet", analytics_enabled=False, delete_cache=(600, 3600)
    ) as blocks:
        gradio.Markdown(f"# {_title(models)}")
        with gradio.Row():
            if hears:
                value = gradio.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="Recording",
                    buttons=["download"],  # none that shares it on a hub
                    scale=2,
                )
            else:
                value = gradio.Textbox(
                    label="Text", lines=8, max_length=_LONGEST_TEXT, elem_id="text", scale=2
                )
            with gradio.Column(scale=1):
                chosen = gradio.CheckboxGroup(names, value=names, label="Models")
                beam = gradio.Slider(
                    1, _LARGEST_BEAM, value=models[0].beam_size, step=1, label="Beam size"
                )
                button = gradio.Button("Run", variant="primary", elem_id="run")
        shown = gradio.HTML(elem_id="answers")

        def answer(value: str | None, chosen: list[str], beam: float) -> str:
            return _answer([model for model in models if model.name in chosen], value, int(beam))

        button.click(answer, [value, chosen, beam], shown, concurrency_limit=1, api_name=False)
    return blocks


def _answer(models: Sequence[ShownModel], value: str | None, beam_size: int) -> str:
    """Return what the page shows; a mistake is told in it."""
    if not models:
        return error_html("Choose a model.")
    if not (value or "").strip():
        return error_html(
            "Record or upload something." if models[0].task.speech else "Write a text."
        )
    samples, rate_hz = np.zeros(0, dtype=np.float32), 1
    try:
        if models[0].task.speech:
            samples, rate_hz = read_recording(value)
            value = (samples, rate_hz)
        answers = [(model, model.answer(value, beam_size)) for model in models]
    except UserError as error:
        return error_html(str(error))
    return answers_html(answers, samples, rate_hz)


def _title(models: Sequence[ShownModel]) -> str:
    does = " and ".join(dict.fromkeys(model.task.does for model in models))
    return does[0].upper() + does[1:]
