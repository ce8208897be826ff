"""The one base of all errors that a user's input can cause."""


class InputError(ValueError):
    """Input that cannot be used: one sentence that names the value and the remedy.

    The command line prints it and exits with 2; the dock shows it as a notification.
    """
