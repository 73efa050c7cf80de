"""`python -m mtla_espnet`: the command line, or an ESPnet program with our classes in it.

    python -m mtla_espnet VERB ...
    python -m mtla_espnet -m espnet2.bin.asr_train ARGUMENTS

The second form behaves as `python -m espnet2.bin.asr_train ARGUMENTS` with our classes
registered first, so that a recipe of an ESPnet checkout can be given
`--python "python3 -m mtla_espnet"`.
"""

import importlib.util
import runpy
import sys

from mtla_espnet import missing_recipes

# Programs of ESPnet that load no model, and so none of our classes: registration costs ten
# seconds, and a recipe's scoring alone calls tokenize_text six times a set.
WITHOUT_MODELS = frozenset(
    f"espnet2.bin.{name}"
    for name in ("aggregate_stats_dirs", "launch", "split_scps", "tokenize_text")
)


def _run_as_main(module: str, arguments: list[str]) -> None:
    missing = ModuleNotFoundError(name=module)
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:  # its package is missing
        found, missing = None, error
    if found is None:
        advice = missing_recipes(missing)
        told = f"{module} {advice}" if advice else f"no module named {module}"
        sys.exit(f"error: {told}")
    # Local imports, here and below: each form takes only the start-up time that it needs.
    if module not in WITHOUT_MODELS:
        import mtla_espnet.tasks  # noqa: F401  (registers)

    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> int | None:
    """Run what the command line asks for; returns the exit code."""
    if sys.argv[1:2] == ["-m"]:
        if len(sys.argv) == 2:
            sys.exit("error: -m needs the name of a module, such as espnet2.bin.asr_train")
        return _run_as_main(sys.argv[2], sys.argv[3:])
    from mtla_espnet import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
