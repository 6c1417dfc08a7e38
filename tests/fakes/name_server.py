"""A name server that returns what a test says: real DNS over UDP.

    with NameServer({"same.example": ["8.8.8.8", "::1"], "turns.example": [["8.8.8.8"], ["10.0.0.1"]]}): ...

A name with a list of lists gets them one after the other, the last one for ever: that is how DNS rebinding
works. Names that it does not know do not exist.
"""

import ipaddress
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

type Addresses = Sequence[str] | Sequence[Sequence[str]]

_A, _CNAME, _AAAA = 1, 5, 28
_INTERNET = 1
_NO_SUCH_NAME = 3
_RESPONSE = 0x8580  # with authority; recursion asked for, and available
_NAME_OF_THE_QUESTION = b"\xc0\x0c"  # a pointer to it


class NameServer:
    """Serves on this machine until the block ends. `aliases` leads from a name to the one that it means."""

    def __init__(
        self,
        names: Mapping[str, Addresses],
        *,
        aliases: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 53,
    ) -> None:
        self._names = dict(names)
        self._aliases = dict(aliases or {})
        self._asked: Counter[tuple[str, int]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._thread = threading.Thread(target=self._serve, name="name-server", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def times_asked(self, name: str) -> int:
        """How often somebody looked `name` up: each asks for IPv4 and for IPv6."""
        return max(self._asked[name, _A], self._asked[name, _AAAA])

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        name, end = _read_name(question)
        (kind,) = struct.unpack_from(">H", question, end)
        asked = question[12 : end + 4]
        self._asked[name, kind] += 1
        records: list[bytes] = []
        meant = self._aliases.get(name, name)
        if meant != name:
            records.append(_record(_CNAME, _written(meant)))
        for address in map(ipaddress.ip_address, self._addresses(meant, self._asked[name, kind])):
            if kind == (_A if address.version == 4 else _AAAA):
                owner = _NAME_OF_THE_QUESTION if meant == name else _written(meant)
                records.append(_record(kind, address.packed, owner=owner))
        code = 0 if meant in self._names else _NO_SUCH_NAME
        head = question[:2] + struct.pack(">5H", _RESPONSE | code, 1, len(records), 0, 0)
        return head + asked + b"".join(records)

    def _addresses(self, name: str, time: int) -> Sequence[str]:
        answers = self._names.get(name, [])
        if not answers or isinstance(answers[0], str):
            return [str(each) for each in answers]
        return answers[min(time, len(answers)) - 1]


def _read_name(message: bytes) -> tuple[str, int]:
    """The name in the question of `message`, in lower case, and where what follows it begins."""
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    return ".".join(labels), at + 1


def _written(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _record(kind: int, data: bytes, *, owner: bytes = _NAME_OF_THE_QUESTION) -> bytes:
    return owner + struct.pack(">2HIH", kind, _INTERNET, 0, len(data)) + data  # to be kept for 0 seconds
