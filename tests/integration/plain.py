"""An upstream that speaks no protocol, and tunnels to it: both ends are the test's sockets."""

import select
import socket
import struct

from client import request_bytes
from waiting import DEADLINE_S


class PlainUpstream:
    """A listener whose connections the test takes one by one."""

    def __init__(self, address="127.0.0.1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, 0), family=family, backlog=128)
        self.listener.settimeout(DEADLINE_S)
        name = f"[{address}]" if ":" in address else address
        self.port = self.listener.getsockname()[1]
        self.host = f"{name}:{self.port}"
        self.taken = []

    def take(self):
        sock, _ = self.listener.accept()
        sock.settimeout(DEADLINE_S)
        self.taken.append(sock)
        return sock

    def has_nobody(self):
        """Whether nobody has connected; ask after something ordered behind it."""
        return not select.select([self.listener], [], [], 0)[0]

    def stop(self):
        self.listener.close()
        for sock in self.taken:
            sock.close()


def ask_tunnel(weir, host, headers=(), early=b"", **how):
    """Sends a CONNECT request, and EARLY in one piece with it, without waiting for the answer."""
    client = weir.client()
    client.send(request_bytes("CONNECT", host, headers, host=host, **how) + early)
    return client


def open_tunnel(weir, host, headers=(), early=b""):
    """An open tunnel; what is sent through it is read with receive()."""
    client = ask_tunnel(weir, host, headers, early)
    answer = client.read_head()
    assert answer is not None and answer.status == 200, answer
    client.answer = answer
    return client


def receive(end, count):
    """COUNT bytes from a client or a socket."""
    data = b""
    if hasattr(end, "buffer"):
        data, end.buffer = end.buffer[:count], end.buffer[count:]
        end = end.socket
    while len(data) < count:
        piece = end.recv(count - len(data))
        assert piece, f"ended after {len(data)} of {count} bytes"
        data += piece
    return data


def receive_all(end):
    """Every byte up to the end."""
    data = [receive(end, len(end.buffer))] if hasattr(end, "buffer") else []
    sock = getattr(end, "socket", end)
    while piece := sock.recv(262144):
        data.append(piece)
    return b"".join(data)


def reset(sock):
    """Ends a connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_silent(end):
    """Whether neither bytes nor the end have come; ask after something ordered behind them."""
    return not getattr(end, "buffer", b"") and not select.select(
        [getattr(end, "socket", end)], [], [], 0)[0]


def echo(client, upstream, text=b"ping"):
    """Carries TEXT there and back: the tunnel is open."""
    client.socket.sendall(text)
    assert receive(upstream, len(text)) == text
    upstream.sendall(text)
    assert receive(client, len(text)) == text
