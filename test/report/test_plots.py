import dataclasses
import struct

import matplotlib.image

from mtla_espnet.report.plots import Panel, plot_trade_offs


def panel(x, y, kinds=("mha", "mtla")):
    return Panel("set", "time (s)", "WER (%)", kinds, ("", "2"), x, y)


def size_of(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_three_panels_fill_a_row(tmp_path):
    sizes = []
    for n_panels in (1, 3, 4, 7):
        path = tmp_path / f"{n_panels}.png"
        plot_trade_offs([panel([1, 2], [30, 20])] * n_panels, path)
        sizes.append(size_of(path))
    assert sizes[0] == sizes[1]
    assert {width for width, _ in sizes} == {sizes[0][0]}
    row = sizes[2][1] - sizes[1][1]
    assert row > 0 and sizes[3][1] - sizes[2][1] == row


def test_each_kind_has_its_colour_and_a_missing_value_no_point(tmp_path):
    def pixels(x, y):
        path = tmp_path / "plot.png"
        plot_trade_offs([panel(x, y)], path)
        image = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
        blue, red = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
        return [int((image == colour).all(axis=-1).sum()) for colour in (blue, red)]

    in_legend = pixels([None, 2], [30, None])
    assert min(in_legend) > 50
    both = pixels([1, 2], [30, 20])
    assert both[0] > 2 * in_legend[0] and both[1] > 2 * in_legend[1]
    assert pixels([1, None], [30, 20]) == [both[0], in_legend[1]]


def test_the_same_bytes_twice(tmp_path):
    for name in ("a.png", "b.png"):
        plot_trade_offs([panel([1, 2], [30, 20])], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_long_title_stays_above_its_panel(tmp_path):
    plot_trade_offs(
        [dataclasses.replace(panel([1, 2], [30, 20]), title="x" * 150)], tmp_path / "p.png"
    )
    image = matplotlib.image.imread(tmp_path / "p.png")[..., :3]
    assert (image[:, :3] == 1).all()  # the left edge
    beside_panel = image[:60, image.shape[1] * 2 // 5 :]
    assert (beside_panel == 1).all()
