//! `execute`: any command, and its reply as plain Python objects.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyTuple};
use vcache::Packet;
use vcache::python::{to_exception, to_python};

use crate::cache::forms::{Exchange, Operation};
use crate::cache::keys;
use crate::cache::replies::Shared;

pub(in crate::cache) fn execute(
    shared: &Arc<Shared>,
    arguments: &Bound<'_, PyTuple>,
) -> PyResult<impl Operation> {
    let packet = Packet::try_from(&command(arguments)?)
        .map_err(|error| to_exception(arguments.py(), &error.with_alias(shared.connection.alias())))?;
    let shared = Arc::clone(shared);
    Ok(Exchange::send(packet, move |py: Python<'_>, result, _: &Packet| {
        to_python(py, result.and_then(|reply| shared.connection.check(reply))?).map(Bound::unbind)
    }))
}

/// Any command: `("CLIENT", "ID")`.
fn command(arguments: &Bound<'_, PyTuple>) -> PyResult<vcache::redis::Cmd> {
    let mut command = vcache::redis::Cmd::new();
    if arguments.is_empty() {
        return Err(PyValueError::new_err("execute() needs a command: execute('CLIENT', 'ID')"));
    }
    for (index, argument) in arguments.iter().enumerate() {
        let wrong = |what: String| format!("execute(): argument {} {what}", index + 1);
        if let Ok(text) = argument.cast::<PyString>() {
            let utf8 = text.to_str().map_err(|_| PyValueError::new_err(wrong(keys::not_utf8(&argument))))?;
            command.arg(utf8);
        } else if argument.is_exact_instance_of::<PyFloat>() {
            command.arg(argument.str()?.to_str()?);
        } else if argument.is_instance_of::<PyInt>() && !argument.is_instance_of::<PyBool>() {
            // The number, also of an enum's member, whose `str` is its name.
            let number = argument.py().get_type::<PyInt>().call1((&argument,))?;
            command.arg(number.str()?.to_str()?);
        } else {
            let bytes = argument.extract::<vcache::python::Bytes>().map_err(|_| {
                let class = argument.get_type();
                let name = class.name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
                PyTypeError::new_err(wrong(format!("must be str, bytes, int or float, not {name}")))
            })?;
            command.arg(&*bytes);
        }
    }
    Ok(command)
}
