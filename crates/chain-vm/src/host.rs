//! The host functions of `sc1`: bounds-checked copies between the guest's memory and the view.

use std::collections::VecDeque;

use chain_state::{keys, Bounds, Form, NumberError, StateGuard, TxView};
use sha2::{Digest, Sha256};
use wasmi::{Caller, Error, Func, Global, Memory, ResourceLimiter, Store, Val};
use wasmi_core::LimiterError;

use crate::call::{Event, Field, Kept};
use crate::nested::{self, Transit};
use crate::paillier;
use crate::price::{self, Price};

const EVENT_SIZE_MAX_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 256;
const VALUE_SIZE_MAX_BYTES: usize = 256 * 1024;
const KEY_SIZE_MAX_BYTES: usize = 1024;
pub(crate) const MESSAGE_SIZE_MAX_BYTES: usize = 1024;
const SCANS_MAX: usize = 64;
const SCAN_ROWS_MAX: u32 = 1_000;
const ABSENT: i32 = -1;
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

struct Scan {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    reverse: bool,
    rows: u32,
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
    scans: VecDeque<Option<Scan>>,
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

    fn view(&mut self) -> &mut TxView<StateGuard> {
        self.view
            .as_mut()
            .expect("a view is lent for the whole call")
    }

    fn writable(&self) -> Result<(), Stop> {
        if self.frame.read_only {
            return Err(Stop::Trap("write in a view"));
        }
        Ok(())
    }

    fn key(&self, key: &[u8]) -> Result<Vec<u8>, Stop> {
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
fn deliver(
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

fn db_get(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    at: i32,
    capacity: i32,
) -> Result<i32, Error> {
    charge(&mut guest, price::DB_GET, key_length as u32 as usize)?;
    let length = step(&mut guest, |memory, data| {
        let key = data.key(slice(memory, key, key_length)?)?;
        #[cfg(feature = "fault")]
        assert!(!key.ends_with(crate::FAULT_KEY), "fault injected by a test");
        let CallData { view, pending, .. } = data;
        let view = view.as_mut().expect("a view is lent for the whole call");
        match view.get(&key) {
            Some(value) => deliver(memory, pending, &value, at, capacity),
            None => Ok(ABSENT),
        }
    })?;
    let per_byte = Price {
        base: 0,
        ..price::DB_GET
    };
    charge(&mut guest, per_byte, usize::try_from(length).unwrap_or(0))?;
    Ok(length)
}

fn db_has(mut guest: Guest<'_>, key: i32, key_length: i32) -> Result<i32, Error> {
    charge(&mut guest, price::DB_HAS, key_length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        let key = data.key(slice(memory, key, key_length)?)?;
        Ok(i32::from(data.view().get(&key).is_some()))
    })
}

fn db_put(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    value: i32,
    value_length: i32,
) -> Result<(), Error> {
    let bytes = key_length as u32 as usize + value_length as u32 as usize;
    charge(&mut guest, price::DB_PUT, bytes)?;
    step(&mut guest, |memory, data| {
        data.writable()?;
        let key = data.key(slice(memory, key, key_length)?)?;
        let value = slice(memory, value, value_length)?;
        if value.len() > VALUE_SIZE_MAX_BYTES {
            return Err(Stop::Trap("value too long"));
        }
        data.view().put(key, value.to_vec());
        Ok(())
    })
}

fn db_del(mut guest: Guest<'_>, key: i32, key_length: i32) -> Result<(), Error> {
    charge(&mut guest, price::DB_DEL, key_length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        data.writable()?;
        let key = data.key(slice(memory, key, key_length)?)?;
        data.view().delete(key);
        Ok(())
    })
}

fn counter_stop(error: NumberError) -> Stop {
    Stop::Trap(match error {
        NumberError::NotANumber => "not a counter",
        NumberError::OutOfBounds => "counter overflow",
    })
}

fn wide(low: i64, high: i64) -> i128 {
    i128::from(high) << 64 | i128::from(low as u64)
}

fn db_add(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    low: i64,
    high: i64,
) -> Result<(), Error> {
    charge(&mut guest, price::DB_ADD, key_length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        data.writable()?;
        let key = data.key(slice(memory, key, key_length)?)?;
        let added = data.view().add(key, wide(low, high), &Bounds::COUNTER);
        added.map_err(counter_stop)
    })
}

/// Whether a sum within bounds was written: a contract may go on where it was not.
#[allow(clippy::too_many_arguments)]
fn db_add_within(
    mut guest: Guest<'_>,
    key: i32,
    key_length: i32,
    form: i32,
    low: i64,
    high: i64,
    least_low: i64,
    least_high: i64,
    most_low: i64,
    most_high: i64,
) -> Result<i32, Error> {
    charge(&mut guest, price::DB_ADD_WITHIN, key_length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        data.writable()?;
        let key = data.key(slice(memory, key, key_length)?)?;
        let form = Form::new(form).ok_or(Stop::Trap("unknown number form"))?;
        let (least, most) = (wide(least_low, least_high), wide(most_low, most_high));
        let bounds = Bounds::new(form, least, most);
        match data.view().add(key, wide(low, high), &bounds) {
            Ok(()) => Ok(1),
            Err(NumberError::OutOfBounds) => Ok(0),
            Err(error) => Err(counter_stop(error)),
        }
    })
}

fn db_read_sum(mut guest: Guest<'_>, key: i32, key_length: i32, at: i32) -> Result<(), Error> {
    charge(&mut guest, price::DB_READ_SUM, key_length as u32 as usize)?;
    step(&mut guest, |memory, data| {
        let key = data.key(slice(memory, key, key_length)?)?;
        let sum = data.view().read_sum(&key).map_err(counter_stop)?;
        deliver(memory, &mut data.pending, &sum.to_be_bytes(), at, 16).map(|_| ())
    })
}

fn db_scan(
    mut guest: Guest<'_>,
    start: i32,
    start_length: i32,
    end: i32,
    end_length: i32,
    flags: i32,
) -> Result<i32, Error> {
    let bytes = start_length as u32 as usize + end_length as u32 as usize;
    charge(&mut guest, price::DB_SCAN, bytes)?;
    step(&mut guest, |memory, data| {
        if !matches!(flags, 0 | 1) {
            return Err(Stop::Trap("unknown scan flags"));
        }
        if data.scans.len() >= SCANS_MAX {
            return Err(Stop::Trap("too many scans"));
        }
        let start = data.key(slice(memory, start, start_length)?)?;
        let end = match slice(memory, end, end_length)? {
            [] => keys::successor(&data.frame.storage_prefix),
            end => Some(data.key(end)?),
        };
        data.view().note_range(&start, end.as_deref());
        data.scans.push_back(Some(Scan {
            start,
            end,
            reverse: flags == 1,
            rows: 0,
        }));
        Ok(data.scans.len() as i32 - 1)
    })
}

fn scan_row(data: &mut CallData, handle: i32) -> Result<Option<Vec<u8>>, Stop> {
    let CallData {
        view, scans, frame, ..
    } = data;
    let scan = scans
        .get_mut(handle as u32 as usize)
        .and_then(Option::as_mut);
    let scan = scan.ok_or(Stop::Trap("unknown scan"))?;
    let view = view.as_mut().expect("a view is lent for the whole call");
    let Some((key, value)) = view.edge(&scan.start, scan.end.as_deref(), scan.reverse) else {
        return Ok(None);
    };
    scan.rows += 1;
    if scan.rows > SCAN_ROWS_MAX {
        return Err(Stop::Trap("too many rows scanned"));
    }
    view.get(&key);
    let short = &key[frame.storage_prefix.len()..];
    let mut row = Vec::with_capacity(4 + short.len() + value.len());
    row.extend_from_slice(&(short.len() as u32).to_be_bytes());
    row.extend_from_slice(short);
    row.extend_from_slice(&value);
    if scan.reverse {
        scan.end = Some(key);
    } else {
        scan.start = key;
        scan.start.push(0);
    }
    Ok(Some(row))
}

fn db_next(mut guest: Guest<'_>, handle: i32, at: i32, capacity: i32) -> Result<i32, Error> {
    charge(&mut guest, price::DB_NEXT, 0)?;
    let length = step(&mut guest, |memory, data| match scan_row(data, handle)? {
        Some(row) => deliver(memory, &mut data.pending, &row, at, capacity),
        None => Ok(ABSENT),
    })?;
    let per_byte = Price {
        base: 0,
        ..price::DB_NEXT
    };
    charge(&mut guest, per_byte, usize::try_from(length).unwrap_or(0))?;
    Ok(length)
}

fn db_close(mut guest: Guest<'_>, handle: i32) -> Result<(), Error> {
    charge(&mut guest, price::DB_CLOSE, 0)?;
    step(&mut guest, |_, data| {
        let scan = data
            .scans
            .get_mut(handle as u32 as usize)
            .and_then(Option::take);
        scan.map(|_| ()).ok_or(Stop::Trap("unknown scan"))
    })
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
        "db_get" => Func::wrap(store, db_get),
        "db_has" => Func::wrap(store, db_has),
        "db_put" => Func::wrap(store, db_put),
        "db_del" => Func::wrap(store, db_del),
        "db_add" => Func::wrap(store, db_add),
        "db_add_within" => Func::wrap(store, db_add_within),
        "db_read_sum" => Func::wrap(store, db_read_sum),
        "db_scan" => Func::wrap(store, db_scan),
        "db_next" => Func::wrap(store, db_next),
        "db_close" => Func::wrap(store, db_close),
        "emit" => Func::wrap(store, emit),
        "hash" => Func::wrap(store, hash),
        "call" => Func::wrap(store, nested::call),
        _ => return paillier::function(store, name),
    })
}
