"""Draw the figures of docs/architecture.md: `python docs/figures/draw.py`.

The SVG files hold text as text and no date: the same version of matplotlib writes the same
bytes.
"""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

HERE = Path(__file__).parent
# Colours of the parts: files, model, search, results.
FILES, MODEL, SEARCH, RESULTS = "#e8eef7", "#e6f2e6", "#fdf0e0", "#f3e8f3"
INK, FAINT, SHAPE = "#222222", "#8a8a8a", "#1f4e8c"
CHUNKS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")


def box(axes, x, y, width, height, title, detail, colour):
    """Draw a named box whose lower left corner is (x, y)."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=colour, edgecolor=INK, linewidth=0.8,
        )
    )  # fmt: skip
    middle = x + width / 2
    axes.text(
        middle, y + 0.66 * height, title, ha="center", va="center", fontsize=10, weight="bold"
    )
    axes.text(middle, y + 0.28 * height, detail, ha="center", va="center", fontsize=7.5, color=INK)


def arrow(axes, start, end, label="", above=0.12, bend=0.0):
    """Draw an arrow with the shape of what flows along it."""
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={
            "arrowstyle": "-|>", "color": INK, "linewidth": 0.9,
            "connectionstyle": f"arc3,rad={bend}", "shrinkA": 0, "shrinkB": 0,
        },
    )  # fmt: skip
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    axes.text(x, y + above, label, ha="center", va="bottom", fontsize=7.5, color=SHAPE)


def canvas(width, height):
    """Return a figure whose unit is a third of an inch or so, without axes."""
    figure, axes = plt.subplots(figsize=(width * 0.72, height * 0.72))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axes


def data_flow():
    """From a corpus to a report, with a shape on every arrow."""
    figure, axes = canvas(15.6, 6.6)
    wide, high = 2.1, 1.0
    columns = [0.2, 3.4, 6.6, 9.8, 13.3]
    top, middle, low = 5.2, 2.9, 0.4

    def row(y, boxes):
        for x, (title, detail, colour) in zip(columns, boxes, strict=False):
            box(axes, x, y, wide, high, title, detail, colour)

    row(
        top,
        [
            ("corpus", "raw layout", FILES),
            ("data directory", "wav.scp, text, utt2spk", FILES),
            ("dump", "an utterance a file", FILES),
            ("features", "Fbank, S3PRL, ...", MODEL),
            ("encoder", "Conv1d, blocks", MODEL),
        ],
    )
    for index, label in enumerate(["files", "segments", "(samples,)", "(B, T, 80)"]):
        x = columns[index] + wide
        arrow(axes, (x, top + high / 2), (columns[index + 1], top + high / 2), label)
    row(
        middle,
        [
            ("loss", "attention, CTC", RESULTS),
            ("decoder blocks", "causal self-attention", MODEL),
            ("[prefix ; text]", "true positions", MODEL),
            ("embedding", "of the text", MODEL),
            ("prefix", "stride, projector", MODEL),
        ],
    )
    arrow(axes, (columns[4] + wide / 2, top), (columns[4] + wide / 2, middle + high), "", 0)
    axes.text(columns[4] + wide / 2 + 0.1, 4.55, "(B, P, d)", fontsize=7.5, color=SHAPE)
    arrow(
        axes, (columns[4] + wide / 2, middle), (columns[2] + wide / 2, middle), "", bend=-0.28
    )  # fmt: skip
    axes.text(10.9, 2.22, "(B, P, d)", ha="center", fontsize=7.5, color=SHAPE)
    half = middle + high / 2
    arrow(axes, (columns[3], half), (columns[2] + wide, half), "(B, L, d)")
    arrow(axes, (columns[2], half), (columns[1] + wide, half), "(B, P + L, d)")
    arrow(axes, (columns[1], half), (columns[0] + wide, half), "(B, L, V)")
    axes.text(columns[0], middle + high + 0.12, "training", fontsize=9, style="italic", color=FAINT)
    row(
        low,
        [
            ("report", "tables, plots", RESULTS),
            ("score", "WER, BLEU, ROUGE", RESULTS),
            ("search", "beams of B utterances", SEARCH),
            ("step", "one new position", SEARCH),
            ("cache", "prefix once, suffix N", SEARCH),
        ],
    )
    half = low + high / 2
    arrow(
        axes, (columns[4] + wide / 2 + 0.6, middle), (columns[4] + wide / 2 + 0.6, low + high), ""
    )
    axes.text(columns[4] + wide / 2 + 0.7, 2.05, "slots", fontsize=7.5, color=SHAPE)
    arrow(axes, (columns[4], half + 0.18), (columns[3] + wide, half + 0.18), "(B, P/s, width)", 0.1)
    arrow(axes, (columns[3] + wide, half - 0.18), (columns[4], half - 0.18), "", 0)
    axes.text((columns[3] + wide + columns[4]) / 2, half - 0.5, "(N, 1, width)", ha="center",
              fontsize=7.5, color=SHAPE)  # fmt: skip
    arrow(axes, (columns[3], half + 0.18), (columns[2] + wide, half + 0.18), "(N, V)", 0.1)
    arrow(axes, (columns[2] + wide, half - 0.18), (columns[3], half - 0.18), "", 0)
    axes.text((columns[2] + wide + columns[3]) / 2, half - 0.5, "(N,) tokens", ha="center",
              fontsize=7.5, color=SHAPE)  # fmt: skip
    arrow(axes, (columns[2], half), (columns[1] + wide, half), "text")
    arrow(axes, (columns[1], half), (columns[0] + wide, half), "result files")
    axes.text(columns[2], low + high + 0.12, "decoding", fontsize=9, style="italic", color=FAINT)
    save(figure, "data_flow")


def temporal_latent(rate=3, positions=11):
    """MTLA: chunks, partial sums, and what one query sees."""
    figure, axes = canvas(14.0, 6.0)
    size, left = 0.82, 2.6
    query = 7

    def x_of(position):
        return left + position * (size + 0.12)

    rows = {"latent": 4.75, "partial": 3.2, "cache": 1.65}
    names = {
        "latent": "weighted latents  $w_i c_i$",
        "partial": "partial sums  $p_i$",
        "cache": "slots of the cache",
    }
    for name, y in rows.items():
        axes.text(left - 0.2, y + size / 2, names[name], ha="right", va="center", fontsize=9)
    line = {"edgecolor": INK, "linewidth": 0.6}
    for i in range(positions):
        chunk, place = divmod(i, rate)
        colour = CHUNKS[chunk % len(CHUNKS)]
        x = x_of(i)
        middle = x + size / 2

        def write(y, text, size=7.5, colour=INK, at=middle):
            axes.text(at, y, text, ha="center", va="center", fontsize=size, color=colour)

        def square(y, height, strength, corner=x, colour=colour):
            patch = Rectangle((corner, y), size, height, facecolor=colour, alpha=strength, **line)
            axes.add_patch(patch)

        write(rows["latent"] + size + 0.2, f"{i}", 8, FAINT)
        square(rows["latent"], size, 0.25)
        write(rows["latent"] + size / 2, f"$w_{{{i}}} c_{{{i}}}$")
        square(rows["partial"], size * (place + 1) / rate, 0.25 + 0.55 * (place + 1) / rate)
        write(rows["partial"] - 0.2, f"{i - place}..{i}" if place else f"{i}", 7, FAINT)
        if place == rate - 1:
            square(rows["cache"], size, 0.8)
            write(rows["cache"] + size / 2, f"chunk {chunk}", 7)
            arrow(axes, (middle, rows["partial"] - 0.32), (middle, rows["cache"] + size))
    at = x_of(query) + size / 2
    axes.text(at, 0.35, f"query {query}", ha="center", va="center", fontsize=9, weight="bold")
    for i in range(rate - 1, query // rate * rate, rate):
        arrow(axes, (at - 0.25, 0.58), (x_of(i) + size / 2, rows["cache"] - 0.02))
    arrow(axes, (at, 0.6), (at, rows["partial"] - 0.34))
    axes.text(
        left - 2.4, 0.35, f"s = {rate}: a query sees the finished chunks before its own\n"
        "and the partial sum of its own chunk", fontsize=8.5, va="center",
    )  # fmt: skip
    save(figure, "mtla")


def save(figure, name):
    """Write a figure as SVG."""
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


if __name__ == "__main__":
    plt.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "mtla_espnet", "font.family": "DejaVu Sans"}
    )
    data_flow()
    temporal_latent()
