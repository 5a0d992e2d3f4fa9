"""A fungible asset: one issuer, balances, allowances. Whoever is paid slows no payment down."""

from chainnode.contract import (
    Address,
    Contract,
    Counter,
    Error,
    Map,
    Var,
    call,
    ctx,
    emit,
    error,
    event,
    init,
    u8,
    u64,
    view,
)


@event
class Issued:
    to: Address
    amount: u64


@event
class Transferred:
    source: Address
    to: Address
    amount: u64


@event
class Approved:
    owner: Address
    spender: Address
    amount: u64


@error
class InsufficientBalance(Error):
    balance: u64
    needed: u64


@error
class InsufficientAllowance(Error):
    allowance: u64
    needed: u64


@error
class NotIssuer(Error):
    sender: Address


class Asset(Contract, version="1.0"):
    """Amounts are in the smallest unit; `decimals` only says how to show them."""

    issuer: Var[Address]
    label: Var[str]
    places: Var[u8]
    balances: Map[Address, u64]
    allowances: Map[tuple[Address, Address], u64]
    total: Counter

    @init
    def setup(self, name: str, decimals: u8) -> None:
        """Make the installing member the issuer."""
        self.issuer.set(ctx.sender)
        self.label.set(name)
        self.places.set(decimals)

    @call
    def issue(self, to: Address, amount: u64) -> None:
        """Create an amount; only the issuer may."""
        if ctx.sender != self.issuer.get():
            raise NotIssuer(ctx.sender)
        self.balances.add(to, amount)
        self.total.add(amount)
        emit(Issued(to, amount))

    @call
    def transfer(self, to: Address, amount: u64) -> None:
        """Move an amount of the sender's to another member."""
        self.move(ctx.sender, to, amount)

    @call
    def approve(self, spender: Address, amount: u64) -> None:
        """Let another member move up to this amount of the sender's; replaces what was allowed."""
        self.allowances[(ctx.sender, spender)] = amount
        emit(Approved(ctx.sender, spender, amount))

    @call
    def transfer_from(self, source: Address, to: Address, amount: u64) -> None:
        """Move an amount of a member who approved the sender."""
        key = (source, ctx.sender)
        allowed = self.allowances.get(key, 0)
        if allowed < amount:
            raise InsufficientAllowance(allowed, amount)
        if allowed == amount:
            if amount > 0:
                del self.allowances[key]
        else:
            self.allowances[key] = allowed - amount
        self.move(source, to, amount)

    @view
    def balance_of(self, owner: Address) -> u64:
        """Return a member's balance."""
        return self.balances.get(owner, 0)

    @view
    def allowance(self, owner: Address, spender: Address) -> u64:
        """Return what a spender may still move."""
        return self.allowances.get((owner, spender), 0)

    @view
    def supply(self) -> u64:
        """Return the sum of all balances."""
        return self.total.read()

    @view
    def name(self) -> str:
        """Return the asset's name."""
        return self.label.get()

    @view
    def decimals(self) -> u8:
        """Return how many decimal places one whole unit has."""
        return self.places.get()

    def move(self, source: Address, to: Address, amount: u64) -> None:
        """Take from one member and give to another."""
        balance = self.balances.get(source, 0)
        if balance < amount:
            raise InsufficientBalance(balance, amount)
        self.balances[source] = balance - amount
        self.balances.add(to, amount)
        emit(Transferred(source, to, amount))
