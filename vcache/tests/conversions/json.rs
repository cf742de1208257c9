//! `Json`: what it reads, what it refuses, and what it says then.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vcache::pyo3::exceptions::{PyTypeError, PyValueError};
use vcache::pyo3::prelude::*;
use vcache::pyo3::types::PyBytes;
use vcache::{FromDict, Json};

use super::tree::Random;
use super::{attach, python, raises};

fn json<T: DeserializeOwned>(source: &str) -> PyResult<T> {
    attach(|py| python(py, &format!("value = {source}")).extract::<Json<T>>().map(|found| found.0))
}

#[derive(Debug, Deserialize)]
struct Nest(#[allow(dead_code)] Vec<Nest>);

#[test]
fn json_makes_the_same_value_again_and_is_the_json_that_python_reads() {
    let mut random = Random(7);
    attach(|py| {
        let loads = py.import("json").unwrap().getattr("loads").unwrap();
        for _ in 0..2000 {
            let value: BTreeMap<String, (String, i64, Option<f64>, Vec<bool>)> = (0..random.below(5))
                .map(|_| {
                    let number = (random.next() & 1 == 1).then(|| f64::from(random.next() as i32) / 64.0);
                    (
                        random.text(),
                        (random.text(), random.wide() as i64, number, vec![true; random.below(3)]),
                    )
                })
                .collect();
            let bytes = Json(value.clone()).into_pyobject(py).unwrap();
            assert_eq!(bytes.extract::<Json<BTreeMap<_, _>>>().unwrap(), Json(value.clone()));
            let read = loads.call1((bytes,)).unwrap();
            assert_eq!(read.extract::<FromDict<BTreeMap<_, _>>>().unwrap().0, value);
        }
    });
}

#[test]
fn json_is_taken_from_each_type_that_holds_text() {
    for source in [
        "'[1, 2]'",
        "b'[1, 2]'",
        "bytearray(b' [1, 2]\\n')",
        "memoryview(b'[1, 2]')",
        "memoryview(b'x[1, 2]y')[1:-1]",
    ] {
        assert_eq!(json::<Vec<u8>>(source).unwrap(), [1, 2], "{source}");
    }
    assert_eq!(json::<String>("'\"水\\\\u00e9\"'").unwrap(), "水é");
    for source in ["None", "[1, 2]", "{'a': 1}", "7", "object()"] {
        assert!(
            attach(|py| json::<Vec<u8>>(source).unwrap_err().is_instance_of::<PyTypeError>(py)),
            "{source}"
        );
    }
}

#[test]
fn bad_json_is_a_value_error_that_says_where_but_not_what_was_in_it() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Login {
        password: String,
        age: u8,
    }
    raises::<PyValueError>(
        json::<Login>(r#"b'{"password": "hunter2",\n "age" 7}'"#),
        "bad JSON at line 2, column 8: Expected this character to be a ':' while parsing",
    );
    let error =
        json::<Login>(r#"b'{"password": "x", "age": "hunter2 at line 1 column 2, expected"}'"#).unwrap_err();
    let text = attach(|py| error.value(py).to_string());
    assert!(text.contains("invalid type: string, expected u8") && !text.contains("hunter2"), "{text}");
    for source in [
        r#"b'{"password": "hunter2'"#,
        r#"b'{"password": "hunter2", "age": 7} hunter2'"#,
        r#"b'{"password": "hunter2\n\n\t at line 1 column 1", "age": 7}'"#,
        r#"b'{"password": "hunter2\xff", "age": 7}'"#,
        r#"b'{"password": "hunter2\\ud800", "age": 7}'"#,
        r#"'{"password": "hunter2\ud800", "age": 7}'"#,
        r#"b'{"password": 7, "hunter2": "hunter2"}'"#,
        r#"b'"hunter2"'"#,
        "b''",
        "'NaN'",
        "b'\\xef\\xbb\\xbf{}'",
    ] {
        let error = json::<Login>(source).unwrap_err();
        attach(|py| {
            assert!(error.is_instance_of::<PyValueError>(py), "{source}: {error}");
            let text = error.value(py).to_string();
            assert!(text.starts_with("bad JSON") && !text.contains("hunter2"), "{source}: {text}");
        });
    }
}

#[test]
fn hostile_json_is_an_error_and_no_more() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}
    for source in ["b'[' * 1_000_000", "b'[' * 1_000_000 + b']' * 1_000_000", "b'{\"a\":' * 1_000_000"] {
        raises::<PyValueError>(json::<Nest>(source), "bad JSON: nested more than 128 levels deep");
        // What is skipped is nested too.
        let skipped = format!("b'{{\"b\":' + {source}");
        let result = json::<HashMap<String, serde::de::IgnoredAny>>(&skipped);
        raises::<PyValueError>(result, "bad JSON: nested more than 128 levels deep");
    }
    assert!(json::<Nest>("'[' * 128 + ']' * 128").is_ok());
    assert!(json::<Nest>("'[' * 129 + ']' * 129").is_err());
    // Brackets in strings are none, and strings end where JSON says.
    assert_eq!(json::<Vec<String>>("'[' + '\"[[[[\\\\\\\"[\", ' * 100 + '\"\"]'").unwrap().len(), 101);
    assert_eq!(json::<Vec<[u8; 0]>>("'[' + '[], ' * 200 + '[]]'").unwrap().len(), 201);
    assert!(json::<Vec<String>>("'[\"\\\\\\\\\", ' + '[' * 1_000_000").is_err());
    let error = json::<Empty>("b'{\"' + b'k' * 1_000_000 + b'\": 1}'").unwrap_err();
    assert!(attach(|py| error.value(py).to_string()).len() < 300);
    let whole =
        r#"{"signed": -170141183460469231731687303715884105728, "a\u00e9\ud83e\udd80": [1.5e300, null]}"#;
    let mut random = Random(3);
    attach(|py| {
        for end in 0..whole.len() {
            let bytes = PyBytes::new(py, &whole.as_bytes()[..end]);
            assert!(bytes.extract::<Json<serde::de::IgnoredAny>>().is_err());
        }
        for _ in 0..20_000 {
            let mut bytes = whole.as_bytes().to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() as u64);
                bytes[at] = random.next() as u8;
            }
            let _ = PyBytes::new(py, &bytes).extract::<Json<HashMap<String, Option<Vec<Option<f64>>>>>>();
        }
    });
}

#[test]
fn a_result_becomes_the_bytes_of_a_response() {
    attach(|py| {
        let bytes = Json(("水", [1.5, f64::NAN])).into_pyobject(py).unwrap();
        assert_eq!(bytes.as_bytes(), "[\"水\",[1.5,null]]".as_bytes());
        let error = Json(HashMap::from([((1, 2), 3)])).into_pyobject(py).unwrap_err();
        assert!(error.is_instance_of::<PyValueError>(py), "{error}");
    });
}
