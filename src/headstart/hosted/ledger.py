"""What was sent and bought for a fit, kept on disk, so that the same fit never uploads or pays twice.

    trials/hosted-<key>/job.json        ids of files and job; never the key of the API
    trials/hosted-<key>/answers.jsonl   what the models answered

<key> covers all that decides what is bought: server, model, both files, epochs, seed, suffix. Unlike other trials
these outlive their fit: what was paid for is not thrown away.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from headstart import places
from headstart.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Bought:
    """How far a fine-tuning has got at the service; empty names are still to come."""

    agreed: bool = False  # what is sent and paid for
    training_file: str = ""
    validation_file: str = ""
    creating: bool = False  # a job was asked for: it may exist though its name never came back
    job: str = ""


def key_of(decides: dict[str, Any], contents: Sequence[bytes]) -> str:
    """sha256 (hex) of what decides a fine-tuning, and of the files' contents."""
    sha = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for content in contents:
        sha.update(hashlib.sha256(content).digest())
    return sha.hexdigest()


class Ledger:
    """The folder of one fine-tuning. Every change is on the disk before the next request is made."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.folder = places.trials() / f"hosted-{key[:32]}"
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """Where the ids stand."""
        return self.folder / "job.json"

    def read(self) -> Bought:
        """How far it has got. RunError for a damaged file, since beginning anew might pay twice."""
        if not self.path.exists():
            return Bought()
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
            return Bought(**{one.name: saved[one.name] for one in fields(Bought)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.path} says what was bought already, and cannot be read ({error}). Look at the jobs of your "
                "account; then remove that file to begin anew."
            ) from error

    def write(self, **changes: Any) -> Bought:
        """Change what is said, complete or not at all."""
        bought = replace(self.read(), **changes)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(bought), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        return bought

    def answers(self) -> dict[str, str]:
        """Digest of a request -> its answer; a line that was cut off by a kill is passed over."""
        found: dict[str, str] = {}
        if self._answers.exists():
            for line in self._answers.read_text(encoding="utf-8").splitlines():
                try:
                    one = json.loads(line)
                    found[one["request"]] = one["answer"]
                except (ValueError, KeyError, TypeError):
                    continue
        return found

    def keep(self, request: str, answer: str) -> None:
        """Add an answer; threads may do so at once."""
        line = json.dumps({"request": request, "answer": answer})
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._answers.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")  # on a line of its own, whatever stands before it

    @property
    def _answers(self) -> Path:
        return self.folder / "answers.jsonl"
