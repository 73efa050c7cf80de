from mtla_espnet.report.curves import learning_curves

LINE = (
    "[vm] 2026-11-29 07:28:43,604 (trainer:392) INFO: {epoch}epoch results: [train] "
    "inputs=9.8e+05, iter_time=0.042, acc=0.223, loss=50.367, time=48.38 seconds, "
    "total_count=100, [valid] loss_ctc=45.315, acc={acc}, loss={loss}, time=1.28 seconds, "
    "total_count=6"
)


def test_the_log_of_espnets_trainer(tmp_path):
    lines = [
        LINE.format(epoch=2, acc=0.5, loss="1.5e+01"),
        "something else",
        LINE.format(epoch=1, acc=0.25, loss=-30.5) + ", [att_plot] time=1.9 seconds, total_count=0",
        LINE.format(epoch=2, acc=0.75, loss=14),
    ]
    (tmp_path / "train.log").write_text("\n".join(lines))
    curves = learning_curves(tmp_path)
    assert curves["acc"] == {1: 0.25, 2: 0.75}  # of an epoch that was trained twice, the later
    assert curves["loss"] == {1: -30.5, 2: 14.0}
    assert curves["loss_ctc"] == {1: 45.315, 2: 45.315}
    assert list(curves["acc"]) == [1, 2]


def test_no_log(tmp_path):
    assert learning_curves(tmp_path) == {}
    (tmp_path / "train.log").touch()
    assert learning_curves(tmp_path) == {}
