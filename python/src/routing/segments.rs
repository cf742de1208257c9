//! One route as a list of segments, the parts between slashes. A segment is literal, or has one parameter with literal
//! text around it. The last one may take the rest of the path.
//!
//! A parameter fits what the converter of its name in Django fits.

/// Django's own path converters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Converter {
    /// ASCII digits.
    Int,
    /// Anything but a slash.
    Str,
    /// ASCII letters, digits, hyphens and underscores.
    Slug,
    /// A UUID in lower case, with hyphens.
    Uuid,
    /// The rest of the path, slashes included, newlines not.
    Path,
}

impl Converter {
    /// By the name that `path()` knows it by.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "int" => Self::Int,
            "str" => Self::Str,
            "slug" => Self::Slug,
            "uuid" => Self::Uuid,
            "path" => Self::Path,
            _ => return None,
        })
    }

    fn fits(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        !bytes.is_empty()
            && match self {
                Self::Int => bytes.iter().all(u8::is_ascii_digit),
                Self::Str => !bytes.contains(&b'/'),
                Self::Slug => bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
                Self::Uuid => is_uuid(bytes),
                Self::Path => !bytes.contains(&b'\n'),
            }
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// What stands between two slashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Segment {
    Literal(String),
    Parameter { before: String, converter: Converter, after: String },
}

impl Segment {
    /// The parameter's text in a part of a path; `Some("")` for a literal that fits.
    fn capture<'p>(&self, part: &'p str) -> Option<&'p str> {
        match self {
            Self::Literal(text) => (text == part).then_some(""),
            Self::Parameter { before, converter, after } => {
                let text = part.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                converter.fits(text).then_some(text)
            }
        }
    }

    fn takes_the_rest(&self) -> bool {
        matches!(self, Self::Parameter { converter: Converter::Path, .. })
    }
}

/// The segments of a route, behind the slash that each path begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segments(Vec<Segment>);

/// A piece of a route as it is written: text, or a parameter.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(String),
    Parameter(Converter),
}

impl Segments {
    /// From the pieces of a route. `Err` says why it cannot be in the table.
    pub(super) fn new(pieces: &[Piece]) -> Result<Self, &'static str> {
        let mut segments = Vec::new();
        let (mut before, mut parameter) = (String::new(), None);
        let mut finish = |before: &mut String, parameter: &mut Option<(Converter, String)>| {
            segments.push(match parameter.take() {
                None => Segment::Literal(std::mem::take(before)),
                Some((converter, after)) => {
                    Segment::Parameter { before: std::mem::take(before), converter, after }
                }
            });
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    for (at, part) in text.split('/').enumerate() {
                        if at > 0 {
                            finish(&mut before, &mut parameter);
                        }
                        match &mut parameter {
                            None => before.push_str(part),
                            Some((_, after)) => after.push_str(part),
                        }
                    }
                }
                Piece::Parameter(_) if parameter.is_some() => {
                    return Err("two parameters stand between the same two slashes");
                }
                Piece::Parameter(converter) => parameter = Some((*converter, String::new())),
            }
        }
        finish(&mut before, &mut parameter);
        let last = segments.len() - 1;
        for (at, segment) in segments.iter().enumerate() {
            if let Segment::Parameter { before, converter: Converter::Path, after } = segment
                && (at < last || !before.is_empty() || !after.is_empty())
            {
                return Err("a path converter that is not the whole rest of the route");
            }
        }
        Ok(Self(segments))
    }

    /// The shape that `matchit` looks for: routes of the same shape differ in their converters only.
    pub(super) fn shape(&self) -> String {
        let mut shape = String::new();
        for (at, segment) in self.0.iter().enumerate() {
            shape.push('/');
            match segment {
                Segment::Literal(text) => shape.push_str(&text.replace('{', "{{").replace('}', "}}")),
                _ if segment.takes_the_rest() => shape.push_str("{*rest}"),
                Segment::Parameter { .. } => shape.push_str(&format!("{{p{at}}}")),
            }
        }
        shape
    }

    /// The parameters' texts, in their order, if a path fits.
    pub(super) fn captures<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let mut rest = Some(path.strip_prefix('/')?);
        let mut found = Vec::new();
        for segment in &self.0 {
            let left = rest?;
            let part = match left.split_once('/') {
                Some((part, behind)) if !segment.takes_the_rest() => {
                    rest = Some(behind);
                    part
                }
                _ => {
                    rest = None;
                    left
                }
            };
            let text = segment.capture(part)?;
            if matches!(segment, Segment::Parameter { .. }) {
                found.push(text);
            }
        }
        rest.is_none().then_some(found)
    }

    /// Whether there may be a path of the other's shape that fits this one. It may say yes where there is none.
    pub(super) fn may_overlap(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        let rest = pairs.by_ref().find_map(|(a, b)| match (a, b) {
            _ if a.takes_the_rest() || b.takes_the_rest() => Some(true),
            (Segment::Literal(a), Segment::Literal(b)) => (a != b).then_some(false),
            _ => None,
        });
        rest.unwrap_or(self.0.len() == other.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Result<Segments, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('<') {
            let (name, behind) = behind.split_once('>').unwrap();
            pieces.push(Piece::Text(literal.into()));
            pieces.push(Piece::Parameter(Converter::by_name(name).unwrap()));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.into()));
        Segments::new(&pieces)
    }

    #[test]
    fn a_path_fits_as_with_django() {
        let cases: [(&str, &str, Option<&[&str]>); 16] = [
            ("", "/", Some(&[])),
            ("a/", "/a/", Some(&[])),
            ("a/", "/a", None),
            ("a", "/a/", None),
            ("a/<int>/b/", "/a/12/b/", Some(&["12"])),
            ("a/<int>/b/", "/a/1x/b/", None),
            ("a/<int>/b/", "/a/\u{0661}/b/", None),
            ("a/<str>", "/a/", None),
            ("a/<str>", "/a/b/c", None),
            ("a/<slug>.json", "/a/b-1_.json", Some(&["b-1_"])),
            ("a/<slug>.json", "/a/.json", None),
            ("v<int>/<str>/", "/v2/x y/", Some(&["2", "x y"])),
            ("f/<path>", "/f/a/b.txt", Some(&["a/b.txt"])),
            ("f/<path>", "/f/", None),
            ("f/<path>", "/f/a\nb", None),
            (
                "<uuid>",
                "/0190a3f0-7c1e-7aaa-8bbb-0123456789ab",
                Some(&["0190a3f0-7c1e-7aaa-8bbb-0123456789ab"]),
            ),
        ];
        for (pattern, path, expected) in cases {
            let found = route(pattern).unwrap().captures(path);
            assert_eq!(found.as_deref(), expected, "{pattern} {path}");
        }
        assert_eq!(route("<uuid>").unwrap().captures("/0190A3F0-7c1e-7aaa-8bbb-0123456789ab"), None);
    }

    #[test]
    fn what_the_table_cannot_hold_says_why() {
        assert!(route("<int>-<int>/").unwrap_err().contains("two parameters"));
        assert!(route("<path>/edit").unwrap_err().contains("path converter"));
        assert!(route("x<path>").unwrap_err().contains("path converter"));
    }

    #[test]
    fn shapes_name_parameters_by_their_place() {
        assert_eq!(route("a{b}/<int>/<path>").unwrap().shape(), "/a{{b}}/{p1}/{*rest}");
        assert_eq!(route("").unwrap().shape(), "/");
    }

    #[test]
    fn overlaps_are_found_between_literals_and_parameters() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (route(a).unwrap(), route(b).unwrap());
            assert_eq!(a.may_overlap(&b), b.may_overlap(&a));
            a.may_overlap(&b)
        };
        assert!(overlap("a/<int>/", "a/<str>/"));
        assert!(overlap("a/<str>/", "a/b/"));
        assert!(overlap("a/<path>", "a/b/c/"));
        assert!(!overlap("a/b/", "a/c/"));
        assert!(!overlap("a/b", "a/b/"));
        assert!(!overlap("a/<str>/x/", "a/b/"));
    }
}
