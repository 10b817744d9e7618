"""The recipes that docs/signing.md gives to other programs."""

import re

from tests.programs import ROOT


def example(language: str) -> str:
    """The one block of code in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/signing.md").read_text(), re.DOTALL)
    return str(found)
