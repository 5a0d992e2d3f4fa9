//! Calls of other contracts: a new instance on the same thread, its effects taken back if it fails.

use chain_state::{keys, Hash};
use sha2::{Digest, Sha256};
use wasmi::{Error, Val};

use crate::call::{Field, Frame, Missing, Outcome, Status};
use crate::host::{
    charge, slice, step, stopped, CallData, Guest, Stop, HOST_FAULT, INTERRUPTED,
    MESSAGE_SIZE_MAX_BYTES,
};
use crate::machine::Shop;
use crate::price;

/// Contracts that call one another at once, at most.
pub const CONTRACT_DEPTH_MAX: usize = 8;
/// Calls of other contracts in one transaction, at most.
pub const CONTRACT_CALLS_MAX: u32 = 256;
/// Memory of all contracts that call one another at once.
pub const MEMORY_MAX_BYTES: usize = 64 * 1024 * 1024;
pub(crate) const MEMORY_SPENT: &str = "memory of the transaction above 64 MiB";
/// Code a contract reverts with when a contract it called failed and it did not catch that.
pub const CALL_FAILED: u32 = 10;
const NAME_LENGTH_MAX_BYTES: usize = 64;
const ADDRESS_DOMAIN: &[u8] = b"chainnode/contract-address/v1";
/// The caller wants to be told of a failure instead of reverting with it.
const CATCH: i32 = 1;
/// The method is a view.
const VIEW: i32 = 2;

/// The address under which a contract calls others and is known to them.
pub fn address(name: &[u8]) -> Hash {
    Sha256::new()
        .chain_update(ADDRESS_DOMAIN)
        .chain_update(name)
        .finalize()
        .into()
}

/// What the contracts of one transaction share; it goes down with a call and comes back.
#[derive(Default)]
pub(crate) struct Transit {
    /// The machine, present during a call.
    pub(crate) shop: Option<Box<Shop>>,
    /// Contracts that wait for this one, outermost first.
    callers: Vec<String>,
    /// Their memory.
    pub(crate) memory_bytes: usize,
    /// Events that they emitted so far.
    pub(crate) events: usize,
    /// Calls so far, whoever made them.
    calls: u32,
}

struct Request {
    contract: String,
    method: String,
    args: Vec<u8>,
    view: bool,
    catch: bool,
}

/// Why a call of another contract gave nothing. Numbers and names are part of the host ABI.
struct Failure {
    number: i32,
    name: &'static str,
    code: u32,
    text: String,
}

impl Failure {
    fn new(number: i32, name: &'static str, text: &str) -> Self {
        Self {
            number,
            name,
            code: 0,
            text: text.to_owned(),
        }
    }

    fn of(status: Status) -> Option<Self> {
        Some(match status {
            Status::Ok => return None,
            Status::Reverted { code, message } => Self {
                number: 1,
                name: "REVERTED",
                code,
                text: message,
            },
            Status::Trapped(text) => Self::new(2, "TRAPPED", text),
            Status::OutOfGas => Self::new(3, "OUT_OF_GAS", "gas limit reached"),
            Status::UnknownMethod => {
                Self::new(6, "UNKNOWN_METHOD", "the contract has no such method")
            }
            Status::BadModule(rule) => Self::new(2, "TRAPPED", &format!("module rule `{rule}`")),
        })
    }

    fn missing(missing: Missing) -> Self {
        match missing {
            Missing::Unknown => Self::new(4, "UNKNOWN_CONTRACT", "no such contract"),
            Missing::Frozen => Self::new(5, "CONTRACT_FROZEN", "the contract is frozen or revoked"),
        }
    }

    /// What the caller reverts with when it does not catch this.
    fn message(&self, request: &Request) -> String {
        let Request {
            contract, method, ..
        } = request;
        let mut text = format!("{contract}.{method}: {}", self.name);
        if self.code > 0 {
            text += &format!(" {}", self.code);
        }
        if !self.text.is_empty() {
            text += &format!(" {}", self.text);
        }
        while text.len() > MESSAGE_SIZE_MAX_BYTES {
            text.pop();
        }
        text
    }

    /// The record that a caller catches: contract, method, status, code and text.
    fn record(&self, request: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |text: &str| {
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        put(&request.contract);
        put(&request.method);
        put(self.name);
        out.extend_from_slice(&self.code.to_be_bytes());
        out.extend_from_slice(&(self.text.len() as u32).to_be_bytes());
        out.extend_from_slice(self.text.as_bytes());
        out
    }
}

/// The host function.
#[allow(clippy::too_many_arguments)]
pub(crate) fn call(
    mut guest: Guest<'_>,
    contract: i32,
    contract_length: i32,
    method: i32,
    method_length: i32,
    args: i32,
    args_length: i32,
    gas: i64,
    flags: i32,
) -> Result<i32, Error> {
    let lengths = [contract_length, method_length, args_length];
    let bytes = lengths.iter().map(|length| *length as u32 as usize).sum();
    let left = charge(&mut guest, price::CALL, bytes)?.unsigned_abs();
    let request = step(&mut guest, |memory, data| {
        let text = |at, length| {
            let text = slice(memory, at, length)?;
            let text = std::str::from_utf8(text);
            text.map_err(|_| Stop::Trap("call name is not UTF-8"))
        };
        if !(0..=CATCH | VIEW).contains(&flags) {
            return Err(Stop::Trap("unknown call flags"));
        }
        let request = Request {
            contract: text(contract, contract_length)?.to_owned(),
            method: text(method, method_length)?.to_owned(),
            args: slice(memory, args, args_length)?.to_vec(),
            view: flags & VIEW != 0,
            catch: flags & CATCH != 0,
        };
        data.admit(&request)?;
        Ok(request)
    })?;
    // The caller keeps a part to deal with a failure.
    let most = left - left / 64;
    let granted = if gas == 0 { most } else { most.min(gas as u64) };
    let memory = guest.data().memory.expect("set when the instance was made");
    let memory_bytes = memory.data_size(&guest);
    let outcome = guest.data_mut().nested(&request, granted, memory_bytes);
    take(&mut guest, outcome.gas_used);
    end(&mut guest, &request, outcome)
}

fn take(guest: &mut Guest<'_>, gas: u64) {
    let global = guest.data().gas.expect("set when the instance was made");
    let Val::I64(left) = global.get(&*guest) else {
        unreachable!("the injector declares an i64")
    };
    let left = left.saturating_sub_unsigned(gas);
    global
        .set(&mut *guest, Val::I64(left))
        .expect("mutable and of this type");
}

fn end(guest: &mut Guest<'_>, request: &Request, outcome: Called) -> Result<i32, Error> {
    let data = guest.data_mut();
    let waits = data.view.as_ref().is_some_and(|view| view.interrupted());
    match outcome.end {
        _ if waits => Err(stopped(guest, Stop::Trap(INTERRUPTED))),
        Ok(result) => {
            data.pending = Some(result);
            Ok(0)
        }
        Err(failure) if failure.number == 2 && failure.text == HOST_FAULT => {
            Err(stopped(guest, Stop::Trap(HOST_FAULT)))
        }
        Err(failure) if request.catch => {
            data.pending = Some(failure.record(request));
            Ok(failure.number)
        }
        Err(failure) => {
            let stop = Stop::Revert {
                code: CALL_FAILED,
                message: failure.message(request),
            };
            Err(stopped(guest, stop))
        }
    }
}

struct Called {
    gas_used: u64,
    end: Result<Vec<u8>, Failure>,
}

impl CallData {
    /// What the machine stops a caller for, caught or not.
    fn admit(&mut self, request: &Request) -> Result<(), Stop> {
        if self.frame.read_only && !request.view {
            return Err(Stop::Trap("call of another contract's call in a view"));
        }
        if self.transit.calls >= CONTRACT_CALLS_MAX {
            return Err(Stop::Trap("too many contract calls"));
        }
        self.transit.calls += 1;
        Ok(())
    }

    fn nested(&mut self, request: &Request, granted: u64, memory_bytes: usize) -> Called {
        let found = self.callee(request);
        let code_hash = match found {
            Ok(code_hash) => code_hash,
            Err(failure) => {
                return Called {
                    gas_used: 0,
                    end: Err(failure),
                }
            }
        };
        let own = self.name().into_owned();
        let sender = address(own.as_bytes());
        let storage_prefix = keys::storage_prefix(&request.contract);
        let mut view = self.view.take().expect("a view is lent for the whole call");
        let mut transit = std::mem::take(&mut self.transit);
        let shop = transit.shop.take();
        let shop = shop.expect("the machine is lent for the whole call");
        let below = (transit.memory_bytes, transit.events);
        transit.callers.push(own.clone());
        transit.memory_bytes += memory_bytes;
        transit.events += self.events.len();
        let savepoint = view.savepoint();
        let prefix = if request.view { "v" } else { "c" };
        let entry = format!("{prefix}:{}", request.method);
        let code_key = keys::code(&code_hash);
        let frame = self.frame_of(request, &own, &sender, &storage_prefix);
        let (outcome, mut view, mut transit) = shop.call(
            &code_hash,
            |view| view.peek(&code_key).map(std::borrow::Cow::into_owned),
            &entry,
            granted,
            &frame,
            view,
            transit,
        );
        let called = self.settle(request, outcome);
        match called.end {
            Ok(_) => view.keep(savepoint),
            Err(_) => view.undo(savepoint),
        }
        transit.callers.pop();
        (transit.memory_bytes, transit.events) = below;
        self.view = Some(view);
        self.transit = transit;
        called
    }

    /// The called contract sees this one as its caller, and who signed.
    fn frame_of<'a>(
        &'a self,
        request: &'a Request,
        own: &'a str,
        sender: &'a Hash,
        storage_prefix: &'a [u8],
    ) -> Frame<'a> {
        let field = |field: Field| self.frame.fields[field as usize].as_slice();
        let origin = match field(Field::Origin) {
            [] => field(Field::Sender),
            origin => origin,
        };
        Frame {
            fields: [
                sender,
                b"",
                b"contract",
                request.contract.as_bytes(),
                field(Field::TxId),
                field(Field::ChainId),
                own.as_bytes(),
                own.as_bytes(),
                origin,
            ],
            height: self.frame.height,
            time_ms: self.frame.time_ms,
            args: &request.args,
            storage_prefix,
            read_only: self.frame.read_only || request.view,
            find: self.frame.find,
        }
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.frame.fields[Field::Contract as usize])
    }

    /// Find a contract to call, or why it must not be called.
    fn callee(&mut self, request: &Request) -> Result<Hash, Failure> {
        let Request {
            contract, method, ..
        } = request;
        if self.transit.callers.len() + 1 >= CONTRACT_DEPTH_MAX {
            let text = format!("contracts call one another {CONTRACT_DEPTH_MAX} deep");
            return Err(Failure::new(8, "CALL_DEPTH", &text));
        }
        if *contract == self.name() || self.transit.callers.contains(contract) {
            let text = "the contract waits for this call itself";
            return Err(Failure::new(7, "REENTRANT", text));
        }
        if contract.len() > NAME_LENGTH_MAX_BYTES {
            return Err(Failure::missing(Missing::Unknown));
        }
        let view = self.view.as_mut();
        let view = view.expect("a view is lent for the whole call");
        let find = self.frame.find.map(|find| find(view, contract));
        let code_hash = find.unwrap_or(Err(Missing::Unknown));
        let code_hash = code_hash.map_err(Failure::missing)?;
        if method.len() > NAME_LENGTH_MAX_BYTES {
            return Err(Failure::of(Status::UnknownMethod).expect("no success"));
        }
        Ok(code_hash)
    }

    /// Take a callee's events over; those of a failed one are gone.
    fn settle(&mut self, request: &Request, outcome: Outcome) -> Called {
        for mut event in outcome.events {
            if event.contract.is_empty() {
                event.contract.clone_from(&request.contract);
            }
            self.events.push(event);
        }
        let end = Failure::of(outcome.status).map_or(Ok(outcome.result), Err);
        Called {
            gas_used: outcome.gas_used,
            end,
        }
    }
}
