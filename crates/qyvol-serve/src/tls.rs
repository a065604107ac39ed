//! TLS, by rustls with ring, and the identity that a client proves by it.

use std::sync::{Arc, PoisonError, RwLock};

use qyvol_runtime::Peer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// The name of HTTP/2 in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";
/// That of HTTP/1.1.
const HTTP1: &[u8] = b"http/1.1";

/// The files of a server's TLS, all PEM.
#[derive(Clone, Copy)]
pub struct TlsContents<'a> {
    /// Its certificate with its chain.
    pub chain: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
    /// The authorities for client certificates; none if clients are not authenticated.
    pub clients: Option<&'a [u8]>,
}

/// A certificate and its key. They can be replaced: the next handshake has the new ones.
pub struct Tls {
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// TLS with what is in these files.
    ///
    /// # Errors
    ///
    /// Why they can't be used.
    pub fn new(contents: TlsContents<'_>) -> Result<Tls, String> {
        Ok(Tls {
            current: RwLock::new(config(contents)?),
        })
    }

    /// Replaces them for new connections. Existing connections keep their identity; no old
    /// session can be resumed.
    ///
    /// # Errors
    ///
    /// Why they can't be used: the previous ones stay in use.
    pub fn replace(&self, contents: TlsContents<'_>) -> Result<(), String> {
        let config = config(contents)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The client of a connection whose handshake is over, if it was asked who it is.
pub(crate) fn peer(connection: &ServerConnection) -> Option<Peer> {
    let certificate = connection.peer_certificates()?.first()?;
    // It was read by the same parser when it was verified.
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(Peer::of_key(&parsed.subject_public_key_info()))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("{what} is not PEM: {e}"))?;
    match certificates.is_empty() {
        true => Err(format!("{what} contains no certificate")),
        false => Ok(certificates),
    }
}

fn config(TlsContents { chain, key, clients }: TlsContents<'_>) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(chain, "the certificate")?;
    // A service starts where nobody types a passphrase, and reads a renewed key by itself.
    if qyvol_types::pem::is_encrypted_key(key) {
        return Err(
            "the key is encrypted: `openssl pkey -in KEY -out PLAIN` decrypts it, after `umask 077`".to_string(),
        );
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the key is not PEM: {e}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, "the file of --client-ca")? {
                roots
                    .add(certificate)
                    .map_err(|e| format!("a certificate for clients: {e}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|e| e.to_string())?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(Arc::new(config))
}
