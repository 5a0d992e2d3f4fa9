"""Certificates, identity directories, genesis and role permissions."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from chainnode import _native
from chainnode.identity import (
    Identity,
    IssuedKeys,
    Organisation,
    Service,
    build_genesis,
    check_role,
    create_organisation,
    issue_member,
    load_identity,
    load_organisation,
    save_identity,
    save_organisation,
)
from chainnode.identity.members import check_certificate, tls_key_hash
from chainnode.identity.roles import ALLOWED, service_of
from chainnode.types.errors import ClientFault, ConfigError
from chainnode.types.genesis import ChainConfig, Genesis
from chainnode.types.member import Role

SEED = b"a testnet's seed, known to all"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def bank() -> Organisation:
    return create_organisation("bank-a", "Bank A", testnet_seed=SEED, not_before=START)


@pytest.fixture(scope="module")
def node(bank: Organisation) -> Identity:
    keys = IssuedKeys.for_testnet(SEED, "bank-a", "node")
    return issue_member(bank, "node", Role.CONSENSUS, keys=keys, not_before=START)


def test_a_members_certificates_name_it_and_lead_to_its_organisation(
    bank: Organisation, node: Identity
) -> None:
    for certificate in (node.certificate, node.tls_certificate):
        check_certificate(certificate, bank.certificate, START + timedelta(days=1))
        parts = [
            certificate.subject.get_attributes_for_oid(oid)[0].value
            for oid in (
                NameOID.ORGANIZATION_NAME,
                NameOID.ORGANIZATIONAL_UNIT_NAME,
                NameOID.COMMON_NAME,
            )
        ]
        assert parts == ["bank-a", "consensus", "node"]
    names = node.tls_certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    record = node.record()
    assert record.address == node.address
    assert record.tls_key_hash == tls_key_hash(node.tls_certificate)
    assert record.not_before_ms == int(START.timestamp() * 1000)
    message = b"anything"
    assert _native.verify_ed25519(node.public_key, message, node.sign(message))


def test_the_tls_pair_is_one_that_tls_libraries_accept(node: Identity, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "cert.pem").write_bytes(node.tls_certificate_pem)
    (tmp_path / "key.pem").write_bytes(node.tls_key_pem)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    context.load_verify_locations(cadata=node.ca_bundle_pem.decode())


def test_a_testnets_seed_gives_the_same_bytes_again(bank: Organisation, node: Identity) -> None:
    again = create_organisation("bank-a", "Bank A", testnet_seed=SEED, not_before=START)
    assert again.certificate_pem == bank.certificate_pem
    keys = IssuedKeys.for_testnet(SEED, "bank-a", "node")
    twin = issue_member(again, "node", Role.CONSENSUS, keys=keys, not_before=START)
    assert twin.certificate_pem == node.certificate_pem
    assert twin.tls_key_pem == node.tls_key_pem
    other = IssuedKeys.for_testnet(SEED, "bank-a", "client")
    assert other.signing.public_key() != node.signing_key.public_key()
    with pytest.raises(ConfigError, match="SEED_TOO_SHORT"):
        IssuedKeys.for_testnet(b"short", "bank-a", "node")


def test_another_authority_or_another_time_is_refused(bank: Organisation, node: Identity) -> None:
    stranger = create_organisation("bank-a", "Not Bank A", not_before=START)
    cases = (
        (stranger.certificate, START, "CERTIFICATE_UNTRUSTED"),
        (bank.certificate, START + timedelta(days=366), "CERTIFICATE_EXPIRED"),
        (bank.certificate, START - timedelta(seconds=1), "CERTIFICATE_NOT_YET_VALID"),
    )
    for authority, now, code in cases:
        with pytest.raises(ClientFault) as caught:
            check_certificate(node.certificate, authority, now)
        assert caught.value.code == code


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_an_identity_survives_its_directory(
    node: Identity, tmp_path: Path, passphrase: bytes | None
) -> None:
    home = tmp_path / "node"
    save_identity(home, node, passphrase)
    save_identity(home, node, passphrase)
    loaded = load_identity(home, passphrase, now=START)
    assert loaded == Identity(
        node.organisation,
        node.role,
        node.name,
        loaded.signing_key,
        node.certificate,
        loaded.tls_key,
        node.tls_certificate,
        node.ca_bundle_pem,
    )
    assert loaded.record() == node.record()
    assert loaded.tls_key_pem == node.tls_key_pem
    assert {path.stat().st_mode & 0o777 for path in home.glob("*.key.pem")} == {0o600}
    secret = node.signing_key.private_bytes_raw()
    if passphrase:
        assert all(secret not in path.read_bytes() for path in home.iterdir())
        for wrong in (None, b"wrong"):
            with pytest.raises(ConfigError, match="PASSPHRASE_WRONG"):
                load_identity(home, wrong, now=START)


def test_a_broken_directory_is_refused_with_its_reason(
    bank: Organisation, node: Identity, tmp_path: Path
) -> None:
    def code_of(now: datetime = START) -> str:
        with pytest.raises((ConfigError, ClientFault)) as caught:
            load_identity(tmp_path, now=now)
        return caught.value.code

    assert code_of() == "IDENTITY_MISSING"
    save_identity(tmp_path, node)
    assert code_of(START + timedelta(days=400)) == "CERTIFICATE_EXPIRED"
    late = START + timedelta(days=400)
    assert load_identity(tmp_path, now=late, allow_expired=True).name == "node"
    (tmp_path / "sign.key.pem").chmod(0o640)
    assert code_of() == "KEY_FILE_EXPOSED"
    (tmp_path / "sign.key.pem").chmod(0o600)
    other = issue_member(bank, "other", Role.CLIENT, not_before=START)
    (tmp_path / "sign.cert.pem").write_bytes(other.certificate_pem)
    assert code_of() == "IDENTITY_INCONSISTENT"
    (tmp_path / "sign.cert.pem").write_bytes(b"no certificate")
    assert code_of() == "IDENTITY_MALFORMED"
    (tmp_path / "identity.json").write_text("{}")
    assert code_of() == "IDENTITY_MALFORMED"


def test_an_authority_survives_its_directory(bank: Organisation, tmp_path: Path) -> None:
    save_organisation(tmp_path / "ca", bank, b"secret")
    loaded = load_organisation(tmp_path / "ca", b"secret")
    assert (loaded.id, loaded.name) == ("bank-a", "Bank A")
    member = issue_member(loaded, "client", Role.CLIENT, not_before=START)
    check_certificate(member.certificate, bank.certificate, START)


def test_genesis_does_not_depend_on_the_order_of_its_parts(
    bank: Organisation, node: Identity
) -> None:
    other = create_organisation("bank-b", "Bank B", testnet_seed=SEED, not_before=START)
    members = [
        node.record(),
        issue_member(bank, "admin", Role.ADMIN, not_before=START).record(),
        issue_member(other, "node", Role.CONSENSUS, not_before=START).record(),
    ]
    organisations = [bank.record(), other.record()]
    config = ChainConfig(chain_id="test")
    genesis = build_genesis(config, 1, organisations, members)
    again = build_genesis(config, 1, organisations[::-1], members[::-1])
    assert genesis.genesis_hash() == again.genesis_hash()
    assert Genesis.decode(genesis.encode()) == genesis
    assert {item.organisation for item in genesis.validators} == {"bank-a", "bank-b"}
    with pytest.raises(ConfigError, match="NO_VALIDATORS"):
        build_genesis(config, 1, organisations, members[1:2])
    with pytest.raises(ClientFault, match="unknown 'bank-b'"):
        build_genesis(config, 1, organisations[:1], members)


def test_roles_open_exactly_their_services() -> None:
    check_role(service_of("/chainnode.v1.Tx/Submit"), Role.CLIENT, "bank-a/client")
    check_role(service_of("/chainnode.v1.Peer/Messages"), Role.CONSENSUS, "bank-a/node")
    refused = (
        ("/chainnode.v1.Tx/Submit", Role.LIGHT),
        ("/chainnode.v1.Peer/Messages", Role.ADMIN),
        ("/chainnode.v1.HeWorker/Recompute", Role.CLIENT),
        ("/chainnode.v1.Unknown/Method", Role.ADMIN),
        ("nonsense", Role.ADMIN),
    )
    for method, role in refused:
        with pytest.raises(ClientFault) as caught:
            check_role(service_of(method), role, "somebody")
        assert caught.value.code == "ROLE_NOT_ALLOWED"
    assert set(ALLOWED) == set(Service)


def test_every_service_of_the_protos_has_a_permission() -> None:
    text = "\n".join(
        path.read_text()
        for path in (Path(__file__).parents[2] / "protos" / "chainnode" / "v1").glob("*.proto")
    )
    service = ""
    found = 0
    for line in text.splitlines():
        words = line.replace("(", " ").split()
        if words[:1] == ["service"]:
            service = words[1]
        elif words[:1] == ["rpc"]:
            found += 1
            assert service_of(f"/chainnode.v1.{service}/{words[1]}"), f"{service}/{words[1]}"
    assert found > 10
