//! TLS: a certificate chain and a key from PEM files, through rustls and ring.
//! The files are read again when they change, as they do at each renewal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::HubError;
use crate::reload::Reloadable;

/// The files of a server's certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

fn failed(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> HubError + '_ {
    move |error| HubError::Tls(format!("{}: {error}", path.display()))
}

impl Tls {
    pub(crate) fn acceptor(&self) -> Result<Reloadable<TlsAcceptor>, HubError> {
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        let make = move |contents: &[Vec<u8>]| match contents {
            [chain, secret] => acceptor((&certificate, chain), (&key, secret)),
            _ => Err(HubError::Tls("a certificate and a key are needed".to_string())),
        };
        Reloadable::open(vec![self.certificate.clone(), self.key.clone()], Box::new(make))
    }
}

fn acceptor(certificate: (&Path, &[u8]), key: (&Path, &[u8])) -> Result<TlsAcceptor, HubError> {
    let chain = CertificateDer::pem_slice_iter(certificate.1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed(certificate.0))?;
    if chain.is_empty() {
        return Err(HubError::Tls(format!(
            "{}: it contains no certificate",
            certificate.0.display()
        )));
    }
    if qyvol_types::pem::is_encrypted_key(key.1) {
        return Err(HubError::Tls(format!(
            "{}: the key is encrypted: `openssl pkey -in KEY -out PLAIN` decrypts it, after `umask 077`",
            key.0.display()
        )));
    }
    let key = PrivateKeyDer::from_pem_slice(key.1).map_err(failed(key.0))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| HubError::Tls(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| HubError::Tls(e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
