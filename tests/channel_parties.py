"""Server, client and attacker of the loopback test, each a process of its own.

Every attempt is one connection: the client sends its model in rounds 0 and 1, the
server adds 1 to each and sends it back. The wire belongs to the attacker, who
passes one attempt on unchanged and spoils the next in the way its name says.
Everyone prints one JSON line for each thing that happened.
"""

import contextlib
import hashlib
import json
import socket
import struct
import sys
import threading
from pathlib import Path

import numpy as np

from fltutor.crypto.channel import SocketLine, accept, connect
from fltutor.crypto.keys import Directory, Identity, PublicIdentity
from fltutor.errors import FltutorError

RUN = "loopback"
ROUNDS = 2
TIMEOUT = 20.0  # seconds; reached only if something is wrong

# What the attacker may do; "pass on" is no attack. Each direction's frames 0 and 1 are the
# handshake, frames 2 and 3 the models of the two rounds.
ATTACKS = (
    "flip a bit of a model",
    "flip a bit of a reply",
    "flip a bit of the hello",
    "flip a bit of the answer",
    "flip a bit of the proof",
    "flip a bit of the last handshake message",
    "send a model twice",
    "send a reply twice",
    "reflect a model",
    "reflect the hello",
    "swap two models",
    "lose a model",
    "shorten a model",
    "hang up within a model",
    "shorten the answer",
    "put a key of one's own",
    "put the all-zero key",
    "claim a terabyte",
    "play an old client",
    "play an old server",
    "be an impostor to both",
)


def say(**event):
    print(json.dumps(event), flush=True)


def refusal(error):
    return {"refused": type(error).__name__, "why": str(error)}


def model():
    """The client's model: 2,410 numbers."""
    rng, shapes = np.random.default_rng(7), ((64, 32), (32,), (32, 10), (10,))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def digest(tensors):
    return hashlib.sha256(b"".join(tensor.tobytes() for tensor in tensors)).hexdigest()


def who_is_who(folder):
    known = json.loads((folder / "directory.json").read_text(encoding="utf-8"))
    return Directory(PublicIdentity(name, bytes.fromhex(key)) for name, key in known.items())


def myself(folder, name):
    return Identity.from_bytes(name, (folder / f"{name}.secret").read_bytes())


def listen():
    listener = socket.create_server(("127.0.0.1", 0))
    say(port=listener.getsockname()[1])
    return listener


def reach(port):
    return socket.create_connection(("127.0.0.1", int(port)), TIMEOUT)


def serve(folder):
    me, directory, listener = myself(folder, "server"), who_is_who(folder), listen()
    while True:
        with listener.accept()[0] as connected:
            connected.settimeout(TIMEOUT)
            opened, outcome, line = [], {}, SocketLine(connected)
            try:
                channel = accept(me, directory, line, run=RUN)
                outcome = {"peer": channel.peer, "session": channel.session}
                for number in range(ROUNDS):
                    tensors = channel.open(line.receive(), {"round": number})
                    opened.append(digest(tensors))
                    line.send(channel.seal([tensor + 1 for tensor in tensors], {"round": number}))
            except (FltutorError, OSError) as error:
                outcome |= refusal(error)
            say(opened=opened, **outcome)


def take_part(folder, port, attempts):
    me, directory = myself(folder, "client"), who_is_who(folder)
    for _ in range(int(attempts)):
        with reach(port) as connected:
            opened, outcome, line = [], {}, SocketLine(connected)
            try:
                channel = connect(me, "server", directory, line, run=RUN)
                outcome = {"peer": channel.peer, "session": channel.session}
                for number in range(ROUNDS):
                    line.send(channel.seal(model(), {"round": number}))
                for number in range(ROUNDS):
                    opened.append(digest(channel.open(line.receive(), {"round": number})))
            except (FltutorError, OSError) as error:
                outcome |= refusal(error)
            say(opened=opened, **outcome)


# --- the attacker -------------------------------------------------------------------------------


class Wire:
    """One connection of a client and the server, in the hands of the attacker."""

    def __init__(self, attack, client, server):
        self.attack, self.client, self.server = attack, client, server
        self.recorded, self.held = {"up": [], "down": []}, []

    def carry(self):
        """Pass frames both ways until somebody hangs up."""
        ends = (("up", self.client, self.server), ("down", self.server, self.client))
        threads = [threading.Thread(target=self.pump, args=end) for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def pump(self, way, source, target):
        try:
            for number in range(2 + ROUNDS):
                frame = SocketLine(source).receive()
                self.recorded[way].append(frame)
                onward, back = self.instead(way, number, frame)
                for data in onward:
                    target.sendall(data)
                for data in back:
                    source.sendall(data)
            SocketLine(source).receive()  # waits until the source hangs up
        except (FltutorError, OSError):
            self.hang_up()

    def play(self, frames, victim, other):
        """Say to one end what was recorded earlier, whatever it answers."""
        other.shutdown(socket.SHUT_RDWR)
        line = SocketLine(victim)
        if victim is self.client:
            line.receive()  # its hello
        for frame in frames:
            line.send(frame)
            self.recorded["down"].append(line.receive())

    def be_an_impostor(self, directory):
        """Be the server to the client and the client to the server, with keys of one's own."""
        for end, meet in ((self.client, accept), (self.server, connect)):
            me = Identity.generate("server" if meet is accept else "client")
            whom = () if meet is accept else ("server",)
            try:
                meet(me, *whom, directory, SocketLine(end), run=RUN)
                say(succeeded="an impostor")
            except (FltutorError, OSError):
                end.close()

    def hang_up(self):
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def instead(self, way, number, frame):
        """What goes onward in place of this frame, and what goes back to its sender."""
        whole = struct.pack("<Q", len(frame)) + frame
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        match self.attack, way, number:
            case (
                ("flip a bit of the hello", "up", 0)
                | ("flip a bit of the answer", "down", 0)
                | ("flip a bit of the proof", "up", 1)
                | ("flip a bit of the last handshake message", "down", 1)
                | ("flip a bit of a model", "up", 2)
                | ("flip a bit of a reply", "down", 2)
            ):
                return [flipped], []
            case ("send a model twice", "up", 2) | ("send a reply twice", "down", 2):
                return [whole, whole], []
            case ("reflect a model", "up", 2) | ("reflect the hello", "up", 0):
                return [], [whole]
            case ("swap two models", "up", 2) | ("lose a model", "up", 2):
                self.held = [whole]
                return [], []
            case ("swap two models", "up", 3):
                return [whole, *self.held], []
            case ("shorten a model", "up", 2) | ("shorten the answer", "down", 0):
                return [struct.pack("<Q", len(frame) - 1) + frame[:-1]], []
            case ("hang up within a model", "up", 2):
                self.server.sendall(whole[: len(whole) // 2])
                raise OSError("hung up")
            case ("put a key of one's own", "up", 0):
                return [whole[:-32] + bytes([9]) + bytes(31)], []
            case ("put the all-zero key", "up", 0):
                return [whole[:-32] + bytes(32)], []
            case ("claim a terabyte", "up", 0):
                return [struct.pack("<Q", 2**40) + frame], []
        return [whole], []


def own_the_wire(folder, server_port, *attacks):
    listener, directory = listen(), who_is_who(folder)
    old = None  # the frames of the last connection that was passed on
    with (folder / "everything.recorded").open("wb") as everything:
        for attack in attacks:
            with listener.accept()[0] as client, reach(server_port) as server:
                client.settimeout(TIMEOUT)
                wire = Wire(attack, client, server)
                with contextlib.suppress(FltutorError, OSError):
                    if attack == "play an old client":
                        wire.play(old["up"], server, client)
                    elif attack == "play an old server":
                        wire.play(old["down"], client, server)
                    elif attack == "be an impostor to both":
                        wire.be_an_impostor(directory)
                    else:
                        wire.carry()
                for frames in wire.recorded.values():
                    everything.write(b"".join(frames))
                old = wire.recorded if attack == "pass on" else old
            say(attack=attack)


ROLES = {"server": serve, "client": take_part, "attacker": own_the_wire}

if __name__ == "__main__":
    role, folder, *rest = sys.argv[1:]
    ROLES[role](Path(folder), *rest)
