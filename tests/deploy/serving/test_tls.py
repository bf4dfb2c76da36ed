"""Beyond this machine: a key and TLS, or an explicit word; the client knows whom it talks to."""

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vla.core.errors import ServeError
from vla.deploy.client import PolicyClient
from vla.deploy.remote import RemotePolicy
from vla.deploy.serving.exposure import tls_context
from vla.deploy.serving.server import PolicyServer


def certificate(folder: Path, name: str, key_name: str = "") -> tuple[Path, Path]:
    """One that signs itself, for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / (key_name or f"{name}.key")
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


def test_the_client_verifies_the_server(policy: Any, observation: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "robot")
    other, _ = certificate(tmp_path, "other")
    with PolicyServer(policy, port=0, api_key="k", tls=tls_context(cert, key)).running() as address:
        assert address.startswith("wss://127.0.0.1:")
        with PolicyClient(address, api_key="k", tls_ca=cert) as client:
            assert client.infer(observation())["actions"].shape == (4, 2)
        for wrong in (None, other):
            with pytest.raises(ServeError, match=r"its certificate is not trusted .* --tls-ca"):
                PolicyClient(address, api_key="k", tls_ca=wrong)
        with pytest.raises(ServeError, match=r"localhost.*not trusted .*[Hh]ostname"):
            PolicyClient(address.replace("127.0.0.1", "localhost"), api_key="k", tls_ca=cert)
        with pytest.raises(ServeError, match=r"no policy server answers"):
            PolicyClient(address.replace("wss", "ws"), api_key="k", timeout_s=5.0)
        remote = RemotePolicy(address, "k", tls_ca=cert)
        assert remote.contract.robot == "two-link"
        remote.close()


def test_other_machines_are_let_in_with_both_or_with_a_word(policy: Any, tmp_path: Path) -> None:
    tls = tls_context(*certificate(tmp_path, "robot"))
    with pytest.raises(ServeError, match=r"no API key .* give both"):
        PolicyServer(policy, host="0.0.0.0", tls=tls)
    PolicyServer(policy, host="0.0.0.0", tls=tls, api_key="k")
    PolicyServer(policy, host="0.0.0.0", insecure=True)


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    cert, _ = certificate(tmp_path, "robot")
    _, key = certificate(tmp_path, "other")
    for pair in ((cert, key), (tmp_path / "none.pem", key), (key, cert)):
        with pytest.raises(ServeError, match=r"TLS: cannot use .* give a PEM certificate and its key"):
            tls_context(*pair)
    with pytest.raises(ServeError, match=r"TLS: cannot use .* give a file of PEM certificates"):
        PolicyClient("wss://127.0.0.1:1", tls_ca=tmp_path / "none.pem")
