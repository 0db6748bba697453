"""What every file of settings can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

Changes = Mapping[str, str | None]
"""Values by dotted name, as the file writes them (`"5s"` with its quotes); None takes the setting out."""


class Settings(ABC):
    """The settings of one text.

    Args:
        text: of the file.

    Raises:
        ValueError: it is not well-formed; the message says where.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @abstractmethod
    def names(self) -> frozenset[str]:
        """Dotted names of all settings and of all tables that hold some."""

    @abstractmethod
    def get(self, name: str) -> str | None:
        """A value as the text writes it, None where there is none.

        Raises:
            KeyError: the name is that of a whole table.
        """

    @abstractmethod
    def literal(self, value: str) -> str:
        """What a person typed, as this text writes it: `5s` becomes `"5s"`, and 5 stays a number."""

    @abstractmethod
    def text_literal(self, value: str) -> str:
        """The same, of what is always a text: 1 becomes `"1"`."""

    @abstractmethod
    def changed(self, changes: Changes) -> str:
        """The text with other values; what they do not touch stays as it is, byte for byte where the format allows.

        Raises:
            ValueError: a name cannot be set here.
        """
