"""What the contract stores, emits and refuses with."""

from __future__ import annotations

from dataclasses import dataclass

from chainnode.contract import (
    Address,
    Bytes32,
    Error,
    error,
    event,
    u64,
)

# Status of a council epoch
EPOCH_OPEN = 0
EPOCH_TESTING = 1
EPOCH_ACTIVE = 2
EPOCH_FAILED = 3
EPOCH_RETIRED = 4

# Status of a query
QUERY_COMPUTING = 0
QUERY_CHECKING = 1
QUERY_RELEASING = 2
QUERY_RELEASED = 3
QUERY_CLOSED = 4
QUERY_REFUSED = 5
QUERY_EXPIRED = 6

KIND_AGGREGATE = 0
KIND_SCORES = 1
KIND_CHECK = 2

NOTHING = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
COLUMNS_REPLACED = "COLUMNS_REPLACED"
SELECTORS_MALFORMED = "SELECTORS_MALFORMED"
SELECTORS_MISSING = "SELECTORS_MISSING"
POINTS_MALFORMED = "PRIVATE_POINTS_MALFORMED"
POINTS_MISSING = "PRIVATE_POINTS_MISSING"
CONSENT_MALFORMED = "CONSENT_MALFORMED"
CONSENT_MISSING = "CONSENT_MISSING"

ROUNDS = 2
MEMBERS_MAX = 8
PROFILES_MIN = 2
CHUNKS_MAX = 4096
OUTPUTS_MAX = 4096
OUTPUTS_ALLOWED = 64
DENIED_COLUMNS_MAX = 64
NAME_SIZE_MAX_BYTES = 256


@dataclass(frozen=True)
class Council:
    """The organisations that hold the key, any `threshold` of which open a result together.

    `profiles`: parameter sets a ceremony makes keys for: S and S36, and M if it is asked for."""

    organisations: list[str]
    threshold: u64
    profiles: list[str]
    keyholder_name: str
    worker_name: str
    chunk_deadline_ms: u64
    share_deadline_ms: u64
    query_deadline_ms: u64


@dataclass(frozen=True)
class Epoch:
    """`pieces`: who holds each piece of the key, as a bit mask over `organisations`."""

    status: u64
    organisations: list[str]
    threshold: u64
    profiles: list[str]
    pieces: list[u64]
    seed: Bytes32
    test_seed: bytes


@dataclass(frozen=True)
class Table:
    """`registry` is the blob with the enterprise ids in row order, one a line."""

    organisation: str
    owners: list[str]
    schema_hash: Bytes32
    registry: Bytes32
    minimum_group: u64


@dataclass(frozen=True)
class ColumnSet:
    """One owner's encrypted columns of a profile; `manifest` is the blob naming every block.

    `proof` is the place of a proof of honest encryption; empty until there are any."""

    epoch: u64
    block_count: u64
    root: Bytes32
    manifest: Bytes32
    proof: bytes


@dataclass(frozen=True)
class Consent:
    """One owner's word on one purpose; `bitmap` is the blob with one bit per row.

    `until_height`: last block at which a query may still be submitted under it; 0 for no end."""

    bitmap: Bytes32
    until_height: u64


@dataclass(frozen=True)
class OwnerPolicy:
    """What one owner allows; a query must satisfy every owner's.

    `denied_columns`: SQL columns no aggregate may use; `outputs_max`: scalars a query may open."""

    denied_columns: list[str]
    scores_allowed: bool
    outputs_max: u64


@dataclass(frozen=True)
class Keys:
    """Hashes of the blobs that hold the joint keys; those of M are empty in an epoch without."""

    public_key_s: Bytes32
    public_key_s36: Bytes32
    public_key_m: bytes
    relin_key_s36: Bytes32
    relin_key_m: bytes


@dataclass(frozen=True)
class Ask:
    """A query as the bank states it: its plan's hash and shape, and where the answer goes.

    `profile`: parameter set whose columns the plan reads; `purpose`: what the bank wants single
    rows for, which owners' consents are about."""

    table: str
    epoch: u64
    profile: str
    purpose: str
    kind: u64
    plan_hash: Bytes32
    chunk_count: u64
    output_count: u64
    check_count: u64
    reply_key: Bytes32
    target_key: Bytes32


@dataclass(frozen=True)
class OwnerInput:
    """What a query reads of one owner, as it stood when the query was submitted.

    Zeros where there is nothing: no columns of the profile, no consent, or none that is read.
    `audit_required` is this owner's demand on the table, `audited` what stood for its columns."""

    root: Bytes32
    manifest: Bytes32
    block_count: u64
    consent: Bytes32
    policy: OwnerPolicy
    audit_required: bool
    audited: bool


@dataclass(frozen=True)
class Query:
    """`phase_ms`: block time at which the reduction, and later the release, began; 0 before."""

    bank: str
    sender: Address
    height: u64
    time_ms: u64
    phase_ms: u64


@dataclass(frozen=True)
class InputFault:
    """What an organisation finds wrong with what a query reads.

    Of an owner's columns `root` is that of the publication, zeros for none; of selectors, which
    the bank encrypted, it is the plan's hash, and `block` a selector's place. Of private points it
    is the SHA-256 of the model's record, `column` the model, and `block` a ciphertext's place. Of a
    consent it is the blob that the owner stated.
    `owner` is whose they are; `column` is empty if all of them are wrong."""

    code: str
    owner: str
    profile: str
    root: Bytes32
    column: str
    block: u64


@dataclass(frozen=True)
class Chunk:
    """How far a chunk is; `reserve`: the reserve workers may take part; `open_ms`: block time from
    which results may be shown, 0 before."""

    commits: u64
    reveals: u64
    reserve: bool
    open_ms: u64


@error
class NotAllowed(Error):
    organisation: str
    needs: str


@error
class AlreadyDone(Error):
    what: str


@error
class WrongState(Error):
    what: str
    status: u64


@error
class Invalid(Error):
    field: str


@error
class StaleEpoch(Error):
    epoch: u64
    active: u64


@error
class BudgetExceeded(Error):
    table: str
    budget: u64
    used: u64


@error
class PolicyDenied(Error):
    owner: str
    rule: str


@error
class ModelMisnamed(Error):
    table: str
    name: str


@event
class CatalogChanged:
    """`value`: what was stated: a budget; epoch and root; a consent's blob and end; a hash."""

    table: str
    organisation: str
    step: str
    subject: str
    value: bytes


@event
class ColumnsAudited:
    """What an organisation found when it had an owner's columns opened or checked."""

    table: str
    owner: str
    profile: str
    root: Bytes32
    auditor: str
    outcome: str
    detail: str


@event
class CouncilStep:
    epoch: u64
    step: str
    organisation: str


@event
class EpochOpened:
    """Who shall hold an epoch's key, any `threshold` of them, with keys of which profiles.

    With it a receipt alone shows whose workers and keyholders a query of the epoch is for."""

    epoch: u64
    organisations: list[str]
    threshold: u64
    profiles: list[str]


@event
class EpochKeys:
    """The joint keys that all members of an epoch computed alike: hashes as in `Keys`."""

    epoch: u64
    public_key_s: Bytes32
    public_key_s36: Bytes32
    public_key_m: bytes
    relin_key_s36: Bytes32
    relin_key_m: bytes


@event
class ChunkStep:
    """`value`: the commitment, or the result's hash; empty where there is none."""

    query: Bytes32
    index: u64
    step: str
    organisation: str
    value: bytes


@event
class QueryFinalised:
    """What keyholders believe by proof; `terms` binds who asked what and who receives it."""

    query: Bytes32
    result: Bytes32
    terms: Bytes32


@event
class QueryStep:
    query: Bytes32
    step: str
    organisation: str
    detail: str


@event
class ShareCommitted:
    """What a member bound itself to before any share of a vector was shown."""

    query: Bytes32
    organisation: str
    commitment: Bytes32


@event
class ShareStated:
    """What a member says its share is: for which result and epoch, and the hash of each piece.

    With it a receipt alone shows whether the commitment was opened and whether copies differ."""

    query: Bytes32
    organisation: str
    epoch: u64
    result: Bytes32
    digests: list[bytes]


@event
class MemberFault:
    """Evidence: what an organisation did wrong in a query, and who or what shows it."""

    query: Bytes32
    organisation: str
    fault: str
    shown_by: str


def names_itself(model: bytes, name: str) -> bool:
    """Whether the record of a model, canonical JSON, states this name.

    Inside a JSON text a quote has a backslash before it, so what is found is a field; quotes and
    backslashes in names, which a record spells otherwise, are in no name."""
    spelled = name.encode()
    for byte in spelled:
        if byte == 34 or byte == 92:
            return False
    stated = b',"name":"' + spelled + b'",'
    for start in range(len(model)):
        if model[start] == 44 and model[start : start + len(stated)] == stated:
            return True
    return False


def bit_of(place: int) -> int:
    """2 to the power of a place."""
    bit = 1
    for _ in range(place):
        bit = 2 * bit
    return bit


def holder_masks(members: int, holders: int) -> list[u64]:
    """Every set of `holders` members as a bit mask, in ascending order."""
    found: list[u64] = []
    for mask in range(bit_of(members)):
        bits = 0
        rest = mask
        while rest > 0:
            bits += rest % 2
            rest = rest // 2
        if bits == holders:
            found.append(mask)
    return found
