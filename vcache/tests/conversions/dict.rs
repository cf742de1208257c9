//! `FromDict` and `ToDict`: all of serde's data model there and back, and objects that mean harm.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use vcache::pyo3::exceptions::{PyTypeError, PyValueError};
use vcache::pyo3::prelude::*;
use vcache::{FromDict, ToDict};

use super::tree::{Blob, Random, Tree};
use super::{attach, python, raises};

fn from_dict<T: DeserializeOwned>(source: &str) -> PyResult<T> {
    attach(|py| python(py, &format!("value = {source}")).extract::<FromDict<T>>().map(|found| found.0))
}

fn to_dict(value: impl Serialize) -> String {
    attach(|py| ToDict(value).into_pyobject(py).unwrap().repr().unwrap().to_string())
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    price: f64,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    items: Vec<Item>,
    #[serde(default)]
    labels: HashMap<String, u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Dot,
    Circle(f64),
    Line(i32, i32),
    Box { width: u8 },
}

#[test]
fn whatever_is_made_of_a_value_makes_that_value_again() {
    let mut random = Random(20_240_607);
    attach(|py| {
        for _ in 0..3000 {
            let tree = random.tree(5);
            let object = ToDict(tree.clone()).into_pyobject(py).unwrap();
            let again =
                object.extract::<FromDict<Tree>>().unwrap_or_else(|error| panic!("{tree:?}: {error}"));
            assert_eq!(again.0, tree);
        }
    });
}

#[test]
fn plain_objects_come_from_each_python_type() {
    assert_eq!(from_dict::<Vec<u32>>("[1, 2]").unwrap(), [1, 2]);
    assert_eq!(from_dict::<Vec<u32>>("(1, 2)").unwrap(), [1, 2]);
    assert_eq!(from_dict::<Vec<u32>>("{5}").unwrap(), [5]);
    assert_eq!(from_dict::<Vec<u32>>("frozenset([5])").unwrap(), [5]);
    assert_eq!(from_dict::<Vec<u8>>("b'ab'").unwrap(), b"ab");
    assert_eq!(from_dict::<[u8; 2]>("b'ab'").unwrap(), *b"ab");
    assert_eq!(from_dict::<Blob>("memoryview(b'xaby')[1:-1]").unwrap().0, b"ab");
    assert_eq!(from_dict::<Blob>("bytearray(b'ab')").unwrap().0, b"ab");
    assert_eq!(from_dict::<f64>("3").unwrap(), 3.0);
    assert!(from_dict::<f64>("float('nan')").unwrap().is_nan());
    assert_eq!(from_dict::<u64>("2**64 - 1").unwrap(), u64::MAX);
    assert_eq!(from_dict::<i128>("-2**127").unwrap(), i128::MIN);
    assert_eq!(from_dict::<char>("'🦀'").unwrap(), '🦀');
    assert_eq!(from_dict::<Option<()>>("None").unwrap(), None);
    assert_eq!(from_dict::<HashMap<i8, bool>>("{-1: True}").unwrap(), HashMap::from([(-1, true)]));
    assert_eq!(from_dict::<Item>("{'price': 1, 'name': 'a'}").unwrap().name.as_deref(), Some("a"));
    for (source, shape) in [
        ("'Dot'", Shape::Dot),
        ("{'Dot': None}", Shape::Dot),
        ("{'Circle': 1.5}", Shape::Circle(1.5)),
        ("{'Line': [1, 2]}", Shape::Line(1, 2)),
        ("{'Box': {'width': 3}}", Shape::Box { width: 3 }),
    ] {
        assert_eq!(from_dict::<Shape>(source).unwrap(), shape);
    }
}

#[test]
fn values_are_looked_at_as_python_code_would_look_at_them() {
    attach(|py| {
        // Django's QueryDict is such: it keeps lists, and `items` and `[]` give the last of each.
        let query = python(
            py,
            "
class Many(dict):
    def __getitem__(self, key):
        return super().__getitem__(key)[-1]
    def items(self):
        for key in self:
            yield key, self[key]
value = Many(a=['1', '2'], b=['3'])
",
        );
        let found = query.extract::<FromDict<BTreeMap<String, String>>>().unwrap();
        assert_eq!(found.0, BTreeMap::from([("a".into(), "2".into()), ("b".into(), "3".into())]));
        let proxy = python(py, "import types\nvalue = types.MappingProxyType({'price': 2.5})");
        assert_eq!(proxy.extract::<FromDict<Item>>().unwrap().price, 2.5);
        let choice = python(py, "import enum\nclass Kind(str, enum.Enum):\n  DOT = 'Dot'\nvalue = Kind.DOT");
        assert_eq!(choice.extract::<FromDict<Shape>>().unwrap().0, Shape::Dot);
        let number = python(py, "import enum\nclass Size(enum.IntEnum):\n  XL = 9\nvalue = Size.XL");
        assert_eq!(number.extract::<FromDict<u8>>().unwrap().0, 9);
    });
}

#[test]
fn errors_say_where_and_what() {
    let date = "__import__('datetime').datetime(2024, 6, 7)";
    let items = format!("{{'items': [{{'price': 1.0}}] * 3 + [{{'price': {date}}}]}}");
    raises::<PyTypeError>(from_dict::<Order>(&items), "items[3].price: expected f64, got datetime.datetime");
    raises::<PyTypeError>(from_dict::<u8>(date), "expected u8, got datetime.datetime");
    raises::<PyTypeError>(from_dict::<String>("b'a'"), "expected a string, got bytes");
    raises::<PyTypeError>(from_dict::<u8>("True"), "expected u8, got bool");
    raises::<PyTypeError>(from_dict::<u8>("1.0"), "expected u8, got float");
    raises::<PyTypeError>(from_dict::<Vec<u8>>("'ab'"), "expected a sequence, got str");
    raises::<PyTypeError>(from_dict::<Item>("[1.0, 'a']"), "expected struct Item, got list");
    raises::<PyTypeError>(from_dict::<HashMap<i32, u8>>("{'a': 1}"), "keys(): expected i32, got str");
    raises::<PyTypeError>(from_dict::<Shape>("{'Line': [1, 'x']}"), "Line[1]: expected i32, got str");
    raises::<PyTypeError>(from_dict::<Shape>("7"), "expected enum Shape, got int");
    raises::<PyTypeError>(
        from_dict::<Order>("{'items': [], 'labels': {'a b': 1, 'c d': 'hunter2'}}"),
        "labels[\"c d\"]: expected u8, got str",
    );
    raises::<PyValueError>(from_dict::<HashMap<i32, u8>>("{-4: 300}"), "[-4]: invalid int 300: expected u8");
    raises::<PyValueError>(from_dict::<u64>("2**64"), "int out of range: expected u64");
    raises::<PyValueError>(from_dict::<i128>("2**127"), "int out of range: expected i128");
    raises::<PyValueError>(from_dict::<f64>("10**400"), "int out of range: expected f64");
    raises::<PyValueError>(from_dict::<char>("'hunter2'"), "invalid str: expected a character");
    raises::<PyValueError>(from_dict::<String>("'\\ud800'"), "invalid str: it holds a lone surrogate");
    raises::<PyValueError>(from_dict::<Item>("{}"), "missing key 'price'");
    raises::<PyValueError>(
        from_dict::<Order>("{'items': [{'price': 1, 'prize': 2}]}"),
        "items[0]: unknown key 'prize', expected one of 'price', 'name'",
    );
    raises::<PyValueError>(
        from_dict::<Vec<Shape>>("['Dot', 'Dash']"),
        "[1]: unknown variant 'Dash', expected one of 'Dot', 'Circle', 'Line', 'Box'",
    );
    raises::<PyTypeError>(from_dict::<Shape>("'Circle'"), "expected newtype variant, got str");
    raises::<PyValueError>(
        from_dict::<Shape>("{'Dot': None, 'Circle': 1}"),
        "expected enum Shape: a dict of one item, the variant's name and its value; got 2 items",
    );
    for source in ["[1]", "[1, 2, 3]", "b'abc'"] {
        let error = from_dict::<(u8, u8)>(source).unwrap_err();
        assert!(attach(|py| error.is_instance_of::<PyValueError>(py)), "{source}: {error}");
    }
}

#[test]
fn what_nobody_asks_for_is_not_looked_at() {
    let order = from_dict::<Order>("{'items': [], 'when': object(), 'self': [...] * 3}").unwrap();
    assert_eq!(order, Order { items: vec![], labels: HashMap::new() });
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Nest(#[allow(dead_code)] Vec<Nest>);

#[derive(Debug, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[test]
fn nesting_ends_at_sixty_four_also_of_what_contains_itself() {
    attach(|py| {
        let nested = |levels: usize| {
            let source = format!("value = []\nfor _ in range({levels} - 1): value = [value]");
            python(py, &source).extract::<FromDict<Nest>>()
        };
        assert!(nested(64).is_ok());
        raises::<PyValueError>(
            nested(65),
            "[0][0][0][0]…[0][0][0][0]: nested more than 64 levels deep, or it contains itself",
        );
        assert!(nested(100_000).is_err());
        let cycle = python(py, "value = []\nvalue.append(value)");
        assert!(cycle.extract::<FromDict<Nest>>().unwrap_err().is_instance_of::<PyValueError>(py));
        let cycle = python(py, "value = {}\nvalue['next'] = value");
        let error = cycle.extract::<FromDict<Chain>>().unwrap_err();
        assert!(error.value(py).to_string().starts_with("next.next.next.next…"), "{error}");

        let chain = |levels: usize| {
            (1..levels).fold(Chain { next: None }, |chain, _| Chain { next: Some(Box::new(chain)) })
        };
        assert!(ToDict(chain(64)).into_pyobject(py).is_ok());
        raises::<PyValueError>(
            ToDict(chain(65)).into_pyobject(py),
            "next.next.next.next….next.next.next.next: nested more than 64 levels deep, or it contains itself",
        );
    });
}

#[test]
fn python_code_that_raises_or_changes_what_is_read_does_no_harm() {
    attach(|py| {
        let hostile = python(
            py,
            "
from collections.abc import Mapping
class Base(Mapping):
    def __getitem__(self, key): return 1.0
    def __iter__(self): return iter(['price'])
    def __len__(self): return 1
class Raising(Base):
    def items(self): raise LookupError('mine')
class Odd(Base):
    def items(self): return [('price', 1.0, 2)]
class Changing(Base):
    def __init__(self, change): self.change = change
    def items(self):
        self.change()
        return [('price', 1.0)]
    def __hash__(self): return id(self)
    def __eq__(self, other): raise KeyError('it is not asked for')
def shrink():
    outer.clear()
    inner.extend([1] * 1000)
    del inner[2:]
inner = [Changing(shrink) for _ in range(3)]
outer = dict(items=inner, more=1)
many = {Changing(lambda: many.clear()) for _ in range(3)}
value = (Raising(), Odd(), outer, many)
",
        );
        let (raising, odd, outer, many): (Bound<'_, _>, Bound<'_, _>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
            hostile.extract().unwrap();
        let error = raising.extract::<FromDict<Item>>().unwrap_err();
        assert_eq!(error.to_string(), "LookupError: mine");
        assert!(odd.extract::<FromDict<Item>>().is_err());
        assert_eq!(outer.extract::<FromDict<Order>>().unwrap().items.len(), 2);
        let error = many.extract::<FromDict<Vec<Item>>>().unwrap_err();
        assert_eq!(error.to_string(), "RuntimeError: Set changed size during iteration");
    });
}

#[test]
fn random_objects_are_taken_or_refused() {
    attach(|py| {
        let make = python(
            py,
            "
import datetime, decimal, random
rng = random.Random(11)
leaves = [None, True, 0, -1, 255, 2**63, -2**63, 2**64, 2**127, -2**200, 0.5, float('nan'), float('-inf'), '', 'Dot',
    'price', '\\ud800', b'', b'\\xff', bytearray(b'x'), memoryview(b'y'), memoryview(b'abcd').cast('I'), 1j, ...,
    datetime.datetime.now(), decimal.Decimal(1), object(), int, range(3), 'Circle', 'items', {}, [], (), set()]
keys = ['items', 'price', 'name', 'labels', 'Circle', 'Line', 'Box', 'width', 'Many', 'ByName', 'Text', 1, (1, 'a'), None]
def value(depth=5, leaves=leaves, keys=keys, rng=rng):
    kind = rng.randrange(7) if depth else 0
    inner = lambda: value(depth - 1)
    if kind in (1, 2): return [inner() for _ in range(rng.randrange(4))]
    if kind == 3: return tuple(inner() for _ in range(rng.randrange(4)))
    if kind > 3: return {rng.choice(keys): inner() for _ in range(rng.randrange(1, 4))}
    return rng.choice(leaves)
value.__globals__['value'] = value
",
        );
        fn try_as<T: DeserializeOwned>(object: &Bound<'_, PyAny>) {
            if let Err(error) = object.extract::<FromDict<T>>() {
                let py = object.py();
                assert!(
                    error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py),
                    "{error}"
                );
                assert!(error.value(py).to_string().len() < 400, "{error}");
            }
        }
        for _ in 0..5000 {
            let object = make.call0().unwrap();
            try_as::<Tree>(&object);
            try_as::<Order>(&object);
            try_as::<Vec<Shape>>(&object);
            try_as::<HashMap<String, Option<f32>>>(&object);
            try_as::<serde::de::IgnoredAny>(&object);
            try_as::<(char, i128, Blob)>(&object);
        }
    });
}

#[test]
fn results_are_plain_python_objects() {
    #[derive(Serialize)]
    struct Everything {
        none: Option<u8>,
        some: Option<u8>,
        letter: char,
        shapes: Vec<Shape>,
        pair: (i128, u128),
        by_pair: BTreeMap<(u8, Vec<u8>), f32>,
        unit: (),
        blob: Blob,
    }
    let value = Everything {
        none: None,
        some: Some(1),
        letter: 'é',
        shapes: vec![Shape::Dot, Shape::Circle(0.5), Shape::Line(1, 2), Shape::Box { width: 3 }],
        pair: (i128::MIN, u128::MAX),
        by_pair: BTreeMap::from([((1, vec![2, 3]), 0.25)]),
        unit: (),
        blob: Blob(vec![1, 2]),
    };
    assert_eq!(
        to_dict(value),
        "{'none': None, 'some': 1, 'letter': 'é', 'shapes': ['Dot', {'Circle': 0.5}, {'Line': (1, 2)}, \
         {'Box': {'width': 3}}], 'pair': (-170141183460469231731687303715884105728, \
         340282366920938463463374607431768211455), 'by_pair': {(1, (2, 3)): 0.25}, 'unit': None, \
         'blob': b'\\x01\\x02'}"
    );
}

#[test]
fn a_result_that_cannot_be_made_says_where() {
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no way"))
        }
    }
    #[derive(Serialize)]
    enum Deep {
        Field { list: Vec<Broken> },
    }
    attach(|py| {
        let value = HashMap::from([("a", Deep::Field { list: vec![Broken] })]);
        raises::<PyValueError>(ToDict(value).into_pyobject(py), "a.Field.list[0]: no way");
        let value = [BTreeMap::from([(BTreeMap::from([(1, 2)]), 3)])];
        raises::<PyTypeError>(
            ToDict(value).into_pyobject(py),
            "[0].keys(): expected a key that Python can hash, got dict",
        );
    });
}
