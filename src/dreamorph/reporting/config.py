"""Parameters of the report."""

from dreamorph.config import Config


class ReportConfig(Config):
    """What the report is called.

    Attributes:
        title: name of the study, on the page and nowhere else.
    """

    title: str = "study"
