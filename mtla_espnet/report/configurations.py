"""Short names of training configurations by what tells them apart."""

from collections.abc import Mapping, Sequence

_NAMED = 2
_LONGEST = 24


def configuration_labels(configurations: Sequence[Mapping | None]) -> list[str]:
    """Name configurations by the values that differ; equal ones have the same name.

    Args:
        configurations: as training wrote them; None: there is none.

    Returns:
        A name each: up to two of the values that differ, the least nested first. All empty
        where nothing differs.

    Example:
        >>> configuration_labels([{"frontend": "fbank", "a": {"b": 1}}, {"frontend": "s3prl"}])
        ['frontend=fbank', 'frontend=s3prl']
    """
    flat = [_flatten(each or {}) for each in configurations]
    keys = dict.fromkeys(key for each in flat for key in each)
    telling = [
        key
        for key in sorted(keys, key=lambda key: (key.count("."), key))
        if len({each.get(key) for each in flat}) > 1
    ]
    chosen: list[str] = []
    for key in telling:  # those that tell more of them apart than the ones before
        if len(chosen) < _NAMED and _groups(flat, [*chosen, key]) > _groups(flat, chosen):
            chosen.append(key)
    labels = [", ".join(f"{key}={each.get(key, '-')}" for key in chosen) for each in flat]
    wholes: dict[str, list[Mapping]] = {}
    for number, (label, each) in enumerate(zip(labels, flat, strict=True)):
        alike = wholes.setdefault(label, [])
        if each not in alike:
            alike.append(each)
        if place := alike.index(each):
            labels[number] = f"{label} ({place + 1})".strip()
    return labels


def _groups(flat: Sequence[Mapping], keys: Sequence[str]) -> int:
    return len({tuple(each.get(key) for key in keys) for each in flat})


def _flatten(config: Mapping, before: str = "") -> dict[str, str]:
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{before}{key}.")
        elif len(str(value)) <= _LONGEST:
            found[f"{before}{key}"] = str(value)
    return found
