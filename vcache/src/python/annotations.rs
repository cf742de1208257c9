//! A Rust type as a Python annotation, for the stubs that `#[vcache::module]` writes. It is a trait, and not read off the
//! source text, so that aliases and a user's own types are annotated as what they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::arguments::Bytes;
use super::expansion::Probe;

/// How a type is annotated in a module's stub. A type without it is `Any`.
///
/// Standard types have it. Implement it for a type of your own that implements `FromPyObject` or `IntoPyObject`. A name
/// with dots is imported by the stub: what stands before the first capitalised part, or else before the last dot, is
/// the module. Of the names without dots those of builtins, `Any` and the classes of `collections.abc` are known.
///
/// ```
/// use vcache::python::Annotate;
///
/// struct Price(u64);
///
/// impl Annotate for Price {
///     fn input() -> String {
///         "decimal.Decimal | int".into()
///     }
///
///     fn output() -> String {
///         "decimal.Decimal".into()
///     }
/// }
///
/// assert_eq!(Vec::<Price>::output(), "list[decimal.Decimal]");
/// ```
pub trait Annotate {
    /// What a parameter of this type takes.
    fn input() -> String;

    /// What a result of this type is.
    fn output() -> String;

    /// What each single one is, where Python passes many: `*args` and `**kwargs`.
    #[must_use]
    fn item() -> String {
        "Any".into()
    }

    /// What a parameter `Vec<Self>` takes.
    #[doc(hidden)]
    #[must_use]
    fn vec_input() -> String {
        format!("Sequence[{}]", Self::input())
    }

    /// What a result `Vec<Self>` is.
    #[doc(hidden)]
    #[must_use]
    fn vec_output() -> String {
        format!("list[{}]", Self::output())
    }
}

macro_rules! annotate {
    ($($annotation:literal: $($ty:ty),+;)+) => {
        $($(impl Annotate for $ty {
            fn input() -> String {
                $annotation.into()
            }

            fn output() -> String {
                $annotation.into()
            }
        })+)+
    };
}

annotate! {
    "int": i8, i16, i32, i64, i128, isize, u16, u32, u64, u128, usize;
    "float": f32, f64;
    "bool": bool;
    "str": String, str, char, Box<str>, Arc<str>, std::borrow::Cow<'_, str>;
    "None": ();
    "datetime.timedelta": Duration;
    "datetime.datetime": SystemTime;
    "bytes": [u8];
    "ipaddress.IPv4Address": std::net::Ipv4Addr;
    "ipaddress.IPv6Address": std::net::Ipv6Addr;
    "ipaddress.IPv4Address | ipaddress.IPv6Address": std::net::IpAddr;
}

impl Annotate for u8 {
    fn input() -> String {
        "int".into()
    }

    fn output() -> String {
        "int".into()
    }

    fn vec_input() -> String {
        "bytes | bytearray | Sequence[int]".into()
    }

    fn vec_output() -> String {
        "bytes".into()
    }
}

impl Annotate for Bytes {
    fn input() -> String {
        "bytes | bytearray | memoryview | str".into()
    }

    fn output() -> String {
        "bytes".into()
    }
}

impl Annotate for std::path::PathBuf {
    fn input() -> String {
        "str | os.PathLike[str]".into()
    }

    fn output() -> String {
        "pathlib.Path".into()
    }
}

impl<T: Annotate> Annotate for Option<T> {
    fn input() -> String {
        format!("{} | None", T::input())
    }

    fn output() -> String {
        format!("{} | None", T::output())
    }

    fn item() -> String {
        T::item()
    }
}

impl<T: Annotate> Annotate for Vec<T> {
    fn input() -> String {
        T::vec_input()
    }

    fn output() -> String {
        T::vec_output()
    }

    fn item() -> String {
        T::input()
    }
}

impl<T: Annotate, const N: usize> Annotate for [T; N] {
    fn input() -> String {
        T::vec_input()
    }

    fn output() -> String {
        format!("list[{}]", T::output())
    }
}

macro_rules! transparent {
    ($($ty:ident),+) => {
        $(impl<T: Annotate> Annotate for $ty<T> {
            fn input() -> String {
                T::input()
            }

            fn output() -> String {
                T::output()
            }

            fn item() -> String {
                T::item()
            }
        })+
    };
}

transparent!(Box, Arc);

impl<T: Annotate + ?Sized> Annotate for &T {
    fn input() -> String {
        T::input()
    }

    fn output() -> String {
        T::output()
    }
}

macro_rules! maps {
    ($($ty:ty { $($hasher:ident)? }),+) => {
        $(impl<K: Annotate, V: Annotate $(, $hasher)?> Annotate for $ty {
            fn input() -> String {
                format!("dict[{}, {}]", K::input(), V::input())
            }

            fn output() -> String {
                format!("dict[{}, {}]", K::output(), V::output())
            }

            fn item() -> String {
                V::input()
            }
        })+
    };
}

maps!(HashMap < K, V, S > { S }, BTreeMap < K, V > {});

macro_rules! sets {
    ($($ty:ty { $($hasher:ident)? }),+) => {
        $(impl<T: Annotate $(, $hasher)?> Annotate for $ty {
            fn input() -> String {
                format!("set[{}]", T::input())
            }

            fn output() -> String {
                format!("set[{}]", T::output())
            }
        })+
    };
}

sets!(HashSet<T, S> { S }, BTreeSet<T> {});

macro_rules! tuples {
    ($(($($item:ident),+);)+) => {
        $(impl<$($item: Annotate),+> Annotate for ($($item,)+) {
            fn input() -> String {
                format!("tuple[{}]", [$($item::input()),+].join(", "))
            }

            fn output() -> String {
                format!("tuple[{}]", [$($item::output()),+].join(", "))
            }
        })+
    };
}

tuples! {
    (A);
    (A, B);
    (A, B, C);
    (A, B, C, D);
    (A, B, C, D, E);
    (A, B, C, D, E, F);
}

/// A probed type that has annotations.
#[doc(hidden)]
#[allow(missing_docs)]
pub trait Annotated {
    fn input(&self) -> String;
    fn output(&self) -> String;
    fn item(&self) -> String;
}

impl<T: Annotate> Annotated for Probe<T> {
    fn input(&self) -> String {
        T::input()
    }

    fn output(&self) -> String {
        T::output()
    }

    fn item(&self) -> String {
        T::item()
    }
}

/// A probed type that has none: found after the other, because calling it takes one reference more.
#[doc(hidden)]
#[allow(missing_docs)]
pub trait AnnotatedNot {
    fn input(&self) -> String {
        "Any".into()
    }

    fn output(&self) -> String {
        "Any".into()
    }

    fn item(&self) -> String {
        "Any".into()
    }
}

impl<T> AnnotatedNot for &Probe<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unknown;

    #[test]
    fn containers_take_more_than_they_give() {
        type Orders = HashMap<String, Vec<(u64, Option<f64>)>>;
        assert_eq!(Orders::input(), "dict[str, Sequence[tuple[int, float | None]]]");
        assert_eq!(Orders::output(), "dict[str, list[tuple[int, float | None]]]");
        assert_eq!(Vec::<Vec<u8>>::output(), "list[bytes]");
        assert_eq!(Arc::<HashSet<Duration>>::output(), "set[datetime.timedelta]");
    }

    #[test]
    #[allow(clippy::needless_borrow, reason = "as the macros write it, for any type")]
    fn an_unknown_type_is_any() {
        assert_eq!((&Probe::<u32>::new()).output(), "int");
        assert_eq!((&Probe::<Unknown>::new()).output(), "Any");
        assert_eq!((&Probe::<Vec<Unknown>>::new()).input(), "Any");
    }
}
