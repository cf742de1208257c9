//! Which key a request has: clients put it into a header, into the query or, behind a tunnel, only into the envelope.

use crate::refusal::Refusal;

/// Characters of a key, which is made by us.
const LONGEST_KEY: usize = 64;

/// A DSN, as far as it is needed: `https://KEY@host/path/PROJECT`.
#[derive(Debug, PartialEq, Eq)]
struct Dsn<'a> {
    key: &'a str,
    project: &'a str,
}

/// The key in an envelope's DSN.
///
/// # Errors
/// A refusal with 400 for what is not a DSN, and for one of another project than the address says.
pub fn key_of_dsn(dsn: &str, project: u64) -> Result<&str, Refusal> {
    let Some(read) = read_dsn(dsn) else {
        return Err(Refusal::bad(
            "the dsn in the envelope's header is not of the form https://KEY@HOST/PROJECT",
        ));
    };
    if read.project.parse() != Ok(project) {
        return Err(Refusal::bad(format!(
            "the dsn in the envelope's header is not one of project {project}"
        )));
    }
    Ok(read.key)
}

/// The key in `X-Sentry-Auth` or `Authorization`: `Sentry sentry_key=..., sentry_version=7`; the word in front may be missing.
pub fn key_in_header(value: &str) -> Option<&str> {
    let fields = value.trim();
    let fields = match fields.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("sentry ") => &fields[7..],
        _ => fields,
    };
    fields
        .split(',')
        .find_map(|field| field.trim().strip_prefix("sentry_key="))
        .map(|key| key.trim_matches('"'))
}

fn read_dsn(dsn: &str) -> Option<Dsn<'_>> {
    let (_, rest) = dsn.split_once("://")?;
    let (user, place) = rest.split_once('@')?;
    let key = user.split(':').next().filter(|key| is_key(key))?;
    let (_, project) = place.rsplit_once('/')?;
    Some(Dsn { key, project })
}

/// Whether it can be a key: what cannot is not looked up.
pub fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_a_header() {
        for value in [
            "Sentry sentry_key=a1b2, sentry_version=7, sentry_client=sentry.python/2.75.0",
            "sentry sentry_version=7,sentry_key=a1b2",
            "sentry_key=a1b2",
            "Sentry sentry_key=\"a1b2\"",
        ] {
            assert_eq!(key_in_header(value), Some("a1b2"), "{value}");
        }
        for value in ["", "Bearer a1b2", "Sentry é", "Séntry x", "Sentry"] {
            assert_eq!(key_in_header(value), None, "{value}");
        }
    }

    #[test]
    fn what_is_no_key_is_known_without_a_look() {
        assert!(is_key("a1b2"));
        for key in ["", "a b", "a:b", "a%20b", "é", &"a".repeat(65)] {
            assert!(!is_key(key), "{key}");
        }
    }

    #[test]
    fn a_dsn_has_the_key_and_must_be_of_the_project() {
        assert_eq!(key_of_dsn("https://a1b2@host/42", 42), Ok("a1b2"));
        assert_eq!(key_of_dsn("https://a1b2:secret@host:9000/some/path/42", 42), Ok("a1b2"));
        for dsn in [
            "https://a1b2@host/43",
            "https://a1b2@host/",
            "https://host/42",
            "a1b2@host/42",
            "https://@host/42",
            "",
        ] {
            assert_eq!(key_of_dsn(dsn, 42).unwrap_err().status, 400, "{dsn}");
        }
    }
}
