"""The page in a real browser, and what it refuses."""

import contextlib
import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from mtla_espnet.cli import main
from mtla_espnet.inference.from_files import decode_recordings
from small_models import save_model

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 300_000
# Runs the command and writes what it connects to: it asks nobody elsewhere.
WATCHED = """
import socket, sys
connect = socket.socket.connect
def watched(self, address):
    with open(sys.argv[1], "a") as file:
        print(self.family.name, address, file=file)
    return connect(self, address)
socket.socket.connect = watched
from mtla_espnet.cli import main
sys.exit(main(sys.argv[2:]))
"""
# Name of a model -> its task and attention.
KINDS = {
    "mha": ("asr", "mha"),
    "mtla": ("asr", "mtla"),
    "st": ("st", "mtla"),
    "slu": ("slu", "gqa"),
    "sum": ("sum", "mla"),
}
HEARING = ["mha", "mtla", "st", "slu"]
LOCAL = re.compile(r"https?://127\.0\.0\.1:\d+/|data:|blob:")

pytestmark = pytest.mark.espnet
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt install chromium")


@contextlib.contextmanager
def served(tmp_path, *argv):
    """Serve the page; yields its URL and the file of addresses that the server connected to."""
    connections, log = tmp_path / "connections", tmp_path / "log"
    connections.touch()
    command = [sys.executable, "-c", WATCHED, str(connections), "demo", "--port", "0", *argv]
    with open(log, "w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=tmp_path
        )
    try:
        line = process.stdout.readline()  # ends when the server does
        assert line.startswith("The page is at http://"), log.read_text()
        yield line.split()[4], connections
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert code == 0, log.read_text()


@contextlib.contextmanager
def opened(url, *arguments):
    """Open the page; yields it and the URLs that the browser asked for."""
    from playwright.sync_api import sync_playwright

    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *arguments], timeout=WAIT_MS
        )
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        yield page, asked
        browser.close()


def is_elsewhere(line):
    return not line.startswith("AF_UNIX") and "'127.0.0.1'" not in line and "'::1'" not in line


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models of random weights by name; those of speech hear 8 kHz."""
    directory = tmp_path_factory.mktemp("models")
    return {
        name: save_model(directory / name, task, attention)
        for name, (task, attention) in KINDS.items()
    }


@pytest.fixture
def recording(tmp_path):
    random = np.random.default_rng(0)
    samples = 0.3 * np.sin(np.arange(12_000) * 0.3) + random.normal(0, 0.05, 12_000)
    path = tmp_path / "speech.wav"
    soundfile.write(path, samples, 8000)
    return path


@pytest.fixture(scope="module")
def page_of_speech(models, tmp_path_factory):
    """The URL of a page with models of three tasks that takes 1 MB, and what it connected to."""
    argv = [f"--model={models[name]}" for name in HEARING]
    directory = tmp_path_factory.mktemp("speech")
    with served(directory, *argv, "--device=cpu", "--largest_mb=1") as found:
        yield found


def cost(page, row):
    """Return the numbers of a row of the table of costs, one a model."""
    cells = page.locator("#answers tr", has_text=row).locator("td").all_inner_texts()
    return [float(cell.split()[0].replace(",", "")) for cell in cells]


@in_browser
@pytest.mark.browser
def test_a_recording_is_heard_by_models_of_all_tasks_side_by_side(
    models, recording, page_of_speech
):
    url, connections = page_of_speech
    with opened(url) as (page, asked):
        page.locator("input[type=file]").first.set_input_files(recording)
        page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.wait_for()
        page.get_by_role("spinbutton").first.fill("3")
        page.locator("#run").click()
        page.locator("#answers table.costs").wait_for()
        names = page.locator("#answers h3").all_inner_texts()
        assert names == ["mha: mha", "mtla s=2: mtla", "mtla s=2: st", "gqa: slu"]
        texts = page.locator("#answers .text").all_inner_texts()
        given = {"options": {"beam_size": 3}, "device": "cpu"}
        alone = [
            next(
                decode_recordings(
                    KINDS[name][0], models[name], [recording],
                    times=None if name == "st" else "word", **given,
                )
            )
            for name in HEARING
        ]  # fmt: skip
        assert [text.strip() for text in texts] == [piece.text for piece in alone]
        page.get_by_text("This model does not tell when words are spoken.").wait_for()
        words = page.locator("#answers .word")
        timed = [word for piece in alone for word in piece.times or ()]
        assert words.all_inner_texts() == [word.text for word in timed]
        starts = [float(word.get_attribute("data-start")) for word in words.all()]
        assert starts == pytest.approx([word.start_s for word in timed], abs=1e-3)
        mha, mtla, *_ = cost(page, "key/value cache")
        assert mha > mtla > 0
        assert [url for url in asked if not LOCAL.match(url)] == []
        assert len(asked) > 5
        assert [line for line in connections.read_text().splitlines() if is_elsewhere(line)] == []


@in_browser
@pytest.mark.browser
def test_the_microphone_is_recorded_and_heard(recording, page_of_speech):
    url, _ = page_of_speech
    microphone = [
        "--use-fake-ui-for-media-stream",  # which would ask for permission
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={recording}",  # over and over
    ]
    with opened(url, *microphone) as (page, _):
        page.get_by_label("Record audio").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.get_by_text(re.compile(r"^(?!0:0[01]$)\d+:\d\d$")).first.wait_for()  # two seconds
        page.get_by_role("button", name="Stop", exact=True).first.click()
        page.locator("a[download]").first.wait_for()  # the page has it
        page.locator("#run").click()
        page.locator("#answers table.costs").wait_for()
        assert page.locator("#answers .text").count() == len(HEARING)
        assert page.locator("#answers tr", has_text="s of audio").count() == 1
        (length_s,) = re.findall(r"/ ([\d.]+) s of audio", page.locator("#answers").inner_text())
        assert float(length_s) > 0.5
        drawn = page.locator("#answers svg path").first.get_attribute("d")
        extents = [
            float(low) - float(high) for high, low in re.findall(r" ([\d.]+)V([\d.]+)", drawn)
        ]
        assert max(extents) > 30  # half of the picture: it is not silent


@in_browser
@pytest.mark.browser
def test_a_large_recording_is_refused_by_the_page(page_of_speech, tmp_path):
    url, _ = page_of_speech
    soundfile.write(tmp_path / "large.wav", np.zeros(1_000_000), 8000)
    with opened(url) as (page, _):
        page.locator("input[type=file]").first.set_input_files(tmp_path / "large.wav")
        page.get_by_text(re.compile("exceeds|maximum", re.IGNORECASE)).first.wait_for()
        page.locator("#run").click()
        page.get_by_text("Record or upload something.").wait_for()


@pytest.fixture(scope="module")
def page_of_text(models, tmp_path_factory):
    """The URL of a page that takes uploads of 1 MB."""
    argv = ["--model", str(models["sum"]), "--device", "cpu", "--largest_mb", "1"]
    with served(tmp_path_factory.mktemp("text"), *argv) as (url, _):
        yield url


@in_browser
@pytest.mark.browser
def test_a_text_is_summarised_and_mistakes_are_told(page_of_text):
    with opened(page_of_text) as (page, _):
        page.locator("#run").click()
        page.get_by_text("Write a text.").wait_for()
        page.locator("#text textarea").fill("lm nop <b>q</b>")
        page.get_by_role("spinbutton").first.fill("2")
        page.locator("#run").click()
        page.locator("#answers table.costs").wait_for()
        assert page.locator("#answers h3").inner_text() == "mla: sum"
        assert page.locator("#answers .text").inner_text() != ""
        page.get_by_label("mla: sum").uncheck()
        page.locator("#run").click()
        page.get_by_text("Choose a model.").wait_for()


def test_a_large_upload_and_names_of_other_pages_are_refused(page_of_text):
    address = page_of_text.removeprefix("http://").rstrip("/")

    def ask(method, path, body=None, **headers):
        connection = http.client.HTTPConnection(address, timeout=300)
        connection.request(method, path, body, headers)
        return connection.getresponse().status

    def upload(size):
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
        body += bytes(size) + b"\r\n--x--\r\n"
        kind = "multipart/form-data; boundary=x"
        return ask("POST", "/gradio_api/upload", body, **{"Content-Type": kind})

    assert ask("GET", "/") == 200
    assert ask("GET", "/", Host="elsewhere.example") == 400
    assert upload(1000) == 200
    assert upload(2_000_000) == 413
    assert ask("GET", "/gradio_api/file=/etc/hostname") in (403, 404)


def test_mistakes_are_one_line(models, tmp_path, capsys):
    def told(*argv):
        assert main(["demo", *map(str, argv)]) in (1, 2)
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "no directory or zip file" in told("--model", tmp_path / "none", "--port", 0)
    assert "--largest_mb is 1 or more" in told("--model", "m", "--largest_mb", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: Address already in use" in told("--model", "m", "--port", port)
    both = ["--model", models["mha"], "--model", models["sum"], "--device", "cpu", "--port", 0]
    assert "reads, and" in told(*both)
