"""How evenly do connections spread over two processes: one listening socket that both inherit, or SO_REUSEPORT?

    python -m benchmarks.spread [--bursts N]

Both serve with uvloop, as the service does. A burst opens so many connections and asks each which process has it. Even
is half of them; what counts is the busier process, because a connection that is kept alive stays where it is.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import statistics
import time

import uvloop

from service.port import hold_port, shared_socket

PROCESSES = 2
HOST = "127.0.0.1"


class Names(asyncio.Protocol):
    """Says which process this is."""

    def connection_made(self, transport: asyncio.WriteTransport) -> None:
        """Write the process id."""
        transport.write(b"%d\n" % os.getpid())


def serve(inherited: socket.socket | None, port: int) -> None:
    """Accept connections until the process is ended."""

    async def run() -> None:
        listening = inherited or shared_socket(HOST, port)
        await asyncio.get_running_loop().create_server(Names, sock=listening, backlog=2048)
        await asyncio.Event().wait()

    uvloop.run(run())


def busier(port: int, connections: int, *, gap_s: float) -> int:
    """Connections of the process that got more of one burst."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(connections):
            opened.append(stack.enter_context(socket.create_connection((HOST, port))))
            time.sleep(gap_s)
        owners = [connection.recv(20) for connection in opened]
    assert all(owners), "a process hung up"
    return max(owners.count(owner) for owner in owners)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=30)
    bursts = parser.parse_args().bursts
    spawn = multiprocessing.get_context("spawn")
    print("| socket | connections | opened | busier process, median | worst | all on one |\n|---|---|---|---|---|---|")
    for name in ("inherited", "SO_REUSEPORT"):
        with contextlib.ExitStack() as stack:
            if name == "inherited":
                held = stack.enter_context(socket.create_server((HOST, 0), backlog=2048))
            else:
                held = stack.enter_context(hold_port(HOST, 0))
            port = held.getsockname()[1]
            given = (held if name == "inherited" else None, port)
            for _ in range(PROCESSES):
                process = spawn.Process(target=serve, args=given)
                process.start()
                stack.callback(process.join)
                stack.callback(process.terminate)
            time.sleep(3)  # both have started
            for connections in (4, 16, 64):
                for opened, gap_s in (("at once", 0.0), ("every 2 ms", 0.002)):
                    most = [busier(port, connections, gap_s=gap_s) for _ in range(bursts)]
                    all_on_one = f"{sum(m == connections for m in most)} of {bursts}"
                    middle = statistics.median(most)
                    print(f"| {name} | {connections} | {opened} | {middle:.0f} | {max(most)} | {all_on_one} |")


if __name__ == "__main__":
    main()
