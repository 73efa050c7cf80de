"""White space of raw text."""


def plain_spaces(text: str) -> str:
    r"""Return `text` with each run of white space, of any kind, as one plain space.

    Example:
        >>> plain_spaces(" a\u00a0b\u2028 c ")
        'a b c'
    """
    return " ".join(text.split())
