"""What a replay compares: the proven steps of a query, and what was derived from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from chainnode.sdk.scoring import QueryFacts, Step, TableFacts

WRONG: Final = "worker gave a wrong result"
LATE: Final = "worker gave no result in time"
SILENT: Final = "no share"
WITHOUT_CAUSE: Final = "refused input without cause"
PASSED_CHECK: Final = "columns passed their check"
FAILED_CHECK: Final = "columns failed their check"
REFUSED_INPUT: Final = "refused input"
REFUSERS: Final = "the members that refused"
THE_NODE: Final = "the node"
THE_CHAIN: Final = "the chain"
THE_COUNCIL: Final = "council"
_REQUIRED: Final = "audits required"
_NOT_REQUIRED: Final = "audits not required"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Args:
        what: is compared.
        who: is at fault if it differs, or is meant by it.
        matches: whether the chain says what was derived here.
        detail: in words.
        derived: whether it was derived here; False for what public data cannot show, which is
            listed so that nobody takes it for checked.
    """

    what: str
    who: str
    matches: bool
    detail: str
    derived: bool = True

    @property
    def outcome(self) -> str:
        """In a word or two: whether it was derived, and whether it matches."""
        if not self.matches:
            return "DIFFERS"
        return "matches" if self.derived else "not derived"


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay found.

    Args:
        facts: the query's record, as the node states it.
        checks: in the order they were made.
    """

    facts: QueryFacts
    checks: tuple[Check, ...]

    def differences(self) -> list[Check]:
        """What does not match; empty for a query in which everything was as the chain says."""
        return [check for check in self.checks if not check.matches]


@dataclass(frozen=True, slots=True)
class Case:
    """A query, its table, and the proven steps: all of them, of the query, and those before it."""

    facts: QueryFacts
    table: TableFacts
    proven: tuple[Step, ...]
    own: tuple[Step, ...]
    before: tuple[Step, ...]

    def steps(self, name: str, what: str = "") -> list[Step]:
        """Of the query: events of a name, and of a step if one is given."""
        return [
            step
            for step in self.own
            if step.name == name and (not what or step.fields["step"] == what)
        ]

    def members(self, name: str, what: str) -> set[str]:
        """Who took a step."""
        return {str(step.fields["organisation"]) for step in self.steps(name, what)}

    def named(self, fault: str) -> set[str]:
        """Whom the contract named for a fault."""
        return {
            str(step.fields["organisation"])
            for step in self.steps("MemberFault")
            if (step.fields["fault"], step.fields["shown_by"]) == (fault, "contract")
        }

    def ending(self) -> str:
        """Why it ended, by the proven step; empty while it has not."""
        ended = self.steps("QueryStep", "ended")
        return str(ended[-1].fields["detail"]) if ended else ""

    def stated(self, owner: str, what: str, subject: str) -> list[bytes]:
        """What an owner stated about the table before the query, oldest first."""
        return [
            bytes(step.fields["value"])
            for step in self.before
            if step.name == "CatalogChanged"
            and (step.fields["organisation"], step.fields["step"], step.fields["subject"])
            == (owner, what, subject)
        ]

    def registrar(self, model: bytes) -> str:
        """Who was the first to state a model of this hash before the query; empty for nobody."""
        for step in self.before:
            registered = step.name == "CatalogChanged" and step.fields["step"] == "model"
            if registered and bytes(step.fields["value"]) == model:
                return str(step.fields["organisation"])
        return ""

    def requires_audits(self, owner: str) -> bool:
        """Whether an owner's last word before the query was that audits are required."""
        words = [
            step.fields["step"] == _REQUIRED
            for step in self.before
            if step.name == "CatalogChanged"
            and step.fields["organisation"] == owner
            and step.fields["step"] in (_REQUIRED, _NOT_REQUIRED)
        ]
        return bool(words and words[-1])

    def is_audited(self, owner: str, root: bytes) -> bool:
        """Whether more of the council passed these columns than failed them before the query, and
        no check of the council did."""
        last = {
            str(step.fields["auditor"]): bool(step.fields["outcome"] == "passed")
            for step in self.before
            if step.name == "ColumnsAudited"
            and (step.fields["owner"], step.fields["profile"], step.fields["root"])
            == (owner, self.facts.profile, root)
        }
        checked = last.pop(THE_COUNCIL, True)
        words = [passed for auditor, passed in last.items() if auditor in self.table.members]
        return checked and 2 * sum(words) > len(words)


def listed(names: Iterable[str]) -> str:
    """Names in order, for a sentence."""
    return ", ".join(sorted(names))
