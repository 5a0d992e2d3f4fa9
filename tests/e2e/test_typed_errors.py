"""What goes wrong has one typed error that says what to do, from the SDK and the CLI alike."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chainnode._proto import types_pb2
from chainnode.cli.context import description, identity_of
from chainnode.cli.output import EXIT_REJECTED
from chainnode.contract import abi
from chainnode.contract.package import build
from chainnode.identity import Identity, load_identity, save_identity
from chainnode.identity.authority import create_organisation
from chainnode.identity.members import issue_member
from chainnode.sdk.client import AsyncClient
from chainnode.types.errors import ChainnodeError, ClientFault
from chainnode.types.member import Role
from examples.bank_scoring.network import free_base_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]
COMMAND = [sys.executable, "-c", "from chainnode.cli.main import main; main()"]
ASSET = str(Path(__file__).resolve().parents[2] / "contracts" / "asset")
SETUP = ("--arg", "name=points", "--arg", "decimals=2")


@dataclass(frozen=True)
class Network:
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = ("--network", str(self.folder))
        return subprocess.run(
            [*COMMAND, *arguments, *where], capture_output=True, text=True, timeout=60
        )

    def refused(self, code: str, advice: str, *arguments: str) -> None:
        """The command line refuses with this code and advice, without a stack trace."""
        ran = self.run(*arguments)
        assert ran.returncode == EXIT_REJECTED, ran.stderr
        assert ran.stderr.startswith(f"{code}: "), ran.stderr
        assert advice in ran.stderr.partition("Next: ")[2], ran.stderr
        assert "Traceback" not in ran.stderr

    def client(self, member: str | Identity) -> AsyncClient:
        described = description(self.folder)
        identity = identity_of(self.folder, member) if isinstance(member, str) else member
        endpoints = [node["grpc"] for node in described["nodes"]]
        return AsyncClient(endpoints, identity, Path(described["genesis"]))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("typed-errors") / "net"
    place = ("--data-dir", str(folder))
    port = ("--base-port", str(free_base_port()))
    up = subprocess.run(
        [*COMMAND, "testnet", "up", "--no-services", *port, *place],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert up.returncode == 0, up.stderr
    running = Network(folder)
    endorsed = ("--as", "bank-a/admin", "--endorse", "guarantor/admin")
    deployed = running.run("contract", "deploy", ASSET, *SETUP, *endorsed)
    assert deployed.returncode == 0, deployed.stderr
    yield running
    subprocess.run([*COMMAND, "testnet", "down", *place], check=True, capture_output=True)


async def test_an_unknown_contract(network: Network) -> None:
    async with network.client("bank-a/client") as client:
        with pytest.raises(ClientFault) as refused:
            await client.contract("nothing").submit("pay")
    assert (refused.value.code, refused.value.subject) == ("CONTRACT_NOT_FOUND", "nothing")
    network.refused("CONTRACT_NOT_FOUND", "deploy", "contract", "call", "nothing", "pay")


async def test_too_few_signers(network: Network) -> None:
    built = build(ASSET)
    setup = abi.encode_args(built.abi_json, "setup", {"name": "points", "decimals": 2})
    package = types_pb2.ContractPackage.FromString(built.package(setup))
    package.name = "lonely"
    async with network.client("bank-a/admin") as client:
        with pytest.raises(ClientFault) as refused:
            await client.deploy(package, [])
    assert refused.value.code == "POLICY_NOT_MET"
    assert "needs admins of 2 organisations" in refused.value.message
    network.refused(
        "POLICY_NOT_MET", "--endorse", "contract", "deploy", ASSET, *SETUP, "--as", "bank-a/admin"
    )


async def test_a_signer_that_the_contract_refuses(network: Network) -> None:
    client_address = identity_of(network.folder, "bank-a/client").address
    async with network.client("bank-a/client") as client:
        with pytest.raises(ClientFault) as refused:
            await client.contract("asset").submit("issue", to=client_address, amount=1)
    assert refused.value.code == "REVERTED"
    assert f"NotIssuer (sender {client_address.hex()})" in refused.value.message
    call = ("contract", "call", "asset", "issue", "--arg", "to=@bank-a/client", "--arg", "amount=1")
    network.refused("REVERTED", "chainnode tx get", *call, "--as", "bank-a/client")


async def test_an_expired_certificate(network: Network, tmp_path: Path) -> None:
    authority = create_organisation("bank-a", "Bank A")
    long_ago = datetime.now(UTC) - timedelta(days=30)
    expired = issue_member(authority, "client", Role.CLIENT, not_before=long_ago, validity_days=7)
    save_identity(tmp_path / "expired", expired)
    with pytest.raises(ClientFault) as refused:
        load_identity(tmp_path / "expired")
    assert refused.value.code == "CERTIFICATE_EXPIRED"
    assert "renew" in refused.value.fix

    elsewhere = Network(tmp_path / "network")
    elsewhere.folder.mkdir()
    described = description(network.folder)
    described["identities"]["bank-a/client"] = str(tmp_path / "expired")
    (elsewhere.folder / "testnet.json").write_text(json.dumps(described))
    elsewhere.refused("CERTIFICATE_EXPIRED", "renew", "chain", "info", "--as", "bank-a/client")


async def test_a_key_that_is_no_members(network: Network, tmp_path: Path) -> None:
    """Only the signature decides: TLS is a member's, the signing key is a stranger's."""
    known = identity_of(network.folder, "bank-a/client")
    stranger = issue_member(create_organisation("bank-a", "Bank A"), "client", Role.CLIENT)
    shutil.copytree(
        Path(description(network.folder)["identities"]["bank-a/client"]), tmp_path / "mixed"
    )
    save_identity(tmp_path / "mixed", stranger)
    for name, data in (
        ("tls.cert.pem", known.tls_certificate_pem),
        ("ca.pem", known.ca_bundle_pem),
    ):
        (tmp_path / "mixed" / name).write_bytes(data)
    source = Path(description(network.folder)["identities"]["bank-a/client"])
    shutil.copy(source / "tls.key.pem", tmp_path / "mixed" / "tls.key.pem")
    async with network.client(load_identity(tmp_path / "mixed")) as client:
        with pytest.raises(ChainnodeError) as refused:
            await client.contract("asset").submit("transfer", to=known.address, amount=1)
    assert refused.value.code == "TX_UNKNOWN_MEMBER"
    assert "sign" in refused.value.fix


async def test_arguments_that_do_not_fit(network: Network) -> None:
    async with network.client("bank-a/client") as client:
        with pytest.raises(ClientFault) as refused:
            await client.contract("asset").submit("transfer", to=bytes(32))
    assert (refused.value.code, refused.value.subject) == ("INVALID_ARGUMENTS", "amount")
    network.refused(
        "INVALID_ARGUMENTS", "amount: u64", "contract", "call", "asset", "transfer",
        "--arg", "to=@bank-a/client",
    )  # fmt: skip
    network.refused("UNKNOWN_METHOD", "transfer", "contract", "call", "asset", "trnsfer")
