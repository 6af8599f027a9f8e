"""The one error of this floor. Floor: models."""


class ModelError(RuntimeError):
    """A model cannot do what was asked; the message is one sentence that says what is allowed."""
