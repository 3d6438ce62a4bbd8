"""A client that keeps asking: a process of its own, a few threads, each request on a new TLS connection.

Run as ``python -m bench.load PORT NAME THREADS``. It begins at once, says so with a line, and ends when its input ends;
then it prints one JSON object: how many requests were answered with 200 and how long each took, and what went wrong
with the others. Nothing is tried again.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_TIMEOUT = 30.0
# It keeps no sessions: every handshake is a whole one.
_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_CONTEXT.check_hostname, _CONTEXT.verify_mode = False, ssl.CERT_NONE


@dataclass
class Answers:
    """What came: seconds of each good request, failures by their words."""

    seconds: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many requests did not get their 200."""
        return sum(self.failures.values())

    def quantile(self, part: float) -> float:
        """Of the seconds of good requests, by the nearest rank."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def ask(port: int, name: str) -> None:
    """One request on a new connection; raises `OSError` for all that is not a whole answer with 200."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as plain,
        _CONTEXT.wrap_socket(plain, server_hostname=name) as tls,
    ):
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := tls.recv(16_384):
            answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(f"answered {answer[:40]!r}")


class Load:
    """The same from another process's point of view. A context manager: it asks from enter to exit."""

    def __init__(self, port: int, name: str, threads: int) -> None:
        self._command = [sys.executable, "-m", "bench.load", str(port), name, str(threads)]
        self.answers = Answers()

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        output, _ = self._process.communicate()
        if output:
            self.answers = Answers(**json.loads(output))


def main() -> None:
    """Ask until the input ends."""
    port, name, threads = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    stop, seconds, failures = threading.Event(), list[float](), Counter[str]()

    def run() -> None:
        while not stop.is_set():
            begin = time.perf_counter()
            try:
                ask(port, name)
            except OSError as error:
                failures[f"{type(error).__name__}: {error}"] += 1
            else:
                seconds.append(time.perf_counter() - begin)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    print("asking", flush=True)
    sys.stdin.read()
    stop.set()
    for worker in workers:
        worker.join()
    print(json.dumps({"seconds": seconds, "failures": failures}))


if __name__ == "__main__":
    main()
