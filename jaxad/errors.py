"""Errors that a user can cause and can mend; the command line prints their text without a
traceback.
"""


class InputError(ValueError):
    """A config, file or record is not as it must be: says which, what was expected and found."""


class DivergedError(RuntimeError):
    """A loss, gradient norm or metric became non-finite during training."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or none of those present can be trusted."""
