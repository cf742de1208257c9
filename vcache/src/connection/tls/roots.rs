//! The certificates that are trusted: the user's, else the system's, else those that Mozilla trusts, which come with us for
//! images that have none.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::Tls;
use crate::fork::PerProcess;
use crate::notes;

/// The system's. To read them takes milliseconds, so it is done once a process.
static SYSTEM: PerProcess<Arc<RootCertStore>> = PerProcess::new();

/// The trusted certificates for these settings.
///
/// # Errors
/// In words: a file that cannot be read, or has no certificate.
pub(super) fn trusted(tls: &Tls) -> Result<Arc<RootCertStore>, String> {
    if tls.trusts_the_system() {
        return Ok(Arc::clone(SYSTEM.get(system)));
    }
    let mut store = RootCertStore::empty();
    if let Some(file) = &tls.ca_file {
        add(&mut store, &read(file, "ssl_ca_certs")?, &format!("ssl_ca_certs '{}'", file.display()))?;
    }
    if let Some(folder) = &tls.ca_folder {
        let found = rustls_native_certs::load_certs_from_paths(None, Some(folder));
        if store.add_parsable_certificates(found.certs).0 == 0 {
            let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
            return Err(format!(
                "ssl_ca_path '{}' has no certificate that can be read{why}",
                folder.display()
            ));
        }
    }
    if let Some(text) = &tls.ca_text {
        add(&mut store, text.as_bytes(), "ssl_ca_data")?;
    }
    Ok(Arc::new(store))
}

fn system() -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        notes::say(
            "The system has no certificates of CAs (Debian: apt-get install ca-certificates): servers are verified by \
             those of Mozilla that came with django-vcache",
        );
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(store)
}

fn add(store: &mut RootCertStore, pem: &[u8], name: &str) -> Result<(), String> {
    for certificate in certificates(pem, name)? {
        store
            .add(certificate)
            .map_err(|error| format!("{name} has a certificate that cannot be used: {error}"))?;
    }
    Ok(())
}

/// The certificates in a text in PEM: at least one.
pub(super) fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{name} has no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{name} is not PEM: {error}")),
    }
}

/// The content of a file that a setting names.
pub(super) fn read(file: &Path, setting: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{setting} '{}' cannot be read: {error}", file.display()))
}
