"""A network of a thread's own, in which every address there is leads back to this machine.

    with EnclosedNetwork() as network:
        network.run(lambda: ...)          # in there; threads that it starts are in there too
        network.connections()             # each that was tried since the last time: address and port

So a request that goes where it must not does not fail for want of a way there: it arrives, and is seen. What
is seen are the packets themselves. Nothing of the machine is changed: the network and the files that say who
resolves names are those of Linux namespaces, which end with the thread.
"""

import ipaddress
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

_ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17
_SYN, _ACK = 0x02, 0x10
_DNS_PORT = 53
_RESOLVED_BY = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
    # Without what would ask a daemon outside, as systemd's and multicast DNS do.
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
_COMMANDS = (
    "ip link set lo up",
    "ip route add local 0.0.0.0/0 dev lo",
    "ip -6 route add local ::/0 dev lo",
    "mount --make-rprivate /",
)


class EnclosedNetwork:
    """Needs Linux, root (CAP_SYS_ADMIN) and the programs ip and mount; raises RuntimeError without them."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="enclosed")
        self._files = TemporaryDirectory()

    def __enter__(self) -> Self:
        try:
            self._packets = self._thread.submit(self._move_in).result()
        except (OSError, subprocess.CalledProcessError, AttributeError) as error:
            self.__exit__()
            said = getattr(error, "stderr", None) or error
            raise RuntimeError(
                "no network of our own: run these tests as root on Linux, in a container with --privileged,"
                f" or by `unshare -r make test`; and with iproute2 installed ({said})"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_packets"):
            self._packets.close()
        self._thread.shutdown()
        self._files.cleanup()

    def run[T](self, call: Callable[[], T]) -> T:
        """Do `call` in the enclosed network."""
        return self._thread.submit(call).result()

    def connections(self) -> list[tuple[str, int]]:
        """Where TCP connections were tried, and other than to the name server UDP was sent, since last asked.

        A packet is on record before the call that sent it returns.
        """
        tried: dict[tuple[str, int], None] = {}  # as a set that keeps its order: SYNs are repeated
        while True:
            try:
                packet, (_, protocol, *_) = self._packets.recvfrom(65536)
            except BlockingIOError:
                return list(tried)
            target = _target(packet, protocol)
            if target:
                tried[target] = None

    def _move_in(self) -> socket.socket:
        os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)  # of this thread only
        for command in _COMMANDS:
            _do(command)
        for number, (path, text) in enumerate(_RESOLVED_BY.items()):
            if Path(path).exists():
                ours = Path(self._files.name) / str(number)
                ours.write_text(text)
                _do(f"mount --bind {ours} {path}")
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        packets.bind(("lo", _ALL_PROTOCOLS))
        packets.setblocking(False)
        return packets


def _do(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True)


def _target(packet: bytes, protocol: int) -> tuple[str, int] | None:
    """Where `packet` leads, if it opens a connection or is a datagram."""
    if protocol == _IPV4:
        start, kind, address = (packet[0] & 0x0F) * 4, packet[9], packet[16:20]
    elif protocol == _IPV6:
        start, kind, address = 40, packet[6], packet[24:40]
    else:
        return None
    source, port = struct.unpack_from(">2H", packet, start)
    opens = kind == _TCP and packet[start + 13] & (_SYN | _ACK) == _SYN
    is_datagram = kind == _UDP and _DNS_PORT not in (source, port)
    return (str(ipaddress.ip_address(address)), port) if opens or is_datagram else None
