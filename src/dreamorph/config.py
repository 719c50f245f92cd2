"""Base class of every typed configuration."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen record of parameters that refuses unknown keys.

    Subclasses are used as type hints of Kedro node arguments, so a misspelt key stops the run
    before any work is done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
