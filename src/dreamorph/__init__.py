"""Learn how an anatomy deforms from a few volumes, dream new labelled ones, and tell whether it helped."""

__version__ = "0.1.0"
