//! Requests from Python's tuples, and responses as such, with an interpreter inside the test.

use std::ffi::CString;
use std::sync::Once;

use vcache::http::{Request, Response};
use vcache::pyo3::exceptions::PyTypeError;
use vcache::pyo3::prelude::*;
use vcache::pyo3::types::PyDict;
use vcache::python::Annotate;

fn attach<T>(test: impl FnOnce(Python<'_>) -> T) -> T {
    static READY: Once = Once::new();
    // Of a package that several threads import at once for the first time, one may see a half.
    READY.call_once(|| {
        Python::initialize();
        Python::attach(|py| py.import("collections.abc").map(drop)).unwrap();
    });
    Python::attach(test)
}

/// What Python calls `value`, as a request.
fn request(source: &str) -> PyResult<Request> {
    attach(|py| {
        let names = PyDict::new(py);
        py.run(&CString::new(format!("value = {source}")).unwrap(), Some(&names), None)?;
        names.get_item("value")?.expect("the source sets `value`").extract()
    })
}

/// A whole tuple, with one of its items changed.
fn changed(index: usize, item: &str) -> String {
    let mut items =
        ["'POST'", "'/a/'", "b'q=1'", "[(b'host', b'h')]", "b'{}'", "'192.0.2.1'", "'https'", "0", "100"];
    items[index] = item;
    format!("({})", items.join(", "))
}

#[test]
fn a_request_is_read_from_a_tuple_or_from_what_has_one() {
    for source in [
        "('post', '/caf\u{e9}/', b'q=%C3%A9', [(b'host', b'example.com'), (b'x_a', b'1')], b'{}', '10.0.0.1', \
         'https', 0, 9)",
        "('POST', '/caf\u{e9}/', b'q=%C3%A9', b'Host: example.com\\r\\nX_A: 1\\r\\n', b'{}', '10.0.0.1', \
         'https', 0, 9)",
        "type('R', (), {'__vcache_request__': ('POST', '/caf\u{e9}/', b'q=%C3%A9', b'Host: example.com\\r\\n', b'{}', \
         '10.0.0.1', 'https', 0, 9)})()",
    ] {
        let request = request(source).unwrap();
        assert_eq!((request.method(), request.path()), ("POST", "/café/"));
        assert_eq!(request.query("q").unwrap(), "é");
        assert_eq!(request.host().unwrap(), "example.com");
        assert_eq!(request.headers().iter().count(), 1);
        assert_eq!(request.body().unwrap(), b"{}");
        assert_eq!(request.client().unwrap(), "10.0.0.1");
        assert!(request.is_secure());
    }
}

#[test]
fn a_request_lives_without_the_interpreter_and_keeps_its_body() {
    let request = request(&changed(4, "bytes(range(256)) * 1000")).unwrap();
    let reader = std::thread::spawn(move || {
        let most = request.body().unwrap_err();
        assert_eq!(most.status(), Some(413));
        request.raw_body().iter().map(|byte| u64::from(*byte)).sum::<u64>()
    });
    assert_eq!(reader.join().unwrap(), 32_640_000);
}

#[test]
fn the_peer_may_be_unknown_and_the_body_empty() {
    let request = request(&changed(5, "None").replace("b'{}'", "b''")).unwrap();
    assert_eq!(request.client(), None);
    assert_eq!(request.body().unwrap(), b"");
}

#[test]
fn other_objects_are_refused_with_what_to_do() {
    for (source, found) in [("None", "NoneType"), ("object()", "object"), ("{}", "dict")] {
        let error = request(source).unwrap_err();
        attach(|py| assert!(error.is_instance_of::<PyTypeError>(py)));
        let text = format!(
            "TypeError: a request expected, not {found}: a hot path that takes a Request is the target of a hot"
        );
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    let error = request("()").unwrap_err();
    assert!(
        error.to_string().starts_with("TypeError: a request is a tuple of 9 items (method: str, "),
        "{error}"
    );
}

#[test]
fn an_item_of_another_type_is_named() {
    for (index, item, found) in [
        (0, "b'POST'", "bytes where it is to be method: str"),
        (1, "None", "NoneType where it is to be path: str"),
        (2, "'q'", "str where it is to be query: bytes"),
        (3, "None", "NoneType where it is to be headers: list[tuple[bytes, bytes]] | bytes"),
        (3, "[('a', 'b')]", "list where it is to be headers: list[tuple[bytes, bytes]] | bytes"),
        (3, "[(b'a',)]", "list where it is to be headers: list[tuple[bytes, bytes]] | bytes"),
        (4, "'text'", "str where it is to be body: bytes"),
        (5, "7", "int where it is to be peer: str | None"),
        (6, "None", "NoneType where it is to be scheme: str"),
        (7, "-1", "int where it is to be proxies: int"),
        (8, "None", "NoneType where it is to be most: int"),
    ] {
        let error = request(&changed(index, item)).unwrap_err();
        attach(|py| assert!(error.is_instance_of::<PyTypeError>(py)));
        assert_eq!(error.to_string(), format!("TypeError: item {index} of a request's tuple is {found}"));
    }
    let error = request(&changed(3, "b'Host: h\\r\\nno header\\r\\n'")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "TypeError: a request's headers are lines \"Name: value\", and line 2 is not"
    );
}

#[test]
fn a_response_is_a_tuple() {
    attach(|py| {
        let names = PyDict::new(py);
        let shown = |response: Response| {
            names.set_item("value", response).unwrap();
            py.eval(c"repr(value)", Some(&names), None).unwrap().extract::<String>().unwrap()
        };
        assert_eq!(shown(Response::new(204)), "(204, [], b'')");
        let json = Response::new(200).header("X-A", "caf\u{e9}").unwrap().json(&[1, 2]).unwrap();
        assert_eq!(
            shown(json),
            r"(200, [(b'X-A', b'caf\xe9'), (b'Content-Type', b'application/json')], b'[1,2]')"
        );
        let large = Response::new(200).bytes("application/octet-stream", vec![7; 1 << 20]).unwrap();
        names.set_item("value", large).unwrap();
        let sum: u64 = py.eval(c"sum(value[2])", Some(&names), None).unwrap().extract().unwrap();
        assert_eq!(sum, 7 << 20);
    });
}

#[test]
fn stubs_say_what_is_taken_and_given() {
    assert_eq!(Request::input(), "django_vcache.routing.Request");
    assert_eq!(Response::output(), "tuple[int, list[tuple[bytes, bytes]], bytes]");
}
