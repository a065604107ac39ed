//! The certificates that are trusted: the system's and the operator's; Mozilla's where
//! the system has none. The environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` say
//! where the system's are.

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::Error;

/// The TLS configuration with these certificates, PEM, beside the system's.
pub(super) fn config(given: &[Vec<u8>]) -> Result<TlsConfig, Error> {
    let loaded = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> = loaded
        .iter()
        .map(|der| Certificate::from_der(der.as_ref()).to_owned())
        .collect();
    for pem in given {
        let before = roots.len();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(Error::Certificates(error.to_string())),
            }
        }
        if roots.len() == before {
            let why = "expected at least one certificate in PEM form".to_string();
            return Err(Error::Certificates(why));
        }
    }
    let roots = match roots.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::new_with_certs(&roots),
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}
