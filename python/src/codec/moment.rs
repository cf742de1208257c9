//! date, time and datetime as ext payloads, both directions: fixed-width big-endian fields, the fold in the
//! top bit of the microseconds, then the time zone, if any. Zones: UTC, fixed offsets, and `ZoneInfo` by key;
//! others are refused.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyString, PyTime, PyTimeAccess};
use pyo3::types::{PyTuple, PyTzInfo, PyTzInfoAccess};

use super::error::DecodeError;
use super::refusal::{Refusal, Written};
use super::sink::Sink;
use super::types::Types;

const FOLD: u32 = 1 << 31;

// How a time zone starts; a naive value has nothing there. On the wire: never reuse one.
const ZONE_UTC: u8 = 0;
const ZONE_OFFSET: u8 = 1;
const ZONE_NAMED_OFFSET: u8 = 2;
const ZONE_KEY: u8 = 3;

/// The longest `ZoneInfo` key that is stored or read, in bytes. The longest in the IANA database has 32.
const MAX_KEY: usize = 64;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

pub(super) fn write_time(out: &mut Sink<'_>, types: &Types, time: &Bound<'_, PyTime>) -> Written {
    clock(out, time);
    zone(out, types, time, time.get_tzinfo())
}

pub(super) fn write_datetime(out: &mut Sink<'_>, types: &Types, moment: &Bound<'_, PyDateTime>) -> Written {
    write_day(out, moment);
    clock(out, moment);
    zone(out, types, moment, moment.get_tzinfo())
}

/// Year (u16), month, day.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a year is 1 to 9999")]
pub(super) fn write_day(out: &mut Sink<'_>, date: &impl PyDateAccess) {
    out.push(&(date.get_year() as u16).to_be_bytes());
    out.push(&[date.get_month(), date.get_day()]);
}

/// Hour, minute, second, then microsecond and fold (u32).
fn clock(out: &mut Sink<'_>, time: &impl PyTimeAccess) {
    out.push(&[time.get_hour(), time.get_minute(), time.get_second()]);
    let fold = if time.get_fold() { FOLD } else { 0 };
    out.push(&(time.get_microsecond() | fold).to_be_bytes());
}

fn zone(
    out: &mut Sink<'_>,
    types: &Types,
    owner: &Bound<'_, PyAny>,
    zone: Option<Bound<'_, PyTzInfo>>,
) -> Written {
    let Some(zone) = zone else { return Ok(()) };
    let py = zone.py();
    if zone.is(&*PyTzInfo::utc(py)?) {
        out.bytes.push(ZONE_UTC);
        return Ok(());
    }
    if Types::is_exactly(&zone, &types.timezone) {
        // What `timezone` pickles itself with. `tzname` would not tell a given name from a generated one.
        let args = zone.call_method0(intern!(py, "__getinitargs__"))?;
        return offset(out, owner, args.cast::<PyTuple>().map_err(PyErr::from)?);
    }
    if Types::is_exactly(&zone, &types.zone_info) {
        let key = zone.getattr(intern!(py, "key"))?;
        // A key can also be claimed by a zone that was read from a file or built past the cache.
        if let Ok(text) = key.cast_exact::<PyString>()
            && let Ok(text) = text.to_str()
            && is_zone_key(text.as_bytes())
            && types.zone_info.bind(py).call1((&key,))?.is(&zone)
        {
            out.bytes.push(ZONE_KEY);
            out.push(text.as_bytes());
            return Ok(());
        }
    }
    Err(Refusal::unsupported(
        owner,
        " with a tzinfo other than a datetime.timezone or a ZoneInfo of the system",
    ))
}

/// Microseconds (i64), and the name if one was given.
fn offset(out: &mut Sink<'_>, owner: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> Written {
    let refusal = || Refusal::unsupported(owner, " with an unusual datetime.timezone");
    let offset = args.get_borrowed_item(0)?;
    let offset = offset.cast_exact::<PyDelta>().map_err(|_| refusal())?;
    let seconds = i64::from(offset.get_days()) * 86_400 + i64::from(offset.get_seconds());
    let micros = seconds * MICROS_PER_SECOND + i64::from(offset.get_microseconds());
    let name = args.get_borrowed_item(1).ok();
    out.bytes.push(if name.is_some() { ZONE_NAMED_OFFSET } else { ZONE_OFFSET });
    out.push(&micros.to_be_bytes());
    if let Some(name) = name {
        let name = name.cast_exact::<PyString>().map_err(|_| refusal())?;
        let name = name.to_str().map_err(|_| refusal())?;
        out.push_checked(name.as_bytes())?;
    }
    Ok(())
}

/// A date's fields.
struct Day(i32, u8, u8);
/// A time's fields: hour, minute, second, microsecond, fold.
struct Clock(u8, u8, u8, u32, bool);

pub(super) fn read_date<'py>(py: Python<'py>, payload: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
    let (Day(year, month, day), []) = split_day(payload)? else {
        return Err(DecodeError::Corrupt("a date of the wrong length"));
    };
    PyDate::new(py, year, month, day)
        .map(Bound::into_any)
        .map_err(|error| DecodeError::corrupt(py, error, "a bad date"))
}

pub(super) fn read_time<'py>(
    py: Python<'py>,
    types: &Types,
    payload: &[u8],
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let (Clock(hour, minute, second, micros, fold), zone) = split_clock(payload)?;
    let zone = read_zone(py, types, zone)?;
    PyTime::new_with_fold(py, hour, minute, second, micros, zone.as_ref(), fold)
        .map(Bound::into_any)
        .map_err(|error| DecodeError::corrupt(py, error, "a bad time"))
}

pub(super) fn read_datetime<'py>(
    py: Python<'py>,
    types: &Types,
    payload: &[u8],
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let (Day(year, month, day), rest) = split_day(payload)?;
    let (Clock(hour, minute, second, micros, fold), zone) = split_clock(rest)?;
    let zone = read_zone(py, types, zone)?;
    PyDateTime::new_with_fold(py, year, month, day, hour, minute, second, micros, zone.as_ref(), fold)
        .map(Bound::into_any)
        .map_err(|error| DecodeError::corrupt(py, error, "a bad datetime"))
}

fn read_zone<'py>(
    py: Python<'py>,
    types: &Types,
    payload: &[u8],
) -> Result<Option<Bound<'py, PyTzInfo>>, DecodeError> {
    let zone = match payload {
        [] => return Ok(None),
        [ZONE_UTC] => PyTzInfo::utc(py).map(|utc| (*utc).clone().into_any()),
        [ZONE_KEY, key @ ..] if is_zone_key(key) => {
            PyString::from_bytes(py, key).and_then(|key| types.zone_info.bind(py).call1((key,)))
        }
        [tag @ (ZONE_OFFSET | ZONE_NAMED_OFFSET), rest @ ..] => {
            let Some((micros, name)) = rest.split_first_chunk::<8>() else {
                return Err(DecodeError::Corrupt("a time zone of the wrong length"));
            };
            if *tag == ZONE_OFFSET && !name.is_empty() {
                return Err(DecodeError::Corrupt("a time zone of the wrong length"));
            }
            fixed_zone(py, types, i64::from_be_bytes(*micros), (*tag == ZONE_NAMED_OFFSET).then_some(name))
        }
        _ => return Err(DecodeError::Corrupt("an unknown time zone")),
    };
    zone.and_then(|zone| Ok(zone.cast_into::<PyTzInfo>()?))
        .map(Some)
        .map_err(|error| DecodeError::corrupt(py, error, "a bad time zone"))
}

fn fixed_zone<'py>(
    py: Python<'py>,
    types: &Types,
    micros: i64,
    name: Option<&[u8]>,
) -> PyResult<Bound<'py, PyAny>> {
    // Far over 24 hours either way is for `timezone` to refuse; the days must only fit a timedelta first.
    let days = i32::try_from(micros.div_euclid(MICROS_PER_DAY))?;
    let rest = micros.rem_euclid(MICROS_PER_DAY);
    let seconds = i32::try_from(rest / MICROS_PER_SECOND)?;
    let offset = PyDelta::new(py, days, seconds, i32::try_from(rest % MICROS_PER_SECOND)?, true)?;
    let class = types.timezone.bind(py);
    match name {
        None => class.call1((offset,)),
        Some(name) => class.call1((offset, PyString::from_bytes(py, name)?)),
    }
}

fn split_day(payload: &[u8]) -> Result<(Day, &[u8]), DecodeError> {
    let Some((&[high, low, month, day], rest)) = payload.split_first_chunk::<4>() else {
        return Err(DecodeError::Corrupt("a date of the wrong length"));
    };
    Ok((Day(i32::from(u16::from_be_bytes([high, low])), month, day), rest))
}

fn split_clock(payload: &[u8]) -> Result<(Clock, &[u8]), DecodeError> {
    let Some((&[hour, minute, second, a, b, c, d], rest)) = payload.split_first_chunk::<7>() else {
        return Err(DecodeError::Corrupt("a time of the wrong length"));
    };
    let micros = u32::from_be_bytes([a, b, c, d]);
    Ok((Clock(hour, minute, second, micros & !FOLD, micros & FOLD != 0), rest))
}

/// A key such as "America/Port-au-Prince" or "Etc/GMT+1". `ZoneInfo` opens files and imports modules by it,
/// so a stored key must not be able to name anything else.
fn is_zone_key(key: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
    !key.is_empty() && key.len() <= MAX_KEY && key[0].is_ascii_alphanumeric() && key.iter().all(plain)
}
