"""A name server of the test's own, on port 53 of a loopback address."""

import contextlib
import ipaddress
import socket
import struct
import threading

TYPES = {1: ipaddress.IPv4Address, 28: ipaddress.IPv6Address}  # A, AAAA


def can_serve_names(address):
    """Whether this user may."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        try:
            sock.bind((address, 53))
        except OSError:
            return False
        return True


class Nameserver:
    """
    Answers from `names`: a name's addresses, or a function that gives them for the Nth look-up of
    an IPv4 address, from 0. Every answer may be kept for no time at all.
    """

    def __init__(self, address):
        self.address = address
        self.names = {}
        self.asked = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _addresses(self, name, kind):
        found = self.names.get(name, [])
        if callable(found):
            count = self.asked.get(name, 0)
            found = found(count)
        if kind == 1:
            self.asked[name] = self.asked.get(name, 0) + 1
        addresses = [ipaddress.ip_address(text) for text in found]
        return [address.packed for address in addresses if isinstance(address, TYPES[kind])]

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("ascii"))
            at += 1 + query[at]
        at += 5
        kind = struct.unpack(">H", query[at - 4:at - 2])[0]
        found = self._addresses(".".join(labels).lower(), kind) if kind in TYPES else []
        records = b"".join(struct.pack(">HHHIH", 0xc00c, kind, 1, 0, len(packed)) + packed
                           for packed in found)
        head = query[:2] + struct.pack(">HHHHH", 0x8580, 1, len(found), 0, 0)
        return head + query[12:at] + records

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            self.socket.sendto(self._answer(query), peer)

    def stop(self):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as waker:
            waker.sendto(b"", (self.address, 53))
        self.thread.join()
        self.socket.close()
