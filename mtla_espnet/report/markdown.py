"""Tables in Markdown."""

from collections.abc import Sequence


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], aligned: bool = False
) -> str:
    r"""Write a table in Markdown.

    Args:
        columns: headings.
        rows: a cell a column.
        aligned: the columns also line up as plain text, numbers to the right; else as ESPnet
            writes its tables.

    Example:
        >>> print(markdown_table(["kind", "a|b"], [["mha", "17"]]))
        |kind|a\|b|
        |---|---|
        |mha|17|
        >>> print(markdown_table(["kind", "WER"], [["mha", "7"]], aligned=True))
        | kind | WER |
        |:-----|----:|
        | mha  |   7 |
    """
    # a bar would end its cell
    table = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    if not aligned:
        table.insert(1, ["---"] * len(columns))
        return "\n".join(f"|{'|'.join(row)}|" for row in table)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table = [
        [
            f" {cell:<{width}} " if number == 0 else f" {cell:>{width}} "
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in table
    ]
    rule = [f":{'-' * widths[0]}-", *(f"-{'-' * width}:" for width in widths[1:])]
    return "\n".join(f"|{'|'.join(row)}|" for row in [table[0], rule, *table[1:]])


def megabytes(size_bytes: float | None) -> str:
    """Write a size in MB (10^6 bytes); a dash for None.

    Example:
        >>> megabytes(1_234_567), megabytes(None)
        ('1.23', '-')
    """
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.2f}"


def or_dash(value, form: str = "") -> str:
    """Format a value; a dash for None.

    Example:
        >>> or_dash(0.12345, ".3f"), or_dash(None, ".3f")
        ('0.123', '-')
    """
    return "-" if value is None else format(value, form)
