"""Upstreams of S3PRL as front ends (YAML `frontend: s3prl`): any that `espnet-s3prl` knows.

It takes the options of ESPnet's front end of this name and gives the same features, with what
that lacks: the upstream is frozen unless asked otherwise, may compute in bfloat16, and an
utterance's features do not depend on its batch. S3PRL itself repeats the batch's last frame
and, where an upstream normalises over time, counts the padding; so utterances pass it in
groups of equal length, unless `batching: padded` asks for whole batches with masks, which are
faster on a GPU. ESPnet's parameter names are kept: `upstream.*`, `featurizer.weights`.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from mtla_espnet.config import check_keys, nearest
from mtla_espnet.files import UserError, check_file
from mtla_espnet.frontend.pretrained import RATE_HZ, Layers, LayerSum, PretrainedFrontend
from mtla_espnet.trust import nothing_runs

BATCHING = ("exact", "padded")
_UPSTREAM_KEYS = ("upstream", "path_or_url", "normalize", "extra_conf", "tile_factor")
_LOCAL = "_local"  # ends the names of upstreams that are given a checkpoint
# S3PRL fails on some audio below this (65 ms): silence is put after it.
_SHORTEST_SAMPLES = 1040


class S3prlFrontend(PretrainedFrontend):
    """An upstream of S3PRL.

    Args:
        fs: sampling rate, 16 kHz.
        frontend_conf: as in ESPnet: `upstream` (a name of S3PRL, such as `wavlm_large`, or
            `wavlm_local` with `path_or_url`), `path_or_url` (a checkpoint), `normalize`
            (LayerNorm of each layer), `extra_conf` (for the upstream), `tile_factor` (times
            that each frame is repeated).
        download_dir: where S3PRL keeps checkpoints.
        multilayer_feature: the weighted sum of all layers; else the last layer.
        layer: take this layer alone; -1: as `multilayer_feature` says.
        freeze: the upstream does not learn.
        dtype: precision of the upstream, `float32` or `bfloat16`.
        batching: `exact`: utterances of one length together, so that padding changes nothing;
            `padded`: the batch as it is.

    Raises:
        UserError: S3PRL is not installed, an option is wrong, or the checkpoint cannot be
            loaded or fetched.
    """

    def __init__(
        self,
        fs: int | str = RATE_HZ,
        frontend_conf: dict | None = None,
        download_dir: str | None = None,
        multilayer_feature: bool = False,
        layer: int = -1,
        freeze: bool = True,
        dtype: str = "float32",
        batching: str = "exact",
    ):
        super().__init__(fs, freeze, dtype)
        self._options = dict(frontend_conf or {})
        check_keys(self._options, _UPSTREAM_KEYS, "frontend_conf", "frontend_conf")
        if batching not in BATCHING:
            raise UserError(f"frontend_conf.batching must be exact or padded, not {batching!r}")
        if layer != -1 and multilayer_feature:
            raise UserError(
                f"frontend_conf: layer {layer} is one layer, multilayer_feature the sum of all: "
                "give one of them"
            )
        self.batching = batching
        self.tile_factor = int(self._options.get("tile_factor") or 1)
        self._download_dir = download_dir
        self.upstream = load_upstream(self._options, download_dir)
        sizes, rates = set(self.upstream.hidden_sizes), set(self.upstream.downsample_rates)
        if len(sizes) > 1 or len(rates) > 1:
            raise UserError(
                f"frontend_conf.upstream: {self._options['upstream']}: its layers differ in width "
                f"{sorted(sizes)} or rate {sorted(rates)}, and have no sum"
            )
        one = None if multilayer_feature else layer
        self.featurizer = LayerSum(self.upstream.num_layers, one)
        self.hop_length = rates.pop()
        self._finish(self.upstream)

    @property
    def encoder_module(self) -> torch.nn.Module:
        """The upstream."""
        return self.upstream

    @property
    def layer_sum(self) -> LayerSum:
        """The sum of its layers."""
        return self.featurizer

    def output_size(self) -> int:
        """Return the upstream's width."""
        return self.upstream.hidden_sizes[0]

    def run_encoder(self, speech: Tensor, lengths: Tensor) -> Layers:
        """Encode (B, T) padded samples of (B,) lengths; return every layer's output, and frames."""
        if self.batching == "padded":
            states, frames = self.upstream(speech, lengths)
            return self._tiled(states, frames[0].to(torch.int64))
        frames = torch.zeros_like(lengths)
        groups = []
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().flatten()
            taken = max(length, _SHORTEST_SAMPLES)
            same = pad(speech[rows, :length], (0, taken - length))
            found, _ = self.upstream(same, torch.full_like(rows, taken))
            n_frames = (length - 1) // self.hop_length + 1  # as S3PRL counts
            frames[rows] = n_frames
            groups.append((rows, [state[:, :n_frames] for state in found]))
        longest = int(frames.max())
        order = torch.cat([rows for rows, _ in groups]).argsort()
        states = []
        for i in range(self.upstream.num_layers):
            padded = [pad(found[i], (0, 0, 0, longest - found[i].size(1))) for _, found in groups]
            states.append(torch.cat(padded)[order])
        return self._tiled(states, frames)

    def _tiled(self, states, frames: Tensor) -> Layers:
        if self.tile_factor == 1:
            return Layers(states, frames)
        tiled = [state.repeat_interleave(self.tile_factor, dim=1) for state in states]
        return Layers(tiled, frames * self.tile_factor)

    def reload_pretrained_parameters(self) -> None:
        """Read the upstream's weights again: ESPnet calls it after its own initialisation."""
        fresh = load_upstream(self._options, self._download_dir)
        self.upstream.load_state_dict(fresh.state_dict())


def load_upstream(options: dict, download_dir: str | None = None) -> torch.nn.Module:
    """Load an upstream.

    Args:
        options: ESPnet's `frontend_conf` of the front end.
        download_dir: where S3PRL keeps checkpoints.

    Returns:
        S3PRL's `S3PRLUpstream`, whose gradients are not scaled down.

    Raises:
        UserError: S3PRL is not installed, an option is wrong, or the checkpoint cannot be loaded
            or fetched, or would run code.
    """
    try:
        import s3prl.util.download
        from s3prl.nn import S3PRLUpstream
    except ImportError:
        raise UserError("frontend s3prl: pip install espnet-s3prl") from None
    if download_dir is not None:
        s3prl.util.download.set_dir(download_dir)
    name = options.get("upstream")
    names = S3PRLUpstream.available_names()
    if name not in names:
        raise UserError(f"frontend_conf.upstream: unknown {name!r} {nearest(str(name), names)}")
    path = options.get("path_or_url")
    is_url = path is not None and str(path).startswith(("http://", "https://"))
    if path is not None and not is_url and not os.path.exists(path):
        raise UserError(f"frontend_conf.path_or_url: {path}: no such file")
    if path is not None and not is_url and not os.path.isdir(path):
        check_file(path)
    if path is None and name.endswith((_LOCAL, "_url", "_custom")):
        raise UserError(f"frontend_conf.upstream: {name} needs path_or_url, its checkpoint")
    cache = s3prl.util.download.get_dir()
    source = path if path is not None and not is_url else f"frontend_conf.upstream: {name}"
    try:
        with _one_try(), nothing_runs(source):
            upstream = S3PRLUpstream(
                name,
                path_or_url=None if path is None else str(path),
                normalize=bool(options.get("normalize", False)),
                extra_conf=options.get("extra_conf"),
            )
    except UserError:
        raise
    except Exception as error:  # upstreams raise anything: what they say goes to the user
        raise _not_loaded(name, path if not is_url else None, cache, names, error) from None
    model = getattr(upstream.upstream, "model", None)
    if getattr(model, "feature_grad_mult", None) is not None:
        model.feature_grad_mult = 1.0
    return upstream


def _not_loaded(name: str, path, cache: Path, names: list[str], error: Exception) -> UserError:
    lines = str(error).strip().splitlines() or [""]
    reason = f"{type(error).__name__}: {lines[0]}"
    if path is not None:
        return UserError(f"frontend_conf.path_or_url: {path}: not a checkpoint of {name}: {reason}")
    families = [each for each in names if each.endswith(_LOCAL)]
    fitting = [each for each in families if name.startswith(each.removesuffix(_LOCAL))]
    local = max(fitting, key=len, default=f"<family>{_LOCAL}")
    return UserError(
        f"frontend_conf.upstream: {name} is not in {cache} and cannot be fetched: give its "
        f"checkpoint as frontend_conf: {{upstream: {local}, path_or_url: FILE}} ({reason})"
    )


@contextlib.contextmanager
def _one_try() -> Iterator[None]:
    """Keep S3PRL's own reports of a failed download out of the output."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
