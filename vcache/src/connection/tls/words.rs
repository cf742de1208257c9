//! What rustls says of a failed handshake, in words that name the setting to change.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why there is no TLS with `host`, and what to do.
pub(super) fn of(error: &Error, host: &str) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why, host),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what answers there does not speak TLS: begin the URL with redis:// or valkey://, or use the server's TLS port"
                .to_owned()
        }
        Error::AlertReceived(alert) => alerted(*alert),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the server speaks TLS in a version that is not taken (see ssl_min_version)".to_owned(),
        _ => format!("the TLS handshake failed: {error}"),
    }
}

fn certificate(why: &CertificateError, host: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => "the server's certificate is of a CA that is not trusted: give the CA's \
             certificate as ssl_ca_certs. A certificate that signed itself is its own CA's. On a network that is \
             yours alone, ssl_cert_reqs=none takes any certificate"
            .to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: is this machine's clock wrong?".to_owned()
        }
        CertificateError::NotValidForName => another_name(host, ""),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = if presented.is_empty() {
                "; it has no subject alternative name".to_owned()
            } else {
                let some: Vec<_> = presented.iter().take(5).map(String::as_str).collect();
                format!("; it is for {}", some.join(", "))
            };
            another_name(host, &names)
        }
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
            format!("the server's certificate cannot be read ({why})")
        }
        _ => format!("the server's certificate is not valid: {why}"),
    }
}

fn another_name(host: &str, names: &str) -> String {
    format!(
        "the server's certificate is not for '{host}'{names}: name the host as its certificate does, or set \
         ssl_check_hostname=false, which takes that of any host with a trusted CA"
    )
}

fn alerted(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => format!(
            "the server refused the TLS handshake ({alert:?}): it may want a client's certificate, as ssl_certfile and \
             ssl_keyfile"
        ),
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate => {
            format!("the server refused the client's certificate in ssl_certfile ({alert:?})")
        }
        AlertDescription::ProtocolVersion => {
            "the server refused the version of TLS; 1.2 and 1.3 are spoken (see ssl_min_version)".to_owned()
        }
        _ => format!("the server ended the TLS handshake ({alert:?})"),
    }
}
