//! Signatures over pickles. Loading a pickle runs code, so only those that a holder of one of our keys made
//! are ever handed to `pickle.loads`. HMAC-SHA256, with a key derived for this one purpose, over purpose,
//! flags and payload.

use hmac::{Hmac, KeyInit, Mac};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sha2::{Digest, Sha256};

use super::error::DecodeError;

/// Bytes of a signature, before the payload.
pub(super) const TAG_LEN: usize = 32;

/// Separates these signatures from anything else that Django or a user signs with `SECRET_KEY`.
const DOMAIN: &[u8] = b"django_vcache.codec.pickle.v1";

/// The keys, ready for use: the first signs, all verify.
pub(super) struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// # Errors
    /// `ValueError` for an empty key: anybody could sign with it.
    pub(super) fn new(keys: &[Vec<u8>]) -> PyResult<Self> {
        let derive = |key: &Vec<u8>| {
            if key.is_empty() {
                return Err(PyValueError::new_err(
                    "a signing key (SECRET_KEY, SECRET_KEY_FALLBACKS) must not be empty",
                ));
            }
            let derived = Sha256::new().chain_update(DOMAIN).chain_update(key).finalize();
            Hmac::new_from_slice(&derived).map_err(|error| PyValueError::new_err(error.to_string()))
        };
        Ok(Self { keys: keys.iter().map(derive).collect::<PyResult<_>>()? })
    }

    /// Whether there is a key to sign with.
    pub(super) fn can_sign(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The signature of `payload`, or None without keys.
    pub(super) fn sign(&self, flags: u8, payload: &[u8]) -> Option<[u8; TAG_LEN]> {
        Some(over(self.keys.first()?, flags, payload).finalize().into_bytes().into())
    }

    /// Splits `signed` into signature and payload, and returns the payload if the signature is one of ours.
    pub(super) fn verify<'a>(&self, flags: u8, signed: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let (tag, payload) = signed.split_first_chunk::<TAG_LEN>().ok_or(DecodeError::Truncated)?;
        // `verify_slice` compares in constant time.
        let ours = self.keys.iter().any(|key| over(key, flags, payload).verify_slice(tag).is_ok());
        if ours { Ok(payload) } else { Err(DecodeError::Forged) }
    }
}

fn over(key: &Hmac<Sha256>, flags: u8, payload: &[u8]) -> Hmac<Sha256> {
    key.clone().chain_update(DOMAIN).chain_update([flags]).chain_update(payload)
}
