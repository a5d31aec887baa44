"""What of an error a caller may read, in whichever dialect."""

from replicas.errors import EngineFailed, ShoalError


def public_words(error: ShoalError) -> str:
    """The error's own words, save for our own failures: their cause is for the log, and may name paths or prompts."""
    if isinstance(error, EngineFailed):
        return "the model failed while it answered; the request may be sent again"
    return str(error) if type(error) is not ShoalError else "internal error; the server's log says more"
