//! A request from the tuple that a hot route makes of it, and a response as the tuple that it answers with. A request
//! is read here once, and needs no interpreter afterwards: no header keeps an object, and the body is borrowed.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::annotations::Annotate;
use super::large::{bytes_to_python, free};
use crate::http::{Body, Headers, Parts, Request, Response, known_method, known_scheme};

/// The items of the tuple, for messages.
const ITEMS: [&str; 9] = [
    "method: str",
    "path: str",
    "query: bytes",
    "headers: list[tuple[bytes, bytes]] | bytes",
    "body: bytes",
    "peer: str | None",
    "scheme: str",
    "proxies: int",
    "most: int",
];

impl<'py> FromPyObject<'_, 'py> for Request {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(tuple) = object.cast::<PyTuple>() {
            return Items(tuple).request();
        }
        let found = object.getattr_opt(intern!(object.py(), "__vcache_request__"))?;
        match found.as_ref().map(|found| found.cast::<PyTuple>()) {
            Some(Ok(tuple)) => Items(tuple.as_borrowed()).request(),
            _ => Err(not_a_request(&object)),
        }
    }
}

fn not_a_request(object: &Bound<'_, PyAny>) -> PyErr {
    let found = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "a request expected, not {found}: a hot path that takes a Request is the target of a hot route, which calls it: \
         hot(\"path/\", it) in urls.py. From Python it takes what has the attribute __vcache_request__"
    ))
}

/// The tuple of a request.
struct Items<'a, 'py>(Borrowed<'a, 'py, PyTuple>);

impl<'py> Items<'_, 'py> {
    fn request(&self) -> PyResult<Request> {
        if self.0.len() != ITEMS.len() {
            return Err(PyTypeError::new_err(format!(
                "a request is a tuple of {} items ({}), not of {}: do the wheel django-vcache and the hot path's \
                 vcache fit?",
                ITEMS.len(),
                ITEMS.join(", "),
                self.0.len(),
            )));
        }
        let body = self.get(4)?;
        let body = match body.cast::<PyBytes>() {
            Ok(bytes) if bytes.as_bytes().is_empty() => Body::Owned(Vec::new()),
            Ok(bytes) => Body::Shared(Box::new(PyBackedBytes::from(bytes.to_owned()))),
            Err(_) => return Err(self.wrong(4)),
        };
        let peer = self.get(5)?;
        Ok(Request::new(Parts {
            method: known_method(self.text(0)?.to_str()?),
            path: self.text(1)?.to_str()?.to_owned(),
            query: self.get(2)?.cast::<PyBytes>().map_err(|_| self.wrong(2))?.as_bytes().to_vec(),
            headers: self.headers()?,
            body,
            peer: if peer.is_none() { None } else { Some(self.text(5)?.to_str()?.to_owned()) },
            scheme: known_scheme(self.text(6)?.to_str()?),
            proxies: self.get(7)?.extract().map_err(|_| self.wrong(7))?,
            most: self.get(8)?.extract().map_err(|_| self.wrong(8))?,
        }))
    }

    fn get(&self, index: usize) -> PyResult<Borrowed<'_, 'py, PyAny>> {
        self.0.get_borrowed_item(index)
    }

    fn text(&self, index: usize) -> PyResult<Borrowed<'_, 'py, PyString>> {
        self.get(index)?.cast::<PyString>().map_err(|_| self.wrong(index))
    }

    fn headers(&self) -> PyResult<Headers> {
        let given = self.get(3)?;
        if let Ok(lines) = given.cast::<PyBytes>() {
            return Headers::from_lines(lines.as_bytes()).map_err(|line| {
                PyTypeError::new_err(format!(
                    "a request's headers are lines \"Name: value\", and line {line} is not"
                ))
            });
        }
        let list = given.cast::<PyList>().map_err(|_| self.wrong(3))?;
        let mut headers = Headers::with_capacity(list.len());
        for pair in list.iter() {
            let pair =
                pair.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2).ok_or_else(|| self.wrong(3))?;
            let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
            match (name.cast::<PyBytes>(), value.cast::<PyBytes>()) {
                (Ok(name), Ok(value)) => headers.push(name.as_bytes(), value.as_bytes()),
                _ => return Err(self.wrong(3)),
            }
        }
        Ok(headers)
    }

    fn wrong(&self, index: usize) -> PyErr {
        let found = self.get(index).and_then(|item| Ok(item.get_type().name()?.to_string()));
        let found = found.unwrap_or_else(|_| "?".to_owned());
        PyTypeError::new_err(format!(
            "item {index} of a request's tuple is {found} where it is to be {}",
            ITEMS[index]
        ))
    }
}

impl<'py> IntoPyObject<'py> for Response {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let pairs =
            self.headers().map(|(name, value)| (PyBytes::new(py, name.as_bytes()), PyBytes::new(py, value)));
        let headers = PyList::new(py, pairs)?;
        let body = bytes_to_python(py, self.body())?;
        let answer = (self.status(), headers, body).into_pyobject(py)?;
        free(py, self.into_body());
        Ok(answer)
    }
}

impl Annotate for Request {
    fn input() -> String {
        "django_vcache.routing.Request".into()
    }

    fn output() -> String {
        Self::input()
    }
}

impl Annotate for Response {
    fn input() -> String {
        Self::output()
    }

    fn output() -> String {
        "tuple[int, list[tuple[bytes, bytes]], bytes]".into()
    }
}
