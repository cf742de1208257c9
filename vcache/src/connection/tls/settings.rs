//! From settings to what rustls takes. It is made once for settings, and again when a file that they name has changed, so that
//! certificates can be renewed under a running process. Sessions are resumed as long as it stays.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, DEFAULT_VERSIONS};

use super::Failure;
use super::roots::{certificates, read, trusted};
use super::verifier::Forgiving;
use crate::config::{Identity, Tls, Verify};
use crate::fork::PerProcess;
use crate::sync::lock;

/// More settings than this, and those from before are made anew.
const MOST: usize = 64;

static MADE: PerProcess<Mutex<HashMap<Tls, Made>>> = PerProcess::new();

struct Made {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
}

/// When a file was written, and how long it is; None if it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// What rustls takes, for connector threads: files may be read.
pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, Failure> {
    let stamps = stamps(tls);
    if let Some(made) = lock(MADE.get(Mutex::default)).get(tls)
        && made.stamps == stamps
    {
        return Ok(Arc::clone(&made.config));
    }
    let config = Arc::new(make(tls).map_err(Failure::Refused)?);
    let mut made = lock(MADE.get(Mutex::default));
    if made.len() >= MOST {
        made.clear();
    }
    made.insert(tls.clone(), Made { stamps, config: Arc::clone(&config) });
    Ok(config)
}

fn stamps(tls: &Tls) -> Vec<Stamp> {
    let identity = tls.identity.iter().flat_map(|Identity { certificate, key }| [certificate, key]);
    tls.ca_file.iter().chain(&tls.ca_folder).chain(identity).map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn make(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(provider());
    let only_1_3: &[_] = &[&rustls::version::TLS13];
    let versions = if tls.only_1_3 { only_1_3 } else { DEFAULT_VERSIONS };
    // NOTE: never the process' default provider, which belongs to the program that we are a guest in.
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let strict = match tls.verify {
        Verify::Nothing => None,
        Verify::Full | Verify::Chain => Some(
            WebPkiServerVerifier::builder_with_provider(trusted(tls)?, Arc::clone(&provider))
                .build()
                .map_err(|error| format!("TLS cannot be set up: {error}"))?,
        ),
    };
    let builder = match (tls.verify, strict) {
        (Verify::Full, Some(strict)) => builder.with_webpki_verifier(strict),
        (_, strict) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Forgiving { strict, provider }))
        }
    };
    let Some(Identity { certificate, key }) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let name = format!("ssl_certfile '{}'", certificate.display());
    let chain = certificates(&read(certificate, "ssl_certfile")?, &name)?;
    builder
        .with_client_auth_cert(chain, private_key(key)?)
        .map_err(|error| format!("{name} and its key do not fit together, or cannot be used: {error}"))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(file, "ssl_keyfile")?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let shown = file.display();
        if pem.windows(9).any(|word| word == b"ENCRYPTED") {
            format!(
                "the key in ssl_keyfile '{shown}' is encrypted, which is not supported: write it without a password \
                 (openssl pkey -in key.pem -out plain.pem) where only the server's user can read it"
            )
        } else {
            format!("ssl_keyfile '{shown}' has no private key in PEM")
        }
    })
}

#[cfg(feature = "aws-lc-rs")]
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "aws-lc-rs"))]
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}
