#!/usr/bin/env python3
"""`healthy PORT PATH`: ends with 0 if this container answers 200 there, else with 1. The images' HEALTHCHECK."""

import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 2.0


def healthy(port: int, path: str) -> bool:
    """Whether 127.0.0.1 answers GET `path` with 200 in time."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not healthy(int(sys.argv[1]), sys.argv[2]))
