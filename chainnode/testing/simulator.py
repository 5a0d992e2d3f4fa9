"""The deterministic simulator: many nodes, virtual time, one seed decides everything.

A run has two phases. Under faults (`faults.FaultPlan`) safety must hold. Then the network heals,
everyone restarts, Byzantine nodes stay: all correct nodes must commit new blocks in bounded time.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Final

from chainnode.consensus.interface import ConsensusConfig, HeightState
from chainnode.testing.byzantine import EquivocatingNode, SilentNode
from chainnode.testing.faults import FaultPlan
from chainnode.testing.invariants import Invariants, Violation
from chainnode.testing.network import SimNetwork
from chainnode.testing.node import SimMessage, SimNode, SimSigner, TxGossip, wid_of
from chainnode.types.codec import tagged_hash
from chainnode.types.errors import ChainnodeError
from chainnode.types.validators import Validator, ValidatorSet
from chainnode.types.vote import CommitCertificate, Proposal, Vote

FAULT_PHASE_MS: Final = 15_000
LIVENESS_PHASE_MS: Final = 60_000
LIVENESS_HEIGHTS: Final = 2
EVENTS_MAX: Final = 400_000
GENESIS_TIME_MS: Final = 1_700_000_000_000
CRASH_ODDS_WHILE_WRITING: Final = 10
CODEC_SHARE: Final = 0.02
DISK_LOSS_SHARE: Final = 0.3


@dataclass(slots=True)
class Setup:
    """What a run is made of; tests swap parts to prove that the checks bite.

    Args:
        nodes: how many validators.
        node_class: the driver and engine of correct nodes.
        validator_set_class: how quorums are counted.
        plan: faults; drawn from the seed when None.
    """

    nodes: int = 4
    node_class: type[SimNode] = SimNode
    validator_set_class: type[ValidatorSet] = ValidatorSet
    plan: FaultPlan | None = None


@dataclass(slots=True)
class RunReport:
    """How one seed went."""

    seed: int
    violation: str
    events: int
    faults: int
    height: int
    trace_hash: str
    trace: list[str] = field(default_factory=list)


class Simulation:
    """One seed's run.

    Args:
        seed: decides every choice.
        setup: what runs.
        keep_trace: also keep the readable trace.
    """

    def __init__(self, seed: int, setup: Setup, *, keep_trace: bool = False) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.now_ms = GENESIS_TIME_MS
        self.events = 0
        self.faults = 0
        self.peer_faults = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._trace = hashlib.sha256()
        self._lines: list[str] | None = [] if keep_trace else None
        self._power_cuts = 0
        self._disk_losses = 0
        self._in_fault_phase = True
        self._seen_hashes: dict[int, list[bytes]] = {}
        self._setup = setup
        self.plan = setup.plan or FaultPlan.draw(self.random, setup.nodes, FAULT_PHASE_MS)
        self.network = SimNetwork(self.random, self.plan, self.schedule)
        self._make_chain(setup)
        self._make_nodes(setup)

    def _make_chain(self, setup: Setup) -> None:
        self.config = ConsensusConfig(chain_id="sim")
        signers = [SimSigner(index) for index in range(setup.nodes)]
        validators = setup.validator_set_class(
            Validator(signer.public_key, f"org-{index}", 1) for index, signer in enumerate(signers)
        )
        self.addresses = validators.addresses
        self.genesis = HeightState(
            height=1,
            previous_hash=tagged_hash(b"chainnode/genesis/v1", b"simulated"),
            previous_time_ms=GENESIS_TIME_MS,
            last_commit=CommitCertificate.empty(),
            validators=validators,
            last_validators=validators,
            next_validators=validators,
        )

    def _make_nodes(self, setup: Setup) -> None:
        plan = self.plan
        bad_keys = range(plan.byzantine_count)
        self.nodes: list[SimNode] = []
        self._by_address: dict[bytes, list[SimNode]] = {address: [] for address in self.addresses}
        classes = {"equivocate": EquivocatingNode, "silent": SilentNode}
        correct = [SimSigner(key) for key in range(plan.byzantine_count, setup.nodes)]
        honest_set = ValidatorSet(self.genesis.validators)
        keys = {validator.public_key: validator.address for validator in honest_set}
        self.invariants = Invariants(
            self.config.chain_id,
            honest_set,
            frozenset(keys[signer.public_key] for signer in correct),
            self.verify_batch,
        )
        for key in range(setup.nodes):
            bad = key in bad_keys
            node_class = classes.get(plan.byzantine, setup.node_class) if bad else setup.node_class
            self._add_node(node_class, key)
        if plan.byzantine == "twins":
            for key in bad_keys:
                self._add_node(setup.node_class, key)
        self.correct_nodes = [node for node in self.nodes if node.index in range(setup.nodes)]
        self.correct_nodes = self.correct_nodes[plan.byzantine_count :]

    def _add_node(self, node_class: type[SimNode], key: int) -> None:
        node = node_class(self, len(self.nodes), key)
        skew_ms = self.plan.clock_skew_ms_max
        node.skew_ms = self.random.randint(-skew_ms, skew_ms)
        self.nodes.append(node)
        self._by_address[node.address].append(node)

    # --- what nodes use ---------------------------------------------------------------------------

    def schedule(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run an action after a virtual delay."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._sequence, action))

    def verify_batch(
        self, keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
    ) -> list[bool]:
        """Check stand-in signatures."""
        return [
            hashlib.sha512(key + message).digest() == signature
            for key, message, signature in zip(keys, messages, signatures, strict=True)
        ]

    def sync_ms(self) -> int:
        """How long the next disk sync takes."""
        return self.random.randint(1, self.plan.sync_ms_max if self._in_fault_phase else 4)

    def send(self, sender: SimNode, address: bytes, message: SimMessage) -> None:
        """Carry a message to every instance with an address."""
        self.invariants.sent(message)
        if isinstance(message, Vote | Proposal):
            self._see(message)
            if self.random.random() < CODEC_SHARE:
                message = type(message).from_proto(message.to_proto())  # type: ignore[arg-type]
        for receiver in self._by_address[address]:
            if receiver is not sender:
                self._carry(sender, receiver, message)
        if isinstance(message, Vote):
            self._maybe_cut_power()

    def _carry(self, sender: SimNode, receiver: SimNode, message: SimMessage) -> None:
        def deliver() -> None:
            if receiver.alive:
                receiver.receive(sender.address, message)

        self.network.send(sender.index, receiver.index, deliver)

    def _see(self, message: Vote | Proposal) -> None:
        if isinstance(message, Proposal):
            hashes = self._seen_hashes.setdefault(message.height, [])
            block_hash = message.block.hash()
            if block_hash not in hashes:
                hashes.append(block_hash)

    def seen_hashes(self, height: int) -> list[bytes]:
        """Hashes of proposed blocks, for nodes that lie about them."""
        return self._seen_hashes.get(height, [])

    def note(self, node: int, what: str, height: int, round_number: int) -> None:
        """Add to the trace."""
        line = f"{self.now_ms - GENESIS_TIME_MS} {node} {what} {height}/{round_number}"
        self._trace.update(line.encode() + b"\n")
        if self._lines is not None:
            self._lines.append(line)

    # --- faults -----------------------------------------------------------------------------------

    def crashes_now(self, node: SimNode, writing: bool) -> bool:
        """Whether a node loses power at this effect boundary."""
        if not self._in_fault_phase or not self.plan.crash_share:
            return False
        odds = self.plan.crash_share * (CRASH_ODDS_WHILE_WRITING if writing else 1)
        down = sum(not other.alive for other in self.correct_nodes)
        if self.random.random() >= odds or down > (self._setup.nodes - 1) // 3:
            return False
        self._crash(node)
        return True

    def _crash(self, node: SimNode) -> None:
        self.faults += 1
        self.note(node.index, "crash", node.engine.height, node.engine.round)
        node.crash()
        lost = self._disk_losses < self.plan.disk_losses_max
        if lost and self.random.random() < DISK_LOSS_SHARE:
            self._disk_losses += 1
            self.note(node.index, "disk lost", node.engine.height, node.engine.round)
            node.disk.lose_everything()
            self.invariants.disk_lost(node.index)
        self.schedule(self.random.randint(1, self.plan.restart_ms_max), lambda: self._restart(node))

    def _restart(self, node: SimNode) -> None:
        if not node.alive:
            self.note(node.index, "restart", len(node.disk.blocks), 0)
            node.start()
            self.invariants.durable(node.index, node.disk)

    def _maybe_cut_power(self) -> None:
        plan = self.plan
        if not self._in_fault_phase or self._power_cuts >= plan.power_cuts_max:
            return
        if self.random.random() < plan.power_cut_share:
            self._power_cuts += 1
            for node in self.nodes:
                if node.alive:
                    self._crash(node)

    def _partition(self) -> None:
        """Halves, one alone, or one way; twins always end up on different sides."""
        indices = [node.index for node in self.nodes]
        twins = indices[self._setup.nodes :]
        rest = indices[: self._setup.nodes]
        self.random.shuffle(rest)
        if twins:
            bad = list(range(self.plan.byzantine_count))
            others = [index for index in rest if index not in bad]
            split = self.random.randint(1, len(others))
            left, right = bad + others[:split], twins + others[split:]
        else:
            split = self.random.choice((1, len(rest) // 2))
            left, right = rest[:split], rest[split:]
        self.network.partition(left, right, one_way=not twins and self.random.random() < 0.25)

    def _inject(self) -> None:
        body = self.random.randbytes(16)
        self.invariants.known_wids[wid_of(body)] = body
        first = self.random.choice(self.correct_nodes)
        for node in self.nodes:
            lost = self._in_fault_phase and self.random.random() < self.plan.gossip_loss_share
            if node is first or not lost:
                self._carry(first, node, TxGossip(body))
        if first.alive:
            first.submit(body)

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> RunReport:
        """Run both phases and report; a violation ends the run."""
        violation = ""
        try:
            self._fault_phase()
            self._liveness_phase()
        except Violation as finding:
            violation = str(finding)
        except ChainnodeError as error:
            violation = f"a correct node stopped: {error}"
        return RunReport(
            self.seed,
            violation,
            self.events,
            self.faults + self.network.faults,
            self.invariants.height,
            self._trace.hexdigest(),
            self._lines or [],
        )

    def _fault_phase(self) -> None:
        for start_ms, end_ms in self.plan.partitions:
            self.schedule(start_ms, self._partition)
            self.schedule(end_ms, self.network.reconnect)
        step_ms = self.random.randint(100, 1_000)
        for at_ms in range(0, FAULT_PHASE_MS, step_ms):
            self.schedule(at_ms, self._inject)
        self._run_until(lambda: False, GENESIS_TIME_MS + FAULT_PHASE_MS)

    def _liveness_phase(self) -> None:
        self._in_fault_phase = False
        self.network.heal()
        for node in self.nodes:
            self._restart(node)
        target = self.invariants.height + LIVENESS_HEIGHTS
        for at_ms in range(0, LIVENESS_PHASE_MS, 500):
            self.schedule(at_ms, self._inject)

        def reached() -> bool:
            return all(len(node.disk.blocks) >= target for node in self.correct_nodes)

        self._run_until(reached, self.now_ms + LIVENESS_PHASE_MS)
        if not reached():
            heights = [len(node.disk.blocks) for node in self.correct_nodes]
            raise Violation(f"liveness: heights {heights} after healing, wanted {target}")

    def _run_until(self, done: Callable[[], bool], end_ms: int) -> None:
        while self._heap and self._heap[0][0] <= end_ms and not done():
            self.now_ms, _, action = heapq.heappop(self._heap)
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Violation(f"bounded: more than {EVENTS_MAX} events")
            action()
        self.now_ms = max(self.now_ms, end_ms) if not done() else self.now_ms


def replay(
    seed: int, nodes: int = 4, engine: str = "tbft", setup: Setup | None = None
) -> dict[str, Any]:
    """Run one seed again, exactly, with its readable trace.

    Returns:
        The fields of `RunReport`; `violation` is empty when all invariants held.

    Raises:
        ChainnodeError: `UNKNOWN_ENGINE`.
    """
    _check_engine(engine)
    return asdict(Simulation(seed, setup or Setup(nodes=nodes), keep_trace=True).run())


def run_seeds(
    first_seed: int,
    seeds: int,
    nodes: int = 4,
    engine: str = "tbft",
    setup: Setup | None = None,
) -> dict[str, Any]:
    """Run consecutive seeds and report as `chainnode sim run --json` prints it.

    Returns:
        `seeds`, `events`, `faults`, `violations`, `failing` (seeds), `seeds_per_second`.

    Raises:
        ChainnodeError: `UNKNOWN_ENGINE`.
    """
    _check_engine(engine)
    started_s = time.perf_counter()
    reports = [
        Simulation(seed, setup or Setup(nodes=nodes)).run()
        for seed in range(first_seed, first_seed + seeds)
    ]
    failing = [report for report in reports if report.violation]
    elapsed_s = time.perf_counter() - started_s
    return {
        "seeds": seeds,
        "events": sum(report.events for report in reports),
        "faults": sum(report.faults for report in reports),
        "violations": len(failing),
        "failing": [report.seed for report in failing],
        "seeds_per_second": round(seeds / elapsed_s, 2) if elapsed_s else 0.0,
    }


def _check_engine(engine: str) -> None:
    if engine != "tbft":
        raise ChainnodeError(
            "UNKNOWN_ENGINE", f"no engine named {engine}", subject=engine, fix="use tbft"
        )
