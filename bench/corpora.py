"""Stage 1 of the paper's corpora on raw trees of any size: time and memory.

Makes a raw tree of each layout with random words and audio that is next to nothing (sparse files,
or a tenth of a second), then runs stage 1 of the corpus's recipe on it:

    python bench/corpora.py                      # 100,000 entries of each
    python bench/corpora.py xsum --entries 1000 --directory /disk

Time is that of `./run.sh --stage 1 --stop_stage 1`, with Python's start, and what its processes
had of the CPUs (the two differ where a machine does other things too); the second call finds that
all is done. Memory is the most that the processes of the run held together, looked at every
0.1 s, a shared page counted once (PSS).
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path

import numpy as np
import soundfile

from mtla_espnet.corpora.ami.prepare import PARTITION

CHECKOUT = Path(__file__).resolve().parents[1]
RECIPES = {"ami": "asr1", "must_c": "st1", "slurp": "slu1", "xsum": "sum1"}
RATE_HZ = 16000
INTERVAL_S = 0.1


class Words:
    """Random sentences of 20,000 words, frequent and rare ones."""

    def __init__(self):
        self.random = random.Random(0)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        self.words = [
            "".join(self.random.choices(letters, range(26, 0, -1), k=self.random.randint(1, 10)))
            for _ in range(20000)
        ]
        self.weights = np.cumsum([1 / rank for rank in range(1, 20001)]).tolist()

    def sentence(self, n_words: int) -> str:
        """Return that many words, the first with a capital, with commas and a full stop."""
        words = self.random.choices(self.words, cum_weights=self.weights, k=n_words)
        text = " ".join(f"{word}," if n % 9 == 8 else word for n, word in enumerate(words, 1))
        return text[0].upper() + text[1:].removesuffix(",") + "."


def sparse_wav(path: Path, duration_s: float) -> None:
    """Write a wav file of zeros that takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_bytes = int(duration_s * RATE_HZ) * 2
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE_HZ)
        sound.setnframes(n_bytes // 2)
        sound.writeframesraw(b"")
    header = bytearray(path.read_bytes())
    header[4:8] = (36 + n_bytes).to_bytes(4, "little")
    header[40:44] = n_bytes.to_bytes(4, "little")
    path.write_bytes(header)
    os.truncate(path, len(header) + n_bytes)


def make_ami(root: Path, n_entries: int, words: Words) -> None:
    """Spread utterances of 7 words over 171 meetings of 4 people."""
    annotations = root / "annotations"
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<nite:root xmlns:nite="http://nite">\n'
    for name in ("words", "segments", "corpusResources"):
        (annotations / name).mkdir(parents=True)
    meetings = [name for names in PARTITION.values() for name in names]
    each = -(-n_entries // (4 * len(meetings)))
    listed = []
    for meeting in meetings:
        listed.append(f'<meeting observation="{meeting}">\n')
        for channel, letter in enumerate("ABCD"):
            name = f"{meeting}.{letter}"
            agent = f'nxt_agent="{letter}" channel="{channel}" global_name="FEE00{channel}"'
            listed.append(f"<speaker {agent}/>\n")
            spoken, segments = [head], [head]
            for n in range(each):
                start, first = 2.0 * n, 9 * n
                for k, word in enumerate(re.findall(r"\w+|\.", words.sentence(7))):
                    mark = ' punc="true"' if word == "." else ""
                    at = start + 0.2 * k
                    end = at if mark else at + 0.2
                    times = f'starttime="{at:.2f}" endtime="{end:.2f}"'
                    key = f'nite:id="{name}.words{first + k}"'
                    spoken.append(f"<w {key} {times}{mark}>{word}</w>\n")
                href = f"{name}.words.xml#id({name}.words{first})..id({name}.words{first + 7})"
                times = f'transcriber_start="{start}" transcriber_end="{start + 2}"'
                segments.append(f'<segment nite:id="{name}.s{n}" {times}>')
                segments.append(f'<nite:child href="{href}"/></segment>\n')
            for kind, lines in (("words", spoken), ("segments", segments)):
                text = "".join([*lines, "</nite:root>\n"])
                (annotations / kind / f"{name}.{kind}.xml").write_text(text, encoding="latin-1")
            wav = root / meeting / "audio" / f"{meeting}.Headset-{channel}.wav"
            sparse_wav(wav, 2.0 * each)
        listed.append("</meeting>\n")
    text = "".join([head, *listed, "</nite:root>\n"])
    (annotations / "corpusResources" / "meetings.xml").write_text(text, encoding="latin-1")


def make_must_c(root: Path, n_entries: int, words: Words) -> None:
    """Make talks of 100 segments of 20 words; 97 % of the segments are for training."""
    sizes = {name: max(1, n_entries // 100) for name in ("dev", "tst-COMMON", "tst-HE")}
    sizes["train"] = n_entries - sum(sizes.values())
    talk = 0
    for name, size in sizes.items():
        directory = root / "en-de" / "data" / name
        (directory / "txt").mkdir(parents=True)
        items = []
        for n in range(size):
            if n % 100 == 0:
                talk += 1
                sparse_wav(directory / "wav" / f"ted_{talk}.wav", 600)
            times = f"duration: 5.25, offset: {6.0 * (n % 100) + 0.13:.6f}"
            items.append(
                f"- {{{times}, rW: 20, uW: 0, speaker_id: spk.{talk}, wav: ted_{talk}.wav}}\n"
            )
        (directory / "txt" / f"{name}.yaml").write_text("".join(items))
        for language in ("en", "de"):
            lines = "".join(f"{words.sentence(20)}\n" for _ in range(size))
            (directory / "txt" / f"{name}.{language}").write_text(lines)


def make_slurp(root: Path, n_entries: int, words: Words) -> None:
    """Make sentences of 7 words and 3 recordings of a tenth of a second; 40 % synthetic."""
    lists = root / "dataset" / "slurp"
    lists.mkdir(parents=True)
    tenth = root / "tenth.flac"
    soundfile.write(tenth, np.zeros(RATE_HZ // 10, np.int16), RATE_HZ)
    audio = tenth.read_bytes()
    tenth.unlink()
    shares = {"train": 0.4, "train_synthetic": 0.4, "devel": 0.1, "test": 0.1}
    metadata, recording = {}, 0
    for name, share in shares.items():
        folder = root / "audio" / ("slurp_synth" if name == "train_synthetic" else "slurp_real")
        folder.mkdir(parents=True, exist_ok=True)
        with open(lists / f"{name}.jsonl", "w") as stream:
            for n in range(round(n_entries * share) // 3):
                files = {f"audio-{recording + k}.flac" for k in range(3)}
                recording += 3
                for file in files:
                    (folder / file).write_bytes(audio)
                record = {
                    "slurp_id": recording,
                    "sentence": words.sentence(7),
                    "scenario": f"scenario{n % 18}",
                    "action": f"action{n % 46}",
                    "recordings": [{"file": file, "wer": 0.0} for file in sorted(files)],
                    "tokens": [{"surface": "x", "id": k} for k in range(7)],
                }
                stream.write(f"{json.dumps(record)}\n")
                speaker = f"FE-{100 + n % 170}"
                metadata[str(recording)] = {
                    "recordings": {file: {"usrid": speaker, "status": "ok"} for file in files}
                }
    (lists / "metadata.json").write_text(json.dumps(metadata))


def make_xsum(root: Path, n_entries: int, words: Words) -> None:
    """Make articles of 22 sentences of 20 words with a summary of 23."""
    folder = root / "bbc-summary-data"
    folder.mkdir(parents=True)
    ids = [str(30000000 + n) for n in range(n_entries)]
    for article in ids:
        lines = "\n".join(words.sentence(20) for _ in range(22))
        text = (
            f"[SN]URL[SN]\nhttp://x/{article}\n\n[SN]TITLE[SN]\n{words.sentence(5)}\n\n"
            f"[SN]FIRST-SENTENCE[SN]\n{words.sentence(23)}\n\n"
            f"[SN]RESTBODY[SN]\nShare this with\nEmail\n{lines}\n"
        )
        (folder / f"{article}.summary").write_text(text)
    part = max(1, n_entries // 20)
    split = {"train": ids[2 * part :], "validation": ids[:part], "test": ids[part : 2 * part]}
    (root / "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json").write_text(json.dumps(split))


MAKERS = {"ami": make_ami, "must_c": make_must_c, "slurp": make_slurp, "xsum": make_xsum}


def run_stage_1(corpus: str, raw: Path, work: Path) -> tuple[float, float, float]:
    """Run stage 1 of a copy of the recipe; return seconds, CPU seconds and peak MB (10^6 bytes)."""
    name = f"egs2/{corpus}/{RECIPES[corpus]}"
    for part in ("conf", "egs2/TEMPLATE", name):
        shutil.copytree(CHECKOUT / part, work / part, dirs_exist_ok=True)
    environment = {
        **os.environ,
        "python": sys.executable,
        "PYTHONPATH": str(CHECKOUT),
        corpus.upper(): str(raw),
    }
    argv = ["./run.sh", "--stage", "1", "--stop_stage", "1", "--ngpu", "0"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with subprocess.Popen(
        argv, cwd=work / name, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - start
        watcher.join()
    if code:
        raise SystemExit(f"stage 1 of {name} failed with exit code {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu_s, peak[0] / 1e6


def _watch(process: subprocess.Popen, peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], _session_bytes(process.pid))
        time.sleep(INTERVAL_S)


def _session_bytes(session: int) -> int:
    """Return the proportional set size of all processes of a session."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold blanks: state, parent, group, session.
            if int((path / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            pss = re.search(r"^Pss: +(\d+) kB", (path / "smaps_rollup").read_text(), re.MULTILINE)
            total += int(pss[1]) * 1024 if pss else 0
        except (OSError, ValueError):
            continue  # it has just ended
    return total


def main() -> None:
    """Make the trees, run stage 1 twice each, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="*", default=list(RECIPES), help=" ".join(RECIPES))
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, help="for the trees; default: a temporary one")
    args = parser.parse_args()
    unknown = set(args.corpora) - set(RECIPES)
    if unknown:
        parser.error(f"no such corpus: {', '.join(sorted(unknown))}")
    print("| corpus | entries | stage 1, s | of CPU, s | again, s | peak memory, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    for corpus in args.corpora:
        with tempfile.TemporaryDirectory(dir=args.directory, prefix="corpora.") as directory:
            raw, work = Path(directory) / "raw", Path(directory) / "work"
            raw.mkdir()
            MAKERS[corpus](raw, args.entries, Words())
            seconds, cpu_s, peak = run_stage_1(corpus, raw, work)
            again, *_ = run_stage_1(corpus, raw, work)
            numbers = f"{seconds:.0f} | {cpu_s:.0f} | {again:.1f} | {peak:.0f}"
            print(f"| {corpus} | {args.entries} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
