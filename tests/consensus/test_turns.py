"""Proposers that missed their slot are skipped, the same ones on every node."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from chainnode.consensus.turns import ERA_HEIGHTS, FIRST_LEVEL, LEVEL_MAX, Turns
from chainnode.testing import Setup, Simulation
from chainnode.testing.faults import FaultPlan
from chainnode.types.validators import Validator, ValidatorSet

CHAIN = ValidatorSet(Validator(bytes([index]) * 32, f"org-{index}", 1) for index in range(4))


class Blocks:
    """Decides heights: live proposers propose, the turn passes on over silent ones."""

    def __init__(self, validators: ValidatorSet = CHAIN) -> None:
        self.validators = validators
        self.turns = Turns()
        self.height = 1
        self.last_round = 0
        self.rounds: list[int] = []
        self.history: list[tuple[int, bytes, int]] = []

    def run(self, heights: int, silent: frozenset[bytes] = frozenset()) -> None:
        for _ in range(heights):
            round_number = 0
            while (proposer := self._proposer(round_number)) in silent:
                round_number += 1
            self.decide(proposer, round_number)

    def decide(self, proposer: bytes, round_number: int) -> None:
        self.history.append((self.height, proposer, self.last_round))
        self.turns = self.turns.after(self.validators, *self.history[-1])
        self.rounds.append(round_number)
        self.last_round = round_number
        self.height += 1

    def _proposer(self, round_number: int) -> bytes:
        return self.turns.proposer(self.validators, self.height, round_number)


def test_one_silent_validator_costs_few_rounds_instead_of_every_fourth() -> None:
    blocks = Blocks()
    blocks.run(1_000, frozenset({CHAIN.addresses[2]}))
    late = [height for height, rounds in enumerate(blocks.rounds, 1) if rounds]
    assert 3 <= len(late) <= 7
    gaps = [after - before for before, after in pairwise(late)]
    assert gaps == sorted(gaps), "every pause is longer than the one before"
    assert set(blocks.rounds) == {0, 1}


def test_a_validator_that_proposes_again_is_no_longer_suspected() -> None:
    blocks = Blocks()
    address = CHAIN.addresses[1]
    blocks.run(10, frozenset({address}))
    assert blocks.turns.skipped(blocks.height) == (address,)
    blocks.run(4 * 2**FIRST_LEVEL + 8)
    assert blocks.turns.absences == ()
    assert {proposer for _, proposer, _ in blocks.history[-4:]} == set(CHAIN.addresses)


@pytest.mark.parametrize("nodes", [4, 7, 10])
def test_at_most_f_are_skipped_at_once(nodes: int) -> None:
    validators = ValidatorSet(
        Validator(bytes([index]) * 32, f"org-{index}", 1) for index in range(nodes)
    )
    faulty_max = (nodes - 1) // 3
    blocks = Blocks(validators)
    for start in range(nodes):
        silent = [validators.addresses[(start + at) % nodes] for at in range(faulty_max)]
        for _ in range(3 * nodes):
            blocks.run(1, frozenset(silent))
            assert len(blocks.turns.skipped(blocks.height)) <= faulty_max
    assert any(blocks.rounds)


def test_a_network_that_fails_is_nobodys_fault() -> None:
    blocks = Blocks()
    blocks.run(3)
    blocks.decide(blocks.turns.proposer(CHAIN, blocks.height, 2), 2)
    blocks.run(2)
    assert blocks.turns.absences == ()


def test_whose_own_block_is_decided_in_a_later_round_has_missed_nothing() -> None:
    blocks = Blocks()
    blocks.run(3)
    blocks.decide(blocks.turns.proposer(CHAIN, blocks.height, 0), 1)
    blocks.run(2)
    assert blocks.turns.absences == ()


def test_the_pause_is_bounded_and_an_era_forgets() -> None:
    blocks = Blocks()
    silent = frozenset({CHAIN.addresses[0]})
    blocks.run(ERA_HEIGHTS - 2, silent)
    assert blocks.turns.absences[0].level == LEVEL_MAX
    blocks.run(1, silent)
    assert (blocks.height, blocks.turns) == (ERA_HEIGHTS, Turns())
    # Whoever starts from the era's first height knows what those know who saw everything.
    blocks.run(100, silent)
    joined = Turns()
    for item in blocks.history[ERA_HEIGHTS - 1 :]:
        joined = joined.after(CHAIN, *item)
    assert joined == blocks.turns and joined.absences


def test_any_certificate_of_a_node_leaves_its_turns_alone() -> None:
    simulation = Simulation(1, Setup(plan=FaultPlan()))
    assert simulation.run().violation == ""
    node = simulation.correct_nodes[0]
    state = simulation.genesis
    for block, certificate in node.disk.blocks:
        other = replace(certificate, round=certificate.round + 1)
        assert state.advance(block, other).turns == state.advance(block, certificate).turns
        state = state.advance(block, certificate)


@pytest.mark.parametrize(("nodes", "silent"), [(4, 1), (7, 2)])
def test_silent_nodes_cost_the_simulated_chain_a_few_rounds(nodes: int, silent: int) -> None:
    plan = FaultPlan(byzantine="silent", byzantine_count=silent)
    for seed in range(3):
        simulation = Simulation(seed, Setup(nodes=nodes, plan=plan))
        assert simulation.run().violation == ""
        blocks = [block for block, _ in simulation.correct_nodes[0].disk.blocks]
        late = sum(block.last_commit.round > 0 for block in blocks)
        assert len(blocks) > 12 and late <= 2 * silent


def test_a_silent_validator_costs_twelve_rounds_an_era_most_of_them_at_its_beginning() -> None:
    blocks = Blocks()
    blocks.run(3 * ERA_HEIGHTS, frozenset({CHAIN.addresses[2]}))
    late = [height for height, rounds in enumerate(blocks.rounds) if rounds]
    for era in range(3):
        of_era = [at - era * ERA_HEIGHTS for at in late if at // ERA_HEIGHTS == era]
        assert len(of_era) == 12
        assert len([at for at in of_era if at < 300]) == 5
