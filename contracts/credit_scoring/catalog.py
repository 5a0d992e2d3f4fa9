"""The catalog: tables, their owners' encrypted columns, grants, consent and scorecards."""

from __future__ import annotations

from chainnode.contract import (
    Bytes32,
    Map,
    call,
    ctx,
    emit,
    sha256,
    u64,
    view,
)

from .council import KeyCouncil
from .records import (
    DENIED_COLUMNS_MAX,
    EPOCH_ACTIVE,
    NAME_SIZE_MAX_BYTES,
    OUTPUTS_ALLOWED,
    OUTPUTS_MAX,
    AlreadyDone,
    BudgetExceeded,
    CatalogChanged,
    ColumnsAudited,
    ColumnSet,
    Consent,
    Invalid,
    ModelMisnamed,
    NotAllowed,
    OwnerPolicy,
    StaleEpoch,
    Table,
    names_itself,
)


class Catalog(KeyCouncil):
    """Who owns which columns and who may ask about them."""

    tables: Map[str, Table]
    schemas: Map[str, bytes]
    column_sets: Map[tuple[str, str, str, u64], ColumnSet]
    budgets: Map[tuple[str, str, str], u64]
    used: Map[tuple[str, str], u64]
    consents: Map[tuple[str, str, str, str], Consent]
    policies: Map[tuple[str, str, str], OwnerPolicy]
    models: Map[tuple[str, str], bytes]
    model_names: Map[str, list[str]]
    model_approvals: Map[tuple[str, str, str], bool]
    audit_demands: Map[tuple[str, str], bool]
    audits: Map[tuple[str, str, str, Bytes32, str], bool]
    check_verdicts: Map[tuple[str, str, str, Bytes32], bool]
    registrars: Map[tuple[str, Bytes32], str]

    @call
    def create_table(
        self, table: str, schema: bytes, registry: Bytes32, minimum_group: u64, owners: list[str]
    ) -> None:
        self._require_owner_role()
        if table in self.tables:
            raise AlreadyDone(table)
        if len(owners) == 0 or minimum_group == 0:
            raise Invalid(table)
        for owner in owners:
            self._require_member(owner)
        self.tables[table] = Table(ctx.sender_org, owners, sha256(schema), registry, minimum_group)
        self.schemas[table] = schema
        emit(CatalogChanged(table, ctx.sender_org, "table", table, sha256(schema)))

    @call
    def publish_columns(self, table: str, profile: str, columns: ColumnSet) -> None:
        """Point to the owner's encrypted columns of an epoch; a later call replaces them."""
        self._require_table_owner(table)
        if columns.epoch != self.active_epoch.get():
            raise StaleEpoch(columns.epoch, self.active_epoch.get())
        if columns.block_count == 0:
            raise Invalid("block_count")
        if len(columns.proof) > 0:
            raise Invalid("proof")
        self.column_sets[(table, ctx.sender_org, profile, columns.epoch)] = columns
        stated = columns.epoch.to_bytes(8, "big") + columns.root
        emit(CatalogChanged(table, ctx.sender_org, "columns", profile, stated))

    @call
    def grant(self, table: str, bank: str, budget: u64) -> None:
        """Allow `bank` that many queries on the table; every owner must, the least one counts."""
        self._require_table_owner(table)
        self.budgets[(table, bank, ctx.sender_org)] = budget
        emit(CatalogChanged(table, ctx.sender_org, "grant", bank, budget.to_bytes(8, "big")))

    @call
    def set_consent(self, table: str, bank: str, purpose: str, consent: Consent) -> None:
        """State which enterprises let this bank see their scores for a purpose, and until when."""
        self._require_table_owner(table)
        if purpose == "" or len(purpose.encode()) > NAME_SIZE_MAX_BYTES:
            raise Invalid("purpose")
        self.consents[(table, bank, ctx.sender_org, purpose)] = consent
        stated = consent.until_height.to_bytes(8, "big") + consent.bitmap + purpose.encode()
        emit(CatalogChanged(table, ctx.sender_org, "consent", bank, stated))

    @call
    def set_policy(self, table: str, bank: str, policy: OwnerPolicy) -> None:
        """State what this owner allows a bank; with no name, every bank without a word of its own.

        Every owner's policy counts, so that the strictest does."""
        self._require_table_owner(table)
        if len(policy.denied_columns) > DENIED_COLUMNS_MAX or policy.outputs_max > OUTPUTS_MAX:
            raise Invalid("policy")
        for column in policy.denied_columns:
            if column == "" or len(column.encode()) > NAME_SIZE_MAX_BYTES:
                raise Invalid("denied_columns")
        self.policies[(table, bank, ctx.sender_org)] = policy
        stated = sha256(self._policy_bytes(policy))
        emit(CatalogChanged(table, ctx.sender_org, "policy", bank, stated))

    @call
    def require_audits(self, table: str, required: bool) -> None:
        """While any owner asks for it, the council opens nothing of columns nobody audited."""
        self._require_table_owner(table)
        self.audit_demands[(table, ctx.sender_org)] = required
        step = "audits required" if required else "audits not required"
        emit(CatalogChanged(table, ctx.sender_org, step, table, b""))

    @call
    def record_audit(
        self,
        table: str,
        owner: str,
        profile: str,
        epoch: u64,
        root: Bytes32,
        passed: bool,
        detail: str,
    ) -> None:
        """Another member says what its audit of published columns found; its last word counts."""
        self._require_owner_role()
        if ctx.sender_org == owner:
            raise NotAllowed(ctx.sender_org, "another organisation than the owner")
        key = (table, owner, profile, epoch)
        if key not in self.column_sets or self.column_sets[key].root != root:
            raise Invalid("root")
        self.audits[(table, owner, profile, root, ctx.sender_org)] = passed
        outcome = "passed" if passed else "failed"
        emit(ColumnsAudited(table, owner, profile, root, ctx.sender_org, outcome, detail))

    @call
    def approve_model(self, table: str, name: str, model: bytes) -> None:
        """Register a scorecard; usable once every owner approved the same points, then for ever.

        A model with one feature reads that column, so owners decide. It has the name that its
        record states. Who registers it answers for the ciphertexts that it names."""
        self._require_table_owner(table)
        if not names_itself(model, name):
            raise ModelMisnamed(table, name)
        if self.models.get((table, name), model) != model:
            raise Invalid("model")
        if (table, name) not in self.models:
            empty: list[str] = []
            names = self.model_names.get(table, empty)
            names.append(name)
            self.model_names[table] = names
            self.models[(table, name)] = model
            registered = (table, sha256(model))
            if registered not in self.registrars:
                self.registrars[registered] = ctx.sender_org
        self.model_approvals[(table, name, ctx.sender_org)] = True
        emit(CatalogChanged(table, ctx.sender_org, "model", name, sha256(model)))

    @view
    def table_info(self, table: str) -> tuple[Table, bytes]:
        """(record, schema)."""
        return (self._table(table), self.schemas[table])

    @view
    def models_of(self, table: str) -> list[bytes]:
        """Scorecards every owner approved."""
        found: list[bytes] = []
        empty: list[str] = []
        for name in self.model_names.get(table, empty):
            approved = True
            for owner in self._table(table).owners:
                if (table, name, owner) not in self.model_approvals:
                    approved = False
            if approved:
                found.append(self.models[(table, name)])
        return found

    @view
    def registrar_of(self, table: str, model: Bytes32) -> str:
        """Who registered the model whose record has this hash."""
        if (table, model) not in self.registrars:
            raise Invalid("model")
        return self.registrars[(table, model)]

    @view
    def columns_of(self, table: str, owner: str, profile: str, epoch: u64) -> ColumnSet:
        if (table, owner, profile, epoch) not in self.column_sets:
            raise StaleEpoch(epoch, self.active_epoch.get())
        return self.column_sets[(table, owner, profile, epoch)]

    @view
    def audits_required(self, table: str) -> bool:
        for owner in self._table(table).owners:
            if self.audit_demands.get((table, owner), False):
                return True
        return False

    @view
    def audits_of(
        self, table: str, owner: str, profile: str, root: Bytes32
    ) -> tuple[list[str], list[str]]:
        """(who passed these columns, who failed them), of the council as it is."""
        passed: list[str] = []
        failed: list[str] = []
        for auditor in self.council.get().organisations:
            key = (table, owner, profile, root, auditor)
            if key in self.audits:
                if self.audits[key]:
                    passed.append(auditor)
                else:
                    failed.append(auditor)
        return (passed, failed)

    @view
    def consent(self, table: str, bank: str, owner: str, purpose: str) -> Consent | None:
        """An owner's latest word."""
        return self.consents.get((table, bank, owner, purpose))

    @view
    def policies_of(self, table: str, bank: str) -> list[OwnerPolicy]:
        """What each owner allows a bank now, in the table's order."""
        found: list[OwnerPolicy] = []
        for owner in self._table(table).owners:
            found.append(self._policy(table, bank, owner))
        return found

    @view
    def budget(self, table: str, bank: str) -> tuple[u64, u64]:
        """(granted, used)."""
        return (self._budget(table, bank), self.used.get((table, bank), 0))

    @view
    def active_epoch_of(self, table: str, profiles: list[str]) -> u64:
        """The newest active epoch every owner has columns of such a profile for; 0 for none."""
        epoch = self.active_epoch.get()
        while epoch > 0:
            if self._status(epoch) == EPOCH_ACTIVE and self._is_published(table, profiles, epoch):
                return epoch
            epoch -= 1
        return 0

    def _require_owner_role(self) -> None:
        self._require_member(ctx.sender_org)
        if ctx.sender_role != "client" and ctx.sender_role != "admin":
            raise NotAllowed(ctx.sender_org, "client or admin")

    def _require_table_owner(self, table: str) -> None:
        self._require_owner_role()
        if ctx.sender_org not in self._table(table).owners:
            raise NotAllowed(ctx.sender_org, "owner of the table")

    def _table(self, table: str) -> Table:
        if table not in self.tables:
            raise Invalid(table)
        return self.tables[table]

    def _policy(self, table: str, bank: str, owner: str) -> OwnerPolicy:
        nothing_denied: list[str] = []
        usual = OwnerPolicy(nothing_denied, True, OUTPUTS_ALLOWED)
        for_all = self.policies.get((table, "", owner), usual)
        return self.policies.get((table, bank, owner), for_all)

    def _is_audited(self, table: str, owner: str, profile: str, root: Bytes32, epoch: u64) -> bool:
        """More members of an epoch's council passed these columns than failed them, and no check
        of the council did."""
        balance = 0
        for auditor in self._members(epoch):
            key = (table, owner, profile, root, auditor)
            if key in self.audits:
                balance += 1 if self.audits[key] else -1
        return balance > 0 and self.check_verdicts.get((table, owner, profile, root), True)

    def _policy_bytes(self, policy: OwnerPolicy) -> bytes:
        stated = b"\x01" if policy.scores_allowed else b"\x00"
        stated += policy.outputs_max.to_bytes(8, "big")
        stated += len(policy.denied_columns).to_bytes(8, "big")
        for column in policy.denied_columns:
            name = column.encode()
            stated += len(name).to_bytes(8, "big") + name
        return stated

    def _budget(self, table: str, bank: str) -> int:
        least = -1
        for owner in self._table(table).owners:
            if (table, bank, owner) not in self.budgets:
                raise NotAllowed(bank, "a grant by " + owner)
            budget = self.budgets[(table, bank, owner)]
            if least < 0 or budget < least:
                least = budget
        return least

    def _spend(self, table: str, bank: str) -> None:
        budget = self._budget(table, bank)
        used = self.used.get((table, bank), 0)
        if used >= budget:
            raise BudgetExceeded(table, budget, used)
        self.used[(table, bank)] = used + 1

    def _is_published(self, table: str, profiles: list[str], epoch: u64) -> bool:
        for owner in self._table(table).owners:
            found = False
            for profile in profiles:
                if (table, owner, profile, epoch) in self.column_sets:
                    found = True
            if not found:
                return False
        return True
