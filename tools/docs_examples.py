"""An extension of Griffe, which reads docstrings for the site: examples are code."""

import griffe


class Examples(griffe.Extension):
    """Gives the section `Example:` the name by which Griffe knows doctests."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
