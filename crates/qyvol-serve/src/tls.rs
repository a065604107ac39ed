//! TLS, by rustls with ring.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name of HTTP/2 in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";
/// That of HTTP/1.1.
const HTTP1: &[u8] = b"http/1.1";

/// A certificate and its key. They can be replaced: the next handshake has the new ones.
pub struct Tls {
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// A certificate with those above it, and its private key, both PEM.
    ///
    /// # Errors
    ///
    /// Why they can't be used.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Tls, String> {
        Ok(Tls {
            current: RwLock::new(config(chain, key)?),
        })
    }

    /// Uses another certificate and key from now on.
    ///
    /// # Errors
    ///
    /// Why they can't be used: those before are used further.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), String> {
        let config = config(chain, key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("the certificate is not PEM: {e}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in it".to_string());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the key is not PEM: {e}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(Arc::new(config))
}
