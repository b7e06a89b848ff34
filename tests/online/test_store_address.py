"""URLs of stores: what they mean, and that a wrong one is refused without being repeated."""

import pytest
from redis.asyncio import Connection, SSLConnection

from service.config import Settings
from service.stores.address import SCHEMES, Tls, read_address

NO_TLS = Tls()


def test_sentinels_and_their_service():
    """Hosts with or without a port, the service, the database, and the user for the servers."""
    address = read_address("redis+sentinel://me:s%40cret@a:1,b,[::1]:3/histories/2", NO_TLS)

    assert address.places == (("a", 1), ("b", 26379), ("::1", 3))
    assert (address.kind, address.service) == ("sentinel", "histories")
    connection = address.connection
    assert [connection[name] for name in ("username", "password", "db")] == ["me", "s@cret", 2]


def test_sentinels_have_a_login_of_their_own():
    """The password of the servers is never sent to a Sentinel, and the other way round."""
    url = "rediss+sentinel://me:one@a/s?sentinel_username=watch&sentinel_password=two"
    address = read_address(url, NO_TLS)

    assert (address.connection["password"], address.to_sentinels["password"]) == ("one", "two")
    assert address.to_sentinels["username"] == "watch"
    assert address.connection["connection_class"] is address.to_sentinels["connection_class"] is SSLConnection
    assert "db" not in read_address("redis+sentinel://me:one@a/s/3", NO_TLS).to_sentinels
    assert "password" not in read_address("redis+sentinel://me:one@a/s/3", NO_TLS).to_sentinels


def test_cluster_and_its_first_servers():
    """Any of them will tell of the others."""
    address = read_address("redis+cluster://:secret@a:7000,b", NO_TLS)

    assert (address.kind, address.places) == ("cluster", (("a", 7000), ("b", 6379)))
    assert (address.connection["password"], address.connection.get("connection_class", Connection)) == (
        "secret",
        Connection,
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:hunter2@a",
        "redis+sentinel://:hunter2@a:x/s",
        "redis+sentinel://:hunter2@/s",
        "redis+sentinel://:hunter2@a,,b/s",
        "redis+sentinel://:hunter2@a/s?hunter2",
        "redis+cluster://:hunter2@a/1",
        "redis+cluster://:hunter2@a/x",
        "redis+hunter2://a",
        "memory://hunter2",
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(url):
    """It may hold a password."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the next line looks at the text
        read_address(url, NO_TLS)

    assert "hunter2" not in str(caught.value)


def test_certificates_without_tls_are_refused(tmp_path):
    """They would do nothing, and the operator believes in them."""
    key = tmp_path / "key.pem"
    key.touch()

    with pytest.raises(ValueError, match="needs the client's certificate"):
        read_address("rediss://a", Tls(key_file=str(key)))
    with pytest.raises(ValueError, match="cannot be read"):
        read_address("rediss://a", Tls(ca_file=str(tmp_path / "absent.pem")))
    with pytest.raises(ValueError, match="cannot be read"):
        read_address("rediss://a", Tls(cert_file=str(key)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_settings_know_the_same_schemes(scheme):
    """Settings refuse early what the store would refuse later, and nothing else."""
    assert Settings(store=f"{scheme}a/s").store.startswith(scheme)
