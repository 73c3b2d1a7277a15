"""What the tests ask of every refusal, and a way to be someone whom the system refuses."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from chargen.errors import ChargenError


def line_of(caught: pytest.ExceptionInfo[ChargenError], status: int) -> str:
    """The one line of an error that ends with ``status``."""
    message = str(caught.value)
    assert caught.value.status == status
    assert len(message.splitlines()) == 1
    return message


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read and write everything; whoever it stands in for here may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
