"""Execute notebooks/mtla.ipynb and keep its outputs in it.

usage: .venv/bin/python tools/run_notebook.py
"""

import os
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

CHECKOUT = Path(__file__).resolve().parents[1]
NOTEBOOK = CHECKOUT / "notebooks/mtla.ipynb"
_LONGEST_CELL_S = 1800


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of its cells, which say nothing of the machine.

    It runs on one core, in a kernel that talks over sockets in a directory of its own.

    Args:
        path: of the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as directory:
        at = Path(directory)
        kernel = AsyncKernelManager(
            kernel_name="python3",
            transport="ipc",
            ip=str(at / "ipc"),
            connection_file=str(at / "kernel.json"),
        )
        places = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")
        environment = {
            **os.environ,
            **dict.fromkeys(places, directory),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
        }
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=_LONGEST_CELL_S,
            startup_timeout=600,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": directory}},
        )
        client.execute(env=environment)
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(NOTEBOOK), NOTEBOOK)
