"""Mistakes that a user can put right. Each message is one line: where, what, and the remedy."""


class FewlabelError(ValueError):
    """Base of all user errors. The command line prints the message alone and exits with `exit_code`."""

    exit_code = 1


class ConfigError(FewlabelError):
    """A configuration that cannot be used. `mistakes` holds one line for each thing that is wrong."""

    exit_code = 2

    def __init__(self, *mistakes: str) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


class CardError(FewlabelError):
    """A data card that cannot be read, or whose data does not match it."""


class FetchError(FewlabelError):
    """Data that could not be obtained: no network, no such file, a wrong digest."""


class DataError(FewlabelError):
    """Input data that cannot be used: unreadable, empty, or not what the configuration says."""


class TrainingError(FewlabelError):
    """Training that cannot go on, such as a loss that is no longer finite."""


class CheckpointError(FewlabelError):
    """A run folder or saved encoder that does not fit what was asked of it."""


class DiskError(FewlabelError):
    """The disk is full or the folder cannot be written."""


class Preempted(FewlabelError):
    """A run that was asked to end, and has saved. The exit code says: try again (sysexits' EX_TEMPFAIL)."""

    exit_code = 75
