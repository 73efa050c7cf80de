"""Configurations: lay arguments and an attention over them, refuse unknown keys.

This module knows no option by name: the legal keys are handed in.
"""

import difflib
import shlex
from collections.abc import Iterable, Mapping

from mtla_espnet.files import UserError
from mtla_espnet.yaml_files import check_numbers, parse_yaml


def check_keys(keys: Iterable[str], legal: Iterable[str], source, where: str = "") -> None:
    """Refuse keys that are not legal.

    Args:
        keys: the keys that are given.
        legal: the keys that exist.
        source: the file (or option) that gives them, for the message.
        where: dotted path of the mapping in it; empty at the top.

    Raises:
        UserError: names the first key that is not legal, and the nearest legal one.

    Example:
        >>> check_keys(["optim"], ["optim", "encoder"], "train.yaml")
        >>> check_keys(["optin"], ["optim", "encoder"], "train.yaml")
        Traceback (most recent call last):
        mtla_espnet.user_error.UserError: train.yaml: unknown key 'optin' (nearest: 'optim')
    """
    legal = set(legal)
    for key in keys:
        if key not in legal:
            name = f"{where}.{key}" if where else key
            raise UserError(f"{source}: unknown key {name!r} {nearest(key, legal)}")


def nearest(name: str, legal: Iterable[str]) -> str:
    """Return `(nearest: 'x')`, or all legal names where none is near.

    Near is a name that is spelled nearly so, or begins so.

    Example:
        >>> nearest("mttla", ["mha", "mtla"])
        "(nearest: 'mtla')"
        >>> nearest("stop", ["step", "stop_stage"])
        "(nearest: 'stop_stage')"
        >>> nearest("?", ["mha", "mtla"])
        '(legal: mha, mtla)'
    """
    legal = sorted(legal)
    name = str(name)
    close = difflib.get_close_matches(name, legal, n=1, cutoff=0.8)
    if len(name) > 1:
        close += sorted((each for each in legal if each.startswith(name)), key=len)
    close += difflib.get_close_matches(name, legal, n=1)
    if close:
        return f"(nearest: {close[0]!r})"
    return f"(legal: {', '.join(legal[:40])}{', …' if len(legal) > 40 else ''})"


def check_choices(config: Mapping, choices: Mapping[str, Mapping], source) -> None:
    """Check the classes that a configuration chooses, and their options.

    Args:
        config: key -> name of a class, `<key>_conf` -> its options.
        choices: key -> `default` and `classes`: name of a class -> its options; None: any.
        source: the file or option that holds the configuration, for messages.

    Raises:
        UserError: a class or an option does not exist; names the nearest one.

    Example:
        >>> choices = {"encoder": {"default": "rnn", "classes": {"rnn": ["size"]}}}
        >>> check_choices({"encoder": "rmn"}, choices, "train.yaml")
        Traceback (most recent call last):
        mtla_espnet.user_error.UserError: train.yaml: encoder: unknown 'rmn' (nearest: 'rnn')
    """
    for name, choice in choices.items():
        chosen = config.get(name, choice["default"])
        classes = choice["classes"]
        if chosen is None:
            continue
        if not isinstance(chosen, str) or chosen not in classes:
            raise UserError(f"{source}: {name}: unknown {chosen!r} {nearest(chosen, classes)}")
        conf = config.get(f"{name}_conf") or {}
        if not isinstance(conf, Mapping):
            raise UserError(f"{source}: {name}_conf must hold `key: value` lines, not {conf!r}")
        if classes[chosen] is not None:
            check_keys(conf, classes[chosen], source, f"{name}_conf")


def lay_attention(config: dict, overlay: dict, source) -> dict:
    """Lay an attention overlay over a training configuration.

    The overlay's `decoder_conf.attention` and its whole `attention_conf` take the place
    of the configuration's: options of the attention before do not stay. So does its
    `decoder_conf.prefix_stride`, where it has one.

    Args:
        config: a training configuration; it is not changed.
        overlay: `{decoder_conf: {attention: NAME, attention_conf: {...}}}`.
        source: the overlay's file, for messages.

    Returns:
        A new configuration.

    Raises:
        UserError: the overlay holds anything else, or `config` has no decoder_only decoder.

    Example:
        >>> config = {"decoder": "decoder_only", "decoder_conf": {"num_blocks": 2}}
        >>> overlay = {"decoder_conf": {"attention": "mha"}}
        >>> lay_attention(config, overlay, "mha.yaml")["decoder_conf"]
        {'num_blocks': 2, 'attention': 'mha', 'attention_conf': {}}
    """
    check_keys(overlay, ["decoder_conf"], source)
    laid = overlay.get("decoder_conf")
    if not isinstance(laid, dict) or "attention" not in laid:
        raise UserError(f"{source}: must hold decoder_conf.attention")
    check_keys(laid, ["attention", "attention_conf", "prefix_stride"], source, "decoder_conf")
    if config.get("decoder") != "decoder_only":
        raise UserError(
            f"--attention needs `decoder: decoder_only` in the training configuration, "
            f"not {config.get('decoder', 'the default decoder')!r}"
        )
    decoder_conf = {
        **(config.get("decoder_conf") or {}),
        **laid,
        "attention_conf": laid.get("attention_conf") or {},
    }
    return {**config, "decoder_conf": decoder_conf}


_FRONTEND_KEYS = ("frontend", "frontend_conf", "preencoder", "preencoder_conf")


def lay_frontend(config: dict, overlay: dict, source) -> dict:
    """Lay a front end over a training configuration.

    The overlay's front end, and its layer behind it (`preencoder`), take the place of the
    configuration's as a whole: no option of those before stays.

    Args:
        config: a training configuration; it is not changed.
        overlay: `frontend`, and where they are needed `frontend_conf`, `preencoder` and
            `preencoder_conf`.
        source: the overlay's file, for messages.

    Returns:
        A new configuration.

    Raises:
        UserError: the overlay holds anything else, or no front end.

    Example:
        >>> config = {"frontend_conf": {"n_fft": 400}, "encoder": "conformer"}
        >>> lay_frontend(config, {"frontend": "fbank"}, "fbank.yaml")
        {'encoder': 'conformer', 'frontend': 'fbank'}
    """
    check_keys(overlay, _FRONTEND_KEYS, source)
    if not isinstance(overlay.get("frontend"), str):
        raise UserError(f"{source}: must hold frontend, the name of one")
    kept = {key: value for key, value in config.items() if key not in _FRONTEND_KEYS}
    return {**kept, **overlay}


def split_arguments(text: str, source: str) -> list[tuple[str, list[str]]]:
    """Split `--a 1 --b_conf x=2` into [("a", ["1"]), ("b_conf", ["x=2"])].

    Args:
        text: words as in a shell.
        source: the option that holds them, for messages.

    Raises:
        UserError: a quote is not closed, or the text does not start with an option.

    Example:
        >>> split_arguments("--max_epoch 3 --decoder_conf attention=mla", "--asr_args")
        [('max_epoch', ['3']), ('decoder_conf', ['attention=mla'])]
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{source}: {error} in {text!r}", exit_code=2) from None
    arguments: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            arguments.append((name, [value] if equals else []))
        elif arguments:
            arguments[-1][1].append(word)
        else:
            raise UserError(f"{source}: expected --name value, not {word!r}", exit_code=2)
    return arguments


def apply_arguments(config: dict, text: str, source: str) -> dict:
    """Return `config` with arguments laid over it, as ESPnet's command line lays them.

    `--x_conf a.b=1` sets one inner key, `--x_conf "{a: 1}"` sets the keys of a mapping,
    and any other `--x value` takes the place of `x`.

    Args:
        config: a configuration; it is not changed.
        text: the arguments, words as in a shell.
        source: the option that holds them, for messages.

    Raises:
        UserError: an argument cannot be split, has no value, or is not YAML.

    Example:
        >>> config = {"optim_conf": {"lr": 0.1}}
        >>> apply_arguments(config, "--seed 3 --optim_conf lr=0.2", "--asr_args")
        {'optim_conf': {'lr': 0.2}, 'seed': 3}
    """
    config = dict(config)
    for name, words in split_arguments(text, source):
        if not words:
            raise UserError(f"{source}: --{name} needs a value", exit_code=2)
        if not name.endswith("_conf") or len(words) != 1:
            values = [_parse(word, name, source) for word in words]
            config[name] = values[0] if len(values) == 1 else values
            continue
        path, equals, value = words[0].partition("=")
        old = config.get(name)
        config[name] = conf = dict(old) if isinstance(old, dict) else {}
        if not equals:
            mapping = _parse(words[0], name, source)
            if not isinstance(mapping, dict):
                raise UserError(f"{source}: --{name} takes key=value, not {words[0]!r}", 2)
            conf.update(mapping)
            continue
        *parents, last = path.split(".")
        for parent in parents:
            inner = conf.get(parent)
            conf[parent] = dict(inner) if isinstance(inner, dict) else {}
            conf = conf[parent]
        conf[last] = _parse(value, name, source)
    check_numbers(config, source)
    return config


def _parse(word: str, name: str, source: str):
    try:
        return parse_yaml(word, f"{source}: --{name}", line=None)
    except UserError as error:
        reason = str(error).rpartition("not valid YAML: ")[2]
        raise UserError(
            f"{source}: --{name}: {word[:80]!r} is not a YAML value ({reason})", exit_code=2
        ) from None


def differences(old: dict, new: dict, ignored: Iterable[str] = ()) -> list[str]:
    """Name what differs between two configurations, one `key: old -> new` an entry.

    Args:
        old: nested mappings.
        new: nested mappings.
        ignored: top-level keys that may differ.

    Example:
        >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}, ignored=["c"])
        ['a.b: 1 -> 3']
        >>> differences({"a": {}}, {"a": {"b": 3}})
        ['a.b: unset -> 3']
    """
    ignored = set(ignored)
    flat_old = dict(_flatten({k: v for k, v in old.items() if k not in ignored}))
    flat_new = dict(_flatten({k: v for k, v in new.items() if k not in ignored}))
    keys = sorted(flat_old.keys() | flat_new.keys())
    found = [(key, flat_old.get(key, "unset"), flat_new.get(key, "unset")) for key in keys]
    return [
        f"{key}: {before} -> {now}"
        for key, before, now in found
        if before != now
        # an empty mapping that was filled is told by what is in it
        and not ({} in (before, now) and any(each.startswith(f"{key}.") for each in keys))
    ]


def _flatten(config: dict, where: str = ""):
    for key, value in config.items():
        name = f"{where}.{key}" if where else str(key)
        if isinstance(value, dict) and value:
            yield from _flatten(value, name)
        else:
            yield name, value
