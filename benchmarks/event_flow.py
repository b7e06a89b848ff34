"""Events as they really come, some twice and some out of order, and the histories that must come of them."""

import json
import random
import struct
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter

START_MS = 1_760_000_000_000
FARTHEST = 2_000  # events that an event out of order comes late by, at most

Histories = dict[str, list[tuple[bytes, float]]]  # members and scores of each user's sorted set


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How many events, and how unruly. Shares are of `events`, which counts the doubles too."""

    events: int
    users: int
    keep: int  # newest behaviors per user
    doubled: float = 0.05
    displaced: float = 0.05
    seed: int = 1

    def bodies(self) -> list[bytes]:
        """The events in the order in which they come, each as JSON."""
        rng = random.Random(self.seed)
        doubles = int(self.events * self.doubled)
        rows = [self._event(number, rng) for number in range(self.events - doubles)]
        places: list[tuple[float, dict[str, object]]] = [(float(number), row) for number, row in enumerate(rows)]
        places += [(at + rng.uniform(0, FARTHEST), row) for at, row in rng.sample(places, doubles)]
        moved = set(rng.sample(range(len(places)), int(self.events * self.displaced)))
        late = [(at + rng.uniform(0, FARTHEST) * (i in moved), row) for i, (at, row) in enumerate(places)]
        return [json.dumps(row).encode() for _, row in sorted(late, key=lambda place: place[0])]

    def histories(self, bodies: list[bytes]) -> Histories:
        """What the sorted sets must hold, worked out from the record's description and nothing of the service."""
        found: dict[str, dict[bytes, float]] = {}
        for body in bodies:
            event = json.loads(body)
            found.setdefault(str(event["user_id"]), {})[_record(event)] = float(event["time"])
        in_order = itemgetter(1, 0)  # of a sorted set: by time, then by the record's bytes
        return {user: sorted(held.items(), key=in_order)[-self.keep :] for user, held in found.items()}

    def _event(self, number: int, rng: random.Random) -> dict[str, object]:
        """Several events share each millisecond of a user, so that ties are common."""
        return {
            "user_id": rng.randrange(self.users),
            "item_id": rng.randrange(1, 100_000),
            "category": rng.randrange(1, 100),
            "action": "click",
            "time": START_MS + number // (2 * self.users),
            "event_id": f"e{number}",
        }


def _record(event: dict[str, int | str]) -> bytes:
    key = blake2b(str(event["event_id"]).encode(), digest_size=8).digest()
    number = int.from_bytes(key, "little")
    return struct.pack(">Q", number) + struct.pack("<qqqB", event["item_id"], event["category"], event["time"], 0)
