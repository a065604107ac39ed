//! TLS: a certificate chain and a key from PEM files, through rustls and ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::HubError;

/// The files of a server's certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate and those above it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

fn failed(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> HubError + '_ {
    move |error| HubError::Tls(format!("{}: {error}", path.display()))
}

impl Tls {
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, HubError> {
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .map_err(failed(&self.certificate))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed(&self.certificate))?;
        if chain.is_empty() {
            return Err(HubError::Tls(format!(
                "{}: there is no certificate in it",
                self.certificate.display()
            )));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(failed(&self.key))?;
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
}
