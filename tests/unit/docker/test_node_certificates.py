"""The certificates that machines of one stack show each other."""

import os
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKER

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the script has made everything, once: keys take a second each."""
    directory = tmp_path_factory.mktemp("made")
    make(directory)
    return directory


def make(directory: Path) -> None:
    """Run the script for 127.0.0.1."""
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: certificates for nodes, for want of root, which gives them away")
    (directory / "certificates").mkdir(exist_ok=True)
    subprocess.run(
        [DOCKER / "node-certificates.sh", "127.0.0.1"],
        env=os.environ
        | {
            "MESS_SECRETS_DIR": str(directory / "secrets"),
            "MESS_CERTIFICATES_DIR": str(directory / "certificates"),
        },
        check=True,
    )


def handshake(made: Path, *, name: str, node: bool) -> None:
    """Shake hands as Kafka and a node do, in memory; raises ssl.SSLError where one refuses the other."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made / "certificates/nodes-ca.pem")
    server.load_cert_chain(made / "secrets/main.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=made / "certificates/nodes-ca.pem")
    if node:
        client.load_cert_chain(made / "certificates/node.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_a_node_and_the_main_machine_know_each_other(made: Path) -> None:
    """By the address in the certificate; a stranger without one, or another address, is refused."""
    handshake(made, name="127.0.0.1", node=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(made, name="127.0.0.2", node=True)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(made, name="127.0.0.1", node=False)


def test_keys_are_read_by_those_that_use_them_alone(made: Path) -> None:
    """The node's by the image's user; the others stand in a directory that root alone enters."""
    node = (made / "certificates/node.pem").stat()
    assert (node.st_uid, stat.S_IMODE(node.st_mode)) == (10001, 0o600)
    assert stat.S_IMODE((made / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((made / "secrets/main.pem").stat().st_mode) == 0o444


def test_what_is_there_stays_and_what_was_removed_is_of_the_same_ca(made: Path) -> None:
    """A second run changes nothing; a certificate that is made anew is known to nodes as they are."""
    files = [path for path in made.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    make(made)
    assert {path: path.read_bytes() for path in files} == before
    (made / "secrets/main.pem").unlink()
    make(made)
    assert (made / "secrets/main.pem").read_bytes() != before[made / "secrets/main.pem"]
    handshake(made, name="127.0.0.1", node=True)
