"""Errors a user can act on: one line each, saying what was expected, what came and what to do."""


class DreamorphError(Exception):
    """Base of every error the library raises on purpose; the command line prints its one line."""


class CohortError(DreamorphError):
    """The cohort of volumes cannot be read, or too little of it is usable."""


class ParameterError(DreamorphError):
    """A parameter is unknown, of the wrong type, or out of range."""


class RegistrationError(DreamorphError):
    """Volumes cannot be registered: their shapes, devices or contents do not fit together."""


class PriorError(DreamorphError):
    """A deformation prior cannot be learned, saved or loaded."""


class DreamError(DreamorphError):
    """Dreams cannot be made from what was given."""


class TrainingError(DreamorphError):
    """A network cannot be trained or restored."""


class StaleError(DreamorphError):
    """Results on disk do not belong together: a step has to be run again."""
