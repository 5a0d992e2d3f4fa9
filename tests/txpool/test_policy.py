"""Pool limits come from the chain's configuration; every refusal has an error with a next step."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chainnode._proto import node_pb2
from chainnode.txpool import create_pool, proposal_limits
from chainnode.types.admission import AdmissionCode, admission_fault
from chainnode.types.block import Architecture
from chainnode.types.genesis import ChainConfig
from chainnode.types.transaction import Payload, PayloadKind, encode_batch

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def transaction(size_bytes: int, expiry: int = 5) -> bytes:
    sender = KEY.public_key().public_bytes_raw()
    payload = Payload(
        "test", PayloadKind.INVOKE, "asset", "transfer", bytes(size_bytes), sender, expiry
    )
    return payload.sign(KEY).encode()


def test_the_pool_takes_the_chains_limits() -> None:
    config = ChainConfig(
        chain_id="test",
        expiry_window=7,
        transaction_size_max_bytes=5_000,
        block_size_max_bytes=3_000,
    )
    pool = create_pool(config, transactions_max=1)
    batch = encode_batch([transaction(4_000), transaction(10, 9), transaction(10), transaction(11)])
    assert list(pool.add(batch, 1).codes) == [
        AdmissionCode.TOO_LARGE,
        AdmissionCode.EXPIRY_TOO_FAR,
        AdmissionCode.ACCEPTED,
        AdmissionCode.POOL_FULL,
    ]


def test_a_block_takes_no_more_than_its_architecture_allows() -> None:
    config = ChainConfig(chain_id="test", block_size_max_bytes=3_000)
    small = proposal_limits(config, Architecture("ox-serial", 1, bytes(32), 250, 10))
    assert (small.transactions_max, small.size_max_bytes) == (250, 3_000)


def test_every_verdict_of_the_wire_has_its_meaning() -> None:
    names = {name.removeprefix("ADMISSION_"): code for name, code in node_pb2.Admission.items()}
    assert names.pop("UNSPECIFIED") == 0
    assert names == {item.name: item.value for item in AdmissionCode}
    for code in AdmissionCode:
        fault = admission_fault(code, b"\x01")
        if code in (AdmissionCode.ACCEPTED, AdmissionCode.KNOWN):
            assert fault is None
        else:
            assert fault is not None
            assert fault.fix
            assert fault.subject == "01"
    full = admission_fault(AdmissionCode.POOL_FULL, b"")
    assert full is not None
    assert full.retry == "after"
    assert full.retry_after_ms > 0
    unknown = admission_fault(99, b"")
    assert unknown is not None
    assert unknown.code == "REFUSED"
