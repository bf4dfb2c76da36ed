"""The errors a user can act on: what, where, expected, got, and the fix."""


class VlaError(ValueError):
    """Base of every error caused by input; the command line prints it as one line and exits with 2."""


class ConfigError(VlaError):
    """A recipe or override names an unknown key, a value of the wrong type, or an impossible combination."""


class ContractError(VlaError):
    """Two parts that must agree on cameras, state, action, rate or statistics do not."""


class DatasetError(VlaError):
    """A dataset is missing, damaged, or of a format that this version does not read."""


class CheckpointError(VlaError):
    """A checkpoint is missing, truncated, or does not hold what its contract says."""


class SearchError(VlaError):
    """A search index is damaged, or was made by another model or of other frames."""


class RenderError(VlaError):
    """No OpenGL implementation could be started to render cameras."""


class ServeError(VlaError):
    """A policy server cannot be started or reached, or it answered with an error."""


class PlacesTakenError(ServeError):
    """A policy server has no place for one more connection now."""


class RobotError(VlaError):
    """A robot cannot be reached, or does not do what it is told; it was brought to rest as far as it could be."""


class UnknownNameError(VlaError):
    """A name that no table knows."""
