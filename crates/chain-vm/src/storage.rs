//! The host functions of `sc1` that read and write storage.

use chain_state::{keys, Bounds, Form, NumberError};
use wasmi::{Error, Func, Store};

use crate::host::{charge, deliver, slice, step, CallData, Guest, Stop, VALUE_SIZE_MAX_BYTES};
use crate::price::{self, Price};

const SCANS_MAX: usize = 64;
const SCAN_ROWS_MAX: u32 = 1_000;
const ABSENT: i32 = -1;

/// What a scan has still to give.
pub(crate) struct Scan {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    reverse: bool,
    rows: u32,
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

/// A storage function by name.
pub(crate) fn function(store: &mut Store<CallData>, name: &str) -> Option<Func> {
    Some(match name {
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
        _ => return None,
    })
}
