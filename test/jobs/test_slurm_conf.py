import pytest

from mtla_espnet.files import UserError
from mtla_espnet.jobs.slurm_conf import SlurmConf, read_slurm_conf

# As ESPnet's recipes have it.
ESPNET = """# Default configuration
command sbatch --export=PATH
option name=* --job-name $0
option time=* --time $0
option mem=* --mem-per-cpu $0
option mem=0
option num_threads=* --cpus-per-task $0
option num_threads=1 --cpus-per-task 1
option num_nodes=* --nodes $0
default gpu=0
option gpu=0 -p cpu
option gpu=* -p gpu --gres=gpu:$0 -c $0  # Recommend allocating more CPU than, or equal to GPU
# note: the --max-jobs-run option is supported as a special case
"""


def read(tmp_path, text):
    path = tmp_path / "slurm.conf"
    path.write_text(text)
    return read_slurm_conf(path)


def test_an_espnet_users_file(tmp_path):
    conf = read(tmp_path, ESPNET)
    assert conf.words(name="a", num_nodes=2, gpu=4) == (
        "sbatch --export=PATH -p gpu --gres=gpu:4 -c 4 --job-name a --nodes 2".split()
    )
    assert conf.words(name="a", num_nodes=1) == (
        "sbatch --export=PATH -p cpu --job-name a --nodes 1".split()
    )
    assert conf.words(num_threads=1)[-2:] == ["--cpus-per-task", "1"]
    assert conf.words(mem=0) == "sbatch --export=PATH -p cpu".split()


def test_an_exact_value_goes_before_any_wherever_it_stands(tmp_path):
    for lines in (
        ["option gpu=0 -p a", "option gpu=* -p b"],
        ["option gpu=* -p b", "option gpu=0 -p a"],
    ):
        conf = read(tmp_path, "\n".join(lines))
        assert conf.words(gpu=0) == ["sbatch", "-p", "a"]
        assert conf.words(gpu=1) == ["sbatch", "-p", "b"]


def test_what_the_file_does_not_say_is_built_in(tmp_path):
    conf = read(tmp_path, "command /opt/slurm/bin/sbatch --account=x\n")
    assert conf.words(num_nodes=2, gpu=0) == "/opt/slurm/bin/sbatch --account=x --nodes 2".split()
    assert read_slurm_conf(tmp_path / "none") == SlurmConf()


@pytest.mark.parametrize(
    "line",
    ["options gpu=0", "option gpu", "option", "command qsub", "default gpu", "default a=1 b"],
)
def test_a_line_that_is_none_of_these_is_told(tmp_path, line):
    with pytest.raises(UserError, match=r"slurm.conf:2: cannot be read: '"):
        read(tmp_path, f"# first\n{line}\n")


def test_words_that_no_shell_takes(tmp_path):
    with pytest.raises(UserError, match="slurm.conf:1: not words of a shell: No closing quotation"):
        read(tmp_path, "option gpu=0 '-p\n")
