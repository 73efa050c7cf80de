"""What half precision changes of a trained model's results: word errors and texts, by dtype.

    python bench/decode_dtypes.py CONFIG MODEL DATA [--dtypes float32 bfloat16] [--device cuda]

CONFIG is the `config.yaml` and MODEL the parameters of a model of speech recognition, DATA a
formatted set with `text`; to be run in the recipe's directory, as paths in CONFIG are relative to
it. Each dtype decodes the set as stage 12 does, by the options of `--beam_size` and
`--ctc_weights`. *changed* counts the utterances whose text differs from that of the first dtype.
"""

import argparse
import tempfile
from pathlib import Path

from mtla_espnet.data.kaldi.tables import read_table
from mtla_espnet.inference.decode import decode
from mtla_espnet.score.align import Counts, align, count


def error_percent(references: dict[str, str], texts: dict[str, str]) -> float:
    """Return the word error rate."""
    total = Counts()
    for key, text in texts.items():
        total += count(align(references[key].split(), text.split()))
    return 100 * total.errors / total.reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--ctc_weights", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--beam_size", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    references = read_table(args.data / "text")
    print("ctc  dtype      WER %  changed  decode s")
    for weight in args.ctc_weights:
        first = None
        for dtype in args.dtypes:
            with tempfile.TemporaryDirectory() as output:
                cost, failed = decode(
                    task="asr",
                    train_config=args.config,
                    model_file=args.model,
                    token_list=None,
                    inference_config={
                        "beam_size": args.beam_size, "ctc_weight": weight, "dtype": dtype
                    },
                    data_dir=args.data,
                    keys=None,
                    output_dir=Path(output),
                    batch_size=64,
                    max_memory_bytes=None,
                    ngpu=int(args.device == "cuda"),
                    progress=False,
                )  # fmt: skip
                texts = read_table(Path(output) / "1best_recog/text")
            assert not failed
            first = first or texts
            changed = sum(texts[key] != first[key] for key in texts)
            print(
                f"{weight:.1f}  {dtype:9} {error_percent(references, texts):6.2f} "
                f"{changed:4} of {len(texts):4} {cost['total_s']:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
