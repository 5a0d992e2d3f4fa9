"""Delivery versus payment: an amount of one asset for an amount of another, both or none."""

from dataclasses import dataclass

from chainnode.contract import (
    Address,
    Bytes32,
    CallFailed,
    Contract,
    Error,
    Interface,
    Map,
    at,
    call,
    ctx,
    emit,
    error,
    event,
    u64,
    view,
)


class Asset(Interface):
    """What is needed of an asset; a contract that keeps it may be traded here."""

    @call
    def transfer(self, to: Address, amount: u64) -> None: ...

    @call
    def transfer_from(self, source: Address, to: Address, amount: u64) -> None: ...


@dataclass(frozen=True)
class Offer:
    """The seller's amount lies with the escrow until the offer is taken or withdrawn."""

    seller: Address
    gives: str
    amount: u64
    wants: str
    price: u64
    until_ms: u64


@event
class Offered:
    offer: Bytes32
    seller: Address
    gives: str
    amount: u64
    wants: str
    price: u64


@event
class Settled:
    offer: Bytes32
    seller: Address
    buyer: Address


@event
class Withdrawn:
    offer: Bytes32


@error
class NoSuchOffer(Error):
    offer: Bytes32


@error
class OfferOver(Error):
    until_ms: u64


@error
class NotTheSeller(Error):
    sender: Address


class Escrow(Contract, version="1.0"):
    """Who offers or pays approves the escrow's address in the asset first."""

    offers: Map[Bytes32, Offer]

    @call
    def offer(self, gives: str, amount: u64, wants: str, price: u64, until_ms: u64) -> Bytes32:
        """Deposit an amount of one asset, for whoever pays the price in another; the number is
        the transaction's."""
        number = ctx.tx_id
        self.offers[number] = Offer(ctx.sender, gives, amount, wants, price, until_ms)
        at(gives, Asset).transfer_from(ctx.sender, ctx.address, amount)
        emit(Offered(number, ctx.sender, gives, amount, wants, price))
        return number

    @call
    def accept(self, offer: Bytes32) -> None:
        """Pay an offer's price and get its amount."""
        found = self.open_offer(offer)
        at(found.wants, Asset).transfer_from(ctx.sender, found.seller, found.price)
        self.deliver(offer, found)

    @call
    def accept_first(self, offers: list[Bytes32]) -> Bytes32 | None:
        """Take the first of some offers that the sender can pay, if there is one."""
        for offer in offers:
            found = self.offers.get(offer)
            if found is not None and found.until_ms >= ctx.time_ms:
                paid = True
                try:
                    at(found.wants, Asset).transfer_from(ctx.sender, found.seller, found.price)
                except CallFailed:
                    paid = False
                if paid:
                    self.deliver(offer, found)
                    return offer
        return None

    @call
    def withdraw(self, offer: Bytes32) -> None:
        """Give the seller back what was offered; only the seller may."""
        found = self.offers.get(offer)
        if found is None:
            raise NoSuchOffer(offer)
        if found.seller != ctx.sender:
            raise NotTheSeller(ctx.sender)
        del self.offers[offer]
        at(found.gives, Asset).transfer(found.seller, found.amount)
        emit(Withdrawn(offer))

    @view
    def offer_of(self, offer: Bytes32) -> Offer | None:
        """Return an offer that is neither taken nor withdrawn."""
        return self.offers.get(offer)

    @view
    def address(self) -> Address:
        """Return whom sellers and buyers approve."""
        return ctx.address

    def open_offer(self, offer: Bytes32) -> Offer:
        """An offer that can still be taken."""
        found = self.offers.get(offer)
        if found is None:
            raise NoSuchOffer(offer)
        if found.until_ms < ctx.time_ms:
            raise OfferOver(found.until_ms)
        return found

    def deliver(self, offer: Bytes32, found: Offer) -> None:
        """Hand the deposit to the sender, who has paid."""
        del self.offers[offer]
        at(found.gives, Asset).transfer(ctx.sender, found.amount)
        emit(Settled(offer, found.seller, ctx.sender))
