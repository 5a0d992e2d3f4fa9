"""The key council: who holds the joint key, the ceremony that makes it, its rotation."""

from __future__ import annotations

from chainnode.contract import (
    Bytes32,
    Contract,
    Map,
    Var,
    call,
    ctx,
    emit,
    init,
    sha256,
    u64,
    view,
)

from .records import (
    EPOCH_ACTIVE,
    EPOCH_FAILED,
    EPOCH_OPEN,
    EPOCH_RETIRED,
    EPOCH_TESTING,
    MEMBERS_MAX,
    PROFILES_MIN,
    ROUNDS,
    AlreadyDone,
    Council,
    CouncilStep,
    Epoch,
    EpochKeys,
    EpochOpened,
    Invalid,
    Keys,
    NotAllowed,
    WrongState,
    holder_masks,
)


class KeyCouncil(Contract):
    """Members, epochs and what each member posted in a step."""

    council: Var[Council]
    sealing_keys: Map[str, bytes]
    current_epoch: Var[u64]
    active_epoch: Var[u64]
    epochs: Map[u64, Epoch]
    keys: Map[u64, Keys]
    posts: Map[tuple[bytes, str, str], bytes]
    post_counts_of: Map[tuple[bytes, str], u64]

    @init
    def setup(self, council: Council) -> None:
        self._check_council(council.organisations, council.threshold, council.profiles)
        self.council.set(council)
        self.current_epoch.set(0)
        self.active_epoch.set(0)

    @call
    def enrol_keyholder(self, sealing_key: Bytes32) -> None:
        """Publish the X25519 key other keyholders seal shares and key pieces to."""
        self._require_keyholder(self.current_epoch.get())
        self.sealing_keys[ctx.sender_org] = sealing_key
        emit(CouncilStep(self.current_epoch.get(), "enrolled", ctx.sender_org))

    @call
    def open_epoch(self) -> u64:
        """Begin the first key ceremony, or start an unfinished one over; see `rotate`."""
        last = self.current_epoch.get()
        self._require_keyholder(last)
        if last == 0:
            council = self.council.get()
            return self._open_epoch(council.organisations, council.threshold, council.profiles)
        epoch = self.epochs[last]
        if epoch.status == EPOCH_ACTIVE or epoch.status == EPOCH_RETIRED:
            raise NotAllowed(ctx.sender_org, "rotate, by a majority of admins")
        if epoch.status != EPOCH_FAILED:
            self._close_epoch(last, EPOCH_FAILED, "failed: started over")
        return self._open_epoch(epoch.organisations, epoch.threshold, epoch.profiles)

    @call
    def rotate(self, organisations: list[str], threshold: u64, profiles: list[str]) -> None:
        """An admin's vote for a new epoch held by these, with keys of these profiles.

        A majority of the council opens it. Until it is active, and for tables not encrypted again,
        the old one goes on answering."""
        last = self.current_epoch.get()
        if ctx.sender_role != "admin":
            raise NotAllowed(ctx.sender_org, "admin")
        self._require_member(ctx.sender_org)
        self._require_epoch(last, EPOCH_ACTIVE)
        self._check_council(organisations, threshold, profiles)
        proposal = last.to_bytes(8, "big") + threshold.to_bytes(8, "big")
        for organisation in organisations:
            proposal += organisation.encode() + b"/"
        for profile in profiles:
            proposal += b"+" + profile.encode()
        votes = self._post(proposal, "rotate", b"yes")
        emit(CouncilStep(last + 1, "rotation approved", ctx.sender_org))
        if 2 * votes > len(self.council.get().organisations):
            self._open_epoch(organisations, threshold, profiles)

    @call
    def commit(self, epoch: u64, round: u64, commitment: Bytes32) -> None:
        self._require_ceremony(epoch, EPOCH_OPEN, round)
        if round > 1 and self._count(self._place(epoch), "reveal 1") < self._size(epoch):
            raise WrongState("reveals of round", round - 1)
        self._epoch_step(epoch, self._round_step("commit", round), commitment)

    @call
    def reveal(self, epoch: u64, round: u64, blob: Bytes32) -> None:
        """Name the committed message; refused until every member has committed."""
        self._require_ceremony(epoch, EPOCH_OPEN, round)
        place = self._place(epoch)
        step = self._round_step("commit", round)
        if self._count(place, step) < self._size(epoch):
            raise WrongState("commitments of round", round)
        bound = place + round.to_bytes(8, "big") + blob + ctx.sender_org.encode()
        opened = sha256(b"chainnode/council-commit/v1" + bound)
        if opened != self.posts[(place, step, ctx.sender_org)]:
            raise Invalid("commitment")
        self._epoch_step(epoch, self._round_step("reveal", round), blob)

    @call
    def fail_epoch(self, epoch: u64, organisation: str, fault: str) -> None:
        """A member's message is none to make keys of: one other's word ends the ceremony.

        Everybody can look: the message is known by its hash. Both names stand on chain."""
        self._require_ceremony(epoch, EPOCH_OPEN, ROUNDS)
        if organisation not in self._members(epoch):
            raise Invalid("organisation")
        step = self._round_step("reveal", 1)
        if (self._place(epoch), step, organisation) not in self.posts:
            raise WrongState("reveals of round", 1)
        self._close_epoch(epoch, EPOCH_FAILED, "failed: " + organisation + ": " + fault)

    @call
    def submit_keys(self, epoch: u64, keys: Keys) -> None:
        """State the aggregated keys this member computed; all equal fixes them."""
        self._require_ceremony(epoch, EPOCH_OPEN, ROUNDS)
        if self._count(self._place(epoch), "reveal 2") < self._size(epoch):
            raise WrongState("reveals of round", 2)
        deep = 32 if len(self.epochs[epoch].profiles) > PROFILES_MIN else 0
        if len(keys.public_key_m) != deep or len(keys.relin_key_m) != deep:
            raise Invalid("keys of M")
        known = self.keys.get(epoch, keys)
        if (
            known.public_key_s != keys.public_key_s
            or known.public_key_s36 != keys.public_key_s36
            or known.public_key_m != keys.public_key_m
            or known.relin_key_s36 != keys.relin_key_s36
            or known.relin_key_m != keys.relin_key_m
        ):
            self._close_epoch(epoch, EPOCH_FAILED, "failed: aggregated keys differ")
            return
        self.keys[epoch] = known
        if self._epoch_step(epoch, "keys", b"") == self._size(epoch):
            emit(
                EpochKeys(
                    epoch,
                    known.public_key_s,
                    known.public_key_s36,
                    known.public_key_m,
                    known.relin_key_s36,
                    known.relin_key_m,
                )
            )
            self._close_epoch(epoch, EPOCH_TESTING, "testing")

    @call
    def post_test(self, epoch: u64, shares: bytes) -> None:
        """Open the test vectors drawn from the test seed: this member's shares, in the clear."""
        self._require_ceremony(epoch, EPOCH_TESTING, ROUNDS)
        self._epoch_step(epoch, "test shares", shares)

    @call
    def vote_test(self, epoch: u64, fault: str) -> None:
        """What was wrong with the test shares, or nothing; all "nothing" activates."""
        self._require_ceremony(epoch, EPOCH_TESTING, ROUNDS)
        if self._count(self._place(epoch), "test shares") < self._size(epoch):
            raise WrongState("test shares", EPOCH_TESTING)
        if fault != "":
            self._close_epoch(epoch, EPOCH_FAILED, "failed: " + fault)
        elif self._epoch_step(epoch, "verdict", b"") == self._size(epoch):
            self._activate(epoch)

    @view
    def council_info(self) -> Council:
        return self.council.get()

    @view
    def sealing_key_list(self, epoch: u64) -> list[bytes]:
        """X25519 keys in council order, empty where a keyholder is not enrolled."""
        found: list[bytes] = []
        for organisation in self._members(epoch):
            found.append(self.sealing_keys.get(organisation, b""))
        return found

    @view
    def epoch_info(self, epoch: u64) -> tuple[u64, u64, bytes, bytes]:
        """(epoch, status, seed, test seed or empty); epoch 0 asks for the latest."""
        asked = self.current_epoch.get() if epoch == 0 else epoch
        if asked not in self.epochs:
            return (asked, EPOCH_FAILED, b"", b"")
        found = self.epochs[asked]
        return (asked, found.status, found.seed, found.test_seed)

    @view
    def latest_active_epoch(self) -> u64:
        return self.active_epoch.get()

    @view
    def epoch_members(self, epoch: u64) -> tuple[list[str], u64]:
        """(organisations, threshold); epoch 0 asks for the council as it is."""
        if epoch not in self.epochs:
            return (self.council.get().organisations, self.council.get().threshold)
        return (self.epochs[epoch].organisations, self.epochs[epoch].threshold)

    @view
    def epoch_profiles(self, epoch: u64) -> list[str]:
        """Parameter sets an epoch has keys for; epoch 0 asks for the council as it is."""
        if epoch not in self.epochs:
            return self.council.get().profiles
        return self.epochs[epoch].profiles

    @view
    def posts_of(self, epoch: u64, subject: bytes, step: str) -> list[bytes]:
        """What members posted in a step, in council order; empty where missing.

        `subject` is a query, or an epoch in 8 bytes. Steps without content hold one zero byte. Of
        a step with long posts ask `post_of`: all together would be longer than a view's result."""
        found: list[bytes] = []
        for organisation in self._members(epoch):
            found.append(self.posts.get((subject, step, organisation), b""))
        return found

    @view
    def posters_of(self, epoch: u64, subject: bytes, step: str) -> list[str]:
        """Who posted in a step, in council order."""
        found: list[str] = []
        for organisation in self._members(epoch):
            if (subject, step, organisation) in self.posts:
                found.append(organisation)
        return found

    @view
    def post_of(self, subject: bytes, step: str, organisation: str) -> bytes:
        """What one member posted in a step; empty where missing."""
        return self.posts.get((subject, step, organisation), b"")

    @view
    def keys_of(self, epoch: u64) -> Keys:
        if epoch not in self.keys:
            raise Invalid("epoch keys")
        return self.keys[epoch]

    def _members(self, epoch: u64) -> list[str]:
        if epoch in self.epochs:
            return self.epochs[epoch].organisations
        return self.council.get().organisations

    def _seat(self, epoch: u64) -> int:
        """The sender's position in an epoch's council."""
        members = self._members(epoch)
        for seat in range(len(members)):
            if members[seat] == ctx.sender_org:
                return seat
        raise NotAllowed(ctx.sender_org, "council member")

    def _size(self, epoch: u64) -> int:
        return len(self._members(epoch))

    def _status(self, epoch: u64) -> int:
        return self.epochs[epoch].status if epoch in self.epochs else EPOCH_FAILED

    def _check_council(self, organisations: list[str], threshold: u64, profiles: list[str]) -> None:
        size = len(organisations)
        if size < 2 or size > MEMBERS_MAX or threshold < 1 or threshold > size:
            raise Invalid("organisations or threshold")
        known = ["S", "S36", "M"]
        if len(profiles) < PROFILES_MIN or len(profiles) > len(known):
            raise Invalid("profiles")
        for place in range(len(profiles)):
            if profiles[place] != known[place]:
                raise Invalid("profiles")

    def _require_member(self, organisation: str) -> None:
        if organisation not in self.council.get().organisations:
            raise NotAllowed(organisation, "council member")

    def _require_service(self, epoch: u64, name: str) -> None:
        if ctx.sender_org not in self._members(epoch):
            raise NotAllowed(ctx.sender_org, "council member")
        if ctx.sender_role != "common" or ctx.sender_name != name:
            raise NotAllowed(ctx.sender_org, name)

    def _require_keyholder(self, epoch: u64) -> None:
        self._require_service(epoch, self.council.get().keyholder_name)

    def _require_time(self, allowed_ms: u64) -> None:
        if ctx.time_ms < allowed_ms:
            raise WrongState("time, allowed from", allowed_ms)

    def _require_epoch(self, epoch: u64, status: u64) -> None:
        if self._status(epoch) != status:
            raise WrongState("epoch", self._status(epoch))

    def _require_ceremony(self, epoch: u64, status: u64, round: u64) -> None:
        self._require_epoch(epoch, status)
        self._require_keyholder(epoch)
        if round < 1 or round > ROUNDS:
            raise Invalid("round")

    def _open_epoch(self, organisations: list[str], threshold: u64, profiles: list[str]) -> u64:
        epoch = self.current_epoch.get() + 1
        seed = sha256(b"chainnode/epoch-seed/v1" + self._place(epoch) + ctx.tx_id)
        pieces = holder_masks(len(organisations), len(organisations) - threshold + 1)
        self.epochs[epoch] = Epoch(
            EPOCH_OPEN, organisations, threshold, profiles, pieces, seed, b""
        )
        self.current_epoch.set(epoch)
        emit(CouncilStep(epoch, "opened", ctx.sender_org))
        emit(EpochOpened(epoch, organisations, threshold, profiles))
        return epoch

    def _activate(self, epoch: u64) -> None:
        """The epoch before goes on answering for tables not encrypted again; older ones end."""
        self._close_epoch(epoch, EPOCH_ACTIVE, "active")
        before = self.active_epoch.get()
        for old in range(1, before):
            if self._status(old) == EPOCH_ACTIVE:
                self._close_epoch(old, EPOCH_RETIRED, "retired")
        self.active_epoch.set(epoch)
        found = self.epochs[epoch]
        now = self.council.get()
        self.council.set(
            Council(
                found.organisations,
                found.threshold,
                found.profiles,
                now.keyholder_name,
                now.worker_name,
                now.chunk_deadline_ms,
                now.share_deadline_ms,
                now.query_deadline_ms,
            )
        )

    def _place(self, epoch: u64) -> bytes:
        return epoch.to_bytes(8, "big")

    def _round_step(self, what: str, round: u64) -> str:
        return what + (" 1" if round == 1 else " 2")

    def _count(self, subject: bytes, step: str) -> int:
        return self.post_counts_of.get((subject, step), 0)

    def _post(self, subject: bytes, step: str, content: bytes) -> int:
        """Record what the sender posts in this step, once; how many members have."""
        key = (subject, step, ctx.sender_org)
        if key in self.posts:
            raise AlreadyDone(step)
        self.posts[key] = content if len(content) > 0 else b"\x00"
        count = self._count(subject, step) + 1
        self.post_counts_of[(subject, step)] = count
        return count

    def _epoch_step(self, epoch: u64, step: str, content: bytes) -> int:
        count = self._post(self._place(epoch), step, content)
        emit(CouncilStep(epoch, step, ctx.sender_org))
        return count

    def _close_epoch(self, epoch: u64, status: u64, step: str) -> None:
        found = self.epochs[epoch]
        test_seed = found.test_seed
        if status == EPOCH_TESTING:
            test_seed = sha256(b"chainnode/epoch-test/v1" + found.seed + ctx.tx_id)
        self.epochs[epoch] = Epoch(
            status,
            found.organisations,
            found.threshold,
            found.profiles,
            found.pieces,
            found.seed,
            test_seed,
        )
        emit(CouncilStep(epoch, step, ctx.sender_org))
