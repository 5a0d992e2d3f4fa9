//! The host functions of `sc1`: bounds-checked copies between the guest's memory and the view.

use std::collections::VecDeque;

use chain_state::{StateGuard, TxView};
use sha2::{Digest, Sha256};
use wasmi::{Caller, Error, Func, Global, Memory, ResourceLimiter, Store, Val};
use wasmi_core::LimiterError;

use crate::call::{Event, Field, Kept};
use crate::nested::{self, Transit};
use crate::paillier;
use crate::price::{self, Price};
use crate::storage::{self, Scan};

const EVENT_SIZE_MAX_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
pub(crate) const VALUE_SIZE_MAX_BYTES: usize = 256 * 1024;
const KEY_SIZE_MAX_BYTES: usize = 1024;
pub(crate) const MESSAGE_SIZE_MAX_BYTES: usize = 1024;
/// Never in a receipt: whoever interrupts an execution drops it.
pub(crate) const INTERRUPTED: &str = "interrupted";
/// A fault of ours: no contract may catch it.
pub(crate) const HOST_FAULT: &str = "host fault";
/// Number of `ctx_get` for the contract's own address, which is computed when asked for.
const OWN_ADDRESS: i32 = 9;

/// Why the host stopped a call.
#[derive(Debug)]
pub(crate) enum Stop {
    OutOfGas,
    Trap(&'static str),
    Revert { code: u32, message: String },
}

/// The guest's memory. Host functions write through it alone, so that what they wrote is known.
pub(crate) struct GuestMemory<'a> {
    bytes: &'a mut [u8],
    reach: usize,
}

impl std::ops::Deref for GuestMemory<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl GuestMemory<'_> {
    /// Write at an address that was checked.
    pub(crate) fn write(&mut self, at: i32, value: &[u8]) {
        let start = at as u32 as usize;
        let end = start + value.len();
        self.reach = self.reach.max(end);
        self.bytes[start..end].copy_from_slice(value);
    }
}

/// Everything a call carries; what is optional is present during a call.
#[derive(Default)]
pub(crate) struct CallData {
    pub(crate) view: Option<TxView<StateGuard>>,
    pub(crate) frame: Kept,
    pub(crate) result: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) stop: Option<Stop>,
    pub(crate) memory: Option<Memory>,
    pub(crate) gas: Option<Global>,
    /// End of the highest bytes that the host wrote.
    pub(crate) reach: usize,
    pub(crate) transit: Transit,
    pub(crate) pending: Option<Vec<u8>>,
    pub(crate) scans: VecDeque<Option<Scan>>,
}

impl CallData {
    pub(crate) fn clear(&mut self) {
        self.view = None;
        self.result.clear();
        self.events.clear();
        self.stop = None;
        self.pending = None;
        self.scans.clear();
    }

    pub(crate) fn view(&mut self) -> &mut TxView<StateGuard> {
        self.view
            .as_mut()
            .expect("a view is lent for the whole call")
    }

    pub(crate) fn writable(&self) -> Result<(), Stop> {
        if self.frame.read_only {
            return Err(Stop::Trap("write in a view"));
        }
        Ok(())
    }

    pub(crate) fn key(&self, key: &[u8]) -> Result<Vec<u8>, Stop> {
        if key.len() > KEY_SIZE_MAX_BYTES {
            return Err(Stop::Trap("key too long"));
        }
        Ok([&self.frame.storage_prefix, key].concat())
    }
}

/// The memory of one transaction is that of all its contracts that wait for one another.
impl ResourceLimiter for CallData {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> Result<bool, LimiterError> {
        if self.transit.memory_bytes + desired > nested::MEMORY_MAX_BYTES {
            self.stop = Some(Stop::Trap(nested::MEMORY_SPENT));
            return Err(LimiterError::ResourceLimiterDeniedAllocation);
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        _: usize,
        _: Option<usize>,
    ) -> Result<bool, LimiterError> {
        Ok(true)
    }

    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

pub(crate) type Guest<'a> = Caller<'a, CallData>;

pub(crate) fn stopped(guest: &mut Guest<'_>, stop: Stop) -> Error {
    guest.data_mut().stop = Some(stop);
    Error::i32_exit(1)
}

/// Charge a price; returns the gas left.
pub(crate) fn charge(guest: &mut Guest<'_>, price: Price, bytes: usize) -> Result<i64, Error> {
    let global = guest.data().gas.expect("set when the instance was made");
    let Val::I64(gas) = global.get(&*guest) else {
        unreachable!("the injector declares an i64")
    };
    let cost = price.base + price.per_byte * bytes as u64;
    let left = gas.saturating_sub_unsigned(cost);
    if left < 0 {
        return Err(stopped(guest, Stop::OutOfGas));
    }
    global
        .set(&mut *guest, Val::I64(left))
        .expect("mutable and of this type");
    Ok(left)
}

/// Run a step with the guest's memory and the call's data.
pub(crate) fn step<R>(
    guest: &mut Guest<'_>,
    run: impl FnOnce(&mut GuestMemory<'_>, &mut CallData) -> Result<R, Stop>,
) -> Result<R, Error> {
    let memory = guest.data().memory.expect("set when the instance was made");
    let (bytes, data) = memory.data_and_store_mut(&mut *guest);
    // A fault of ours ends one transaction, not the node, and must not unwind into the engine.
    let mut memory = GuestMemory { bytes, reach: 0 };
    let run = std::panic::AssertUnwindSafe(|| run(&mut memory, data));
    let end = std::panic::catch_unwind(run);
    data.reach = data.reach.max(memory.reach);
    let end = end.unwrap_or(Err(Stop::Trap(HOST_FAULT)));
    let end = end.and_then(|value| match &data.view {
        Some(view) if view.interrupted() => Err(Stop::Trap(INTERRUPTED)),
        _ => Ok(value),
    });
    end.map_err(|stop| {
        data.stop = Some(stop);
        Error::i32_exit(1)
    })
}

pub(crate) fn slice(memory: &[u8], at: i32, length: i32) -> Result<&[u8], Stop> {
    let start = at as u32 as usize;
    let end = start + length as u32 as usize;
    memory
        .get(start..end)
        .ok_or(Stop::Trap("host buffer out of bounds"))
}

/// Copy out when it fits, else keep it for `fetch`; the true length either way.
pub(crate) fn deliver(
    memory: &mut GuestMemory<'_>,
    pending: &mut Option<Vec<u8>>,
    value: &[u8],
    at: i32,
    capacity: i32,
) -> Result<i32, Stop> {
    slice(memory, at, capacity)?;
    if value.len() <= capacity as u32 as usize {
        memory.write(at, value);
    } else {
        *pending = Some(value.to_vec());
    }
    i32::try_from(value.len()).map_err(|_| Stop::Trap("value too long"))
}

fn input(mut guest: Guest<'_>, at: i32, capacity: i32) -> Result<i32, Error> {
    let length = guest.data().frame.args.len();
    charge(&mut guest, price::INPUT, length)?;
    step(&mut guest, |memory, data| {
        deliver(memory, &mut data.pending, &data.frame.args, at, capacity)
    })
}

fn fetch(mut guest: Guest<'_>, at: i32, capacity: i32) -> Result<i32, Error> {
    let length = guest.data().pending.as_ref().map_or(0, Vec::len);
    charge(&mut guest, price::FETCH, length)?;
    step(&mut guest, |memory, data| {
        let value = data.pending.take().ok_or(Stop::Trap("nothing to fetch"))?;
        deliver(memory, &mut data.pending, &value, at, capacity)
    })
}

fn ret(mut guest: Guest<'_>, at: i32, length: i32) -> Result<(), Error> {
    charge(&mut guest, price::RET, length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        let value = slice(memory, at, length)?;
        if value.len() > VALUE_SIZE_MAX_BYTES {
            return Err(Stop::Trap("result too long"));
        }
        data.result = value.to_vec();
        Ok(())
    })
}

fn revert(mut guest: Guest<'_>, code: i32, at: i32, length: i32) -> Result<(), Error> {
    charge(&mut guest, price::REVERT, length as u32 as usize)?;
    step(&mut guest, |memory, _| {
        let text = slice(memory, at, length)?;
        if text.len() > MESSAGE_SIZE_MAX_BYTES {
            return Err(Stop::Trap("message too long"));
        }
        let message = String::from_utf8_lossy(text).into_owned();
        Err(Stop::Revert {
            code: code as u32,
            message,
        })
    })
}

fn log(mut guest: Guest<'_>, _level: i32, at: i32, length: i32) -> Result<(), Error> {
    charge(&mut guest, price::LOG, length as u32 as usize)?;
    step(&mut guest, |memory, _| {
        slice(memory, at, length).map(|_| ())
    })
}

fn ctx_get(mut guest: Guest<'_>, field: i32, at: i32, capacity: i32) -> Result<i32, Error> {
    let fields = &guest.data().frame.fields;
    let own = if field == OWN_ADDRESS {
        nested::address(&fields[Field::Contract as usize]).to_vec()
    } else {
        Vec::new()
    };
    let mut number = field as u32 as usize;
    if number == Field::Origin as usize && fields[number].is_empty() {
        number = Field::Sender as usize;
    }
    let length = fields.get(number).unwrap_or(&own).len();
    charge(&mut guest, price::CTX_GET, length)?;
    step(&mut guest, |memory, data| {
        let value = data.frame.fields.get(number);
        let value = value.or((field == OWN_ADDRESS).then_some(&own));
        let value = value.ok_or(Stop::Trap("unknown context field"))?;
        deliver(memory, &mut data.pending, value, at, capacity)
    })
}

fn ctx_i64(mut guest: Guest<'_>, field: i32) -> Result<i64, Error> {
    charge(&mut guest, price::CTX_I64, 0)?;
    match field {
        0 => Ok(guest.data().frame.height),
        1 => Ok(guest.data().frame.time_ms),
        _ => Err(stopped(&mut guest, Stop::Trap("unknown context field"))),
    }
}

fn emit(
    mut guest: Guest<'_>,
    name: i32,
    name_length: i32,
    at: i32,
    length: i32,
) -> Result<(), Error> {
    let bytes = name_length as u32 as usize + length as u32 as usize;
    charge(&mut guest, price::EMIT, bytes)?;
    step(&mut guest, |memory, data| {
        data.writable()?;
        let name = slice(memory, name, name_length)?;
        let fields = slice(memory, at, length)?;
        if name.len() + fields.len() > EVENT_SIZE_MAX_BYTES {
            return Err(Stop::Trap("event too long"));
        }
        if data.transit.events + data.events.len() >= EVENTS_MAX {
            return Err(Stop::Trap("too many events"));
        }
        let name = std::str::from_utf8(name).map_err(|_| Stop::Trap("event name is not UTF-8"))?;
        data.events.push(Event {
            contract: String::new(),
            name: name.to_owned(),
            data: fields.to_vec(),
        });
        Ok(())
    })
}

fn hash(mut guest: Guest<'_>, algorithm: i32, at: i32, length: i32, out: i32) -> Result<(), Error> {
    charge(&mut guest, price::HASH, length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        if algorithm != 0 {
            return Err(Stop::Trap("unknown hash algorithm"));
        }
        let digest = Sha256::digest(slice(memory, at, length)?);
        deliver(memory, &mut data.pending, &digest, out, 32).map(|_| ())
    })
}

/// A host function by name.
pub(crate) fn function(store: &mut Store<CallData>, name: &str) -> Option<Func> {
    Some(match name {
        "input" => Func::wrap(store, input),
        "fetch" => Func::wrap(store, fetch),
        "ret" => Func::wrap(store, ret),
        "revert" => Func::wrap(store, revert),
        "log" => Func::wrap(store, log),
        "ctx_get" => Func::wrap(store, ctx_get),
        "ctx_i64" => Func::wrap(store, ctx_i64),
        "emit" => Func::wrap(store, emit),
        "hash" => Func::wrap(store, hash),
        "call" => Func::wrap(store, nested::call),
        _ => return storage::function(store, name).or_else(|| paillier::function(store, name)),
    })
}
