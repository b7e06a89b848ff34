"""Before the other containers of docker-compose.yml: secrets that are missing, and volumes that their users can write.

Runs as root and without a network, once, in the service's image. Every secret is a file that one user alone can read.
A secret that is there is kept, so own ones may be put into the volume, or into a folder mounted in its place.
"""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

REDIS, APP, PROMETHEUS, GRAFANA = 999, 10001, 65534, 472  # users, as docker-compose.yml has them
VOLUMES = {"redis": REDIS, "bundles": APP, "work": APP, "prometheus": PROMETHEUS, "grafana": GRAFANA}
MADE = {"store_password": REDIS, "admin_key": APP, "grafana_password": GRAFANA}
_ALLOWED = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{8,512}")  # printable, without quotation mark and backslash

Owned = Callable[[Path, int], None]


def own(path: Path, user: int) -> None:
    """Give a file or folder to a user and the group of the same number."""
    os.chown(path, user, user)


def prepare(root: Path, owned: Owned = own) -> None:
    """Do it all under `root`. Raises SystemExit for a password that cannot be written into Redis' configuration."""
    for volume, user in VOLUMES.items():
        owned(root / "volumes" / volume, user)
    folder = root / "secrets"
    found = {name: _secret(folder / name, user, owned) for name, user in MADE.items()}
    password = found["store_password"]
    _write(folder / "redis_password.conf", f'requirepass "{password}"\n', REDIS, owned)
    _write(folder / "store_url", f"redis://:{quote(password, safe='')}@redis:6379/0\n", APP, owned)


def _secret(file: Path, user: int, owned: Owned) -> str:
    """What the file holds; a new one where there is none."""
    content = file.read_text(encoding="ascii").strip() if file.exists() else secrets.token_hex(24)
    if not _ALLOWED.fullmatch(content):
        raise SystemExit(
            f"{file}: must hold 8 to 512 printable ASCII characters, no space, quotation mark or backslash"
        )
    _write(file, f"{content}\n", user, owned)
    return content


def _write(file: Path, content: str, user: int, owned: Owned) -> None:
    """In one step, and never readable for anybody else."""
    draft = file.with_name(f".{file.name}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w", encoding="ascii") as opened:
        opened.write(content)
    owned(draft, user)
    draft.replace(file)


if __name__ == "__main__":
    prepare(Path("/"))
