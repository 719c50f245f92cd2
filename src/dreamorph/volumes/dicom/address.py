"""Where a series lies, and which structures of which file are its labels, as one string."""

import json
from dataclasses import asdict, dataclass

_PREFIX = "dicom:"


@dataclass(frozen=True)
class Address:
    """One series, or what is drawn on it.

    Attributes:
        folders: that hold the series' files, one as a rule.
        series: its SeriesInstanceUID.
        drawn: file of a SEG or an RTSTRUCT; None means the series itself.
        paint: numbers of segments or regions with their label values, the lowest layer first.
        overlap: whether a later structure may cover an earlier one.
    """

    folders: tuple[str, ...]
    series: str
    drawn: str | None = None
    paint: tuple[tuple[int, int], ...] = ()
    overlap: bool = False

    def __str__(self) -> str:
        return _PREFIX + json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address that `str` wrote."""
        fields = json.loads(text.removeprefix(_PREFIX))
        fields["folders"] = tuple(fields["folders"])
        fields["paint"] = tuple((int(number), int(value)) for number, value in fields["paint"])
        return cls(**fields)


def is_address(text: str) -> bool:
    """Whether a string is an address of this kind."""
    return text.startswith(_PREFIX)
