"""One password for the server and for the pages: a bearer's token, or the password of any user in a browser."""

from __future__ import annotations

import base64
import secrets

CHALLENGE = 'Bearer realm="headstart", Basic realm="headstart"'


def knows(authorization: str, password: str) -> bool:
    """Whether an Authorization header carries the password; it takes as long whatever is sent."""
    kind, _, sent = authorization.partition(" ")
    if kind.lower() == "basic":
        try:
            sent = base64.b64decode(sent).decode().partition(":")[2]
        except ValueError:
            return False
    return kind.lower() in ("basic", "bearer") and secrets.compare_digest(sent.encode(), password.encode())
