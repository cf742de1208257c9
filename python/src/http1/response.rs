//! A response as bytes, all in one, with its length said once.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use crate::routing::Header;

/// The headers of a response, checked.
pub struct Response<'a> {
    status: u16,
    headers: Vec<(PyBackedBytes, PyBackedBytes)>,
    /// The lines of those that the site and the route add.
    more: Vec<&'a [u8]>,
    /// What the headers say of the length.
    length: Option<usize>,
    /// Whether the headers have `Connection`.
    has_connection: bool,
    pub close: bool,
}

impl<'a> Response<'a> {
    /// # Errors
    /// ValueError: a header that would break the response. TypeError: one that is not a pair of bytes.
    pub fn new(status: u16, given: &Bound<'_, PyList>) -> PyResult<Self> {
        let mut read = Self {
            status,
            headers: Vec::with_capacity(given.len()),
            more: Vec::new(),
            length: None,
            has_connection: false,
            close: false,
        };
        for header in given.iter() {
            let (name, value): (PyBackedBytes, PyBackedBytes) = header.extract()?;
            if name.is_empty() || !name.iter().all(|byte| is_of_token(*byte)) {
                return Err(wrong("a response header has the name", &name));
            }
            if value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
                return Err(wrong("a response header has the value", &value));
            }
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
                    read.length =
                        Some(length.ok_or_else(|| wrong("a response has the Content-Length", &value))?);
                    continue;
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    return Err(wrong("a hot route's response cannot have Transfer-Encoding:", &value));
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    read.has_connection = true;
                    read.close |= value
                        .split(|byte| *byte == b',')
                        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
                }
                _ => {}
            }
            read.headers.push((name, value));
        }
        Ok(read)
    }

    /// Adds headers of the site, where it does not have them, and of the route.
    pub fn add(&mut self, site: &'a [Header], route: &'a [Header]) {
        let is_new =
            |header: &&Header| !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(&header.name));
        self.more = site.iter().filter(is_new).chain(route).map(|header| &header.line[..]).collect();
    }

    /// # Errors
    /// ValueError: the headers have another length than the body.
    pub fn bytes<'py>(
        &self,
        py: Python<'py>,
        line: &[u8],
        defaults: &[u8],
        body: &[u8],
        is_head: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let has_body = !matches!(self.status, 100..=199 | 204 | 304);
        let body = if has_body { body } else { b"" };
        if let Some(said) = self.length.filter(|said| has_body && !is_head && *said != body.len()) {
            return Err(PyValueError::new_err(format!(
                "a response has Content-Length: {said}, and a body of {} bytes. Leave the header out",
                body.len()
            )));
        }
        let room = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
            + self.more.iter().map(|line| line.len()).sum::<usize>();
        let mut out = Vec::with_capacity(line.len() + defaults.len() + room + body.len() + 64);
        out.extend_from_slice(line);
        out.extend_from_slice(defaults);
        for (name, value) in &self.headers {
            out.extend(name.iter().map(u8::to_ascii_lowercase));
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        for line in &self.more {
            out.extend_from_slice(line);
        }
        if has_body {
            out.extend_from_slice(b"content-length: ");
            decimal(&mut out, self.length.filter(|_| is_head).unwrap_or(body.len()));
            out.extend_from_slice(b"\r\n");
        }
        if self.close && !self.has_connection {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !is_head {
            out.extend_from_slice(body);
        }
        Ok(PyBytes::new(py, &out))
    }
}

fn decimal(out: &mut Vec<u8>, number: usize) {
    use std::io::Write;
    // It cannot fail: the vector grows.
    let _ = write!(out, "{number}");
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn wrong(what: &str, bytes: &[u8]) -> PyErr {
    PyValueError::new_err(format!("{what} {:?}", String::from_utf8_lossy(bytes)))
}
