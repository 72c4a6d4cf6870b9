"""The one error that speaks to the user."""


class UserError(ValueError):
    """Bad input. The message says what was given, what was expected and what to do; entry points print it without a traceback."""
