import struct

import matplotlib.image
import pytest

from mtla_espnet.report.plots import Panel, Point, plot_trade_offs


def panel(points, **options):
    values = {"title": "set", "x_label": "time (s)", "y_label": "WER (%)", "lower_is_better": True}
    return Panel(**values | options, points=points)


def points(*values, kinds=("mha", "mtla s=2")):
    return [Point(kind, "", (x,), (y,)) for kind, (x, y) in zip(kinds, values, strict=False)]


def size_of(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


def pixels(path, panels):
    plot_trade_offs(panels, path)
    image = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
    blue, red = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    # drawn a little transparent on white
    return [
        int((abs(image - [round(0.85 * c + 0.15 * 255) for c in colour]) < 3).all(axis=-1).sum())
        for colour in (blue, red)
    ]


def test_three_panels_fill_a_row(tmp_path):
    sizes = []
    for n_panels in (1, 3, 4, 7):
        path = tmp_path / f"{n_panels}.png"
        plot_trade_offs([panel(points((1, 30), (2, 20)))] * n_panels, path)
        sizes.append(size_of(path))
    assert sizes[0] == sizes[1]
    assert {width for width, _ in sizes} == {sizes[0][0]}
    row = sizes[2][1] - sizes[1][1]
    assert row > 0 and sizes[3][1] - sizes[2][1] == row


def test_each_kind_has_its_colour_in_all_panels(tmp_path):
    both = points((1, 30), (2, 20))
    one, other = pixels(tmp_path / "p.png", [panel(both)])
    assert min(one, other) > 50
    without = pixels(tmp_path / "p.png", [panel(both), panel(both[1:])])
    assert without == pytest.approx([one, 2 * other], rel=0.2)


def test_what_was_not_measured_is_told(tmp_path):
    plot_trade_offs([panel([])], tmp_path / "p.png")
    assert size_of(tmp_path / "p.png")


def test_the_frontier_follows_the_direction_of_the_measure():
    models = points((1, 5), (2, 9), (3, 7), kinds="abc")
    assert panel(models).frontier == [(1, 5)]
    assert panel(models, lower_is_better=False).frontier == [(1, 5), (2, 9)]
    assert panel([]).frontier == []


def test_seeds_are_one_point_with_a_spread():
    point = Point("mha", "", (1.0, 3.0), (10.0, 10.0))
    assert point.mean == (2.0, 10.0)
    assert point.deviation == (pytest.approx(2**0.5), 0.0)
    assert Point("mha", "", (1.0,), (10.0,)).deviation == (0.0, 0.0)


def test_the_axes_hold_seeds_and_error_bars():
    point = Point("mla", "", (3.0, 3.0), (2.0, 4.0))
    least, most = 3 - 2**0.5, 3 + 2**0.5
    assert point.extent(0) == [3.0] * 4
    assert point.extent(1) == [2.0, 4.0, pytest.approx(least), pytest.approx(most)]


def test_a_configuration_has_a_shape(tmp_path):
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    values = ((1.0,), (30.0,)), ((1.0,), (30.0,))
    for path, names in zip(paths, [("", ""), ("fbank", "whisper")], strict=True):
        both = [Point("mha", name, *each) for name, each in zip(names, values, strict=True)]
        plot_trade_offs([panel(both)], path)
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_the_same_bytes_twice(tmp_path):
    for name in ("a.png", "b.png"):
        plot_trade_offs([panel(points((1, 30), (2, 20)))], tmp_path / name, "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_long_title_stays_above_its_panel(tmp_path):
    plot_trade_offs([panel(points((1, 30), (2, 20)), title="x" * 150)], tmp_path / "p.png")
    image = matplotlib.image.imread(tmp_path / "p.png")[..., :3]
    assert (image[:, :3] == 1).all()  # the left edge
    beside_panel = image[:60, image.shape[1] * 2 // 5 :]
    assert (beside_panel == 1).all()
