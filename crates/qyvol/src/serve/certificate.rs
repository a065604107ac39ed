//! The certificate of a server, its key, and the authorities for clients: files that are
//! reloaded when they change, as they do at each renewal.

use std::path::PathBuf;
use std::sync::Arc;

use qyvol_serve::{Tls, TlsContents};

use super::watch::{Stamp, stamp};
use crate::Error;
use crate::hosts::read_certificates;
use crate::keys::read_private;

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, which nobody else may read.
    pub key: PathBuf,
    /// The authorities for client certificates, PEM; none if clients are not authenticated.
    pub clients: Option<PathBuf>,
}

/// Their content.
struct Contents {
    chain: Vec<u8>,
    key: zeroize::Zeroizing<String>,
    clients: Option<Vec<u8>>,
}

impl Contents {
    fn pem(&self) -> TlsContents<'_> {
        TlsContents {
            chain: &self.chain,
            key: self.key.as_bytes(),
            clients: self.clients.as_deref(),
        }
    }
}

/// A certificate in use.
pub(super) struct Certificate {
    files: TlsFiles,
    pub(super) tls: Arc<Tls>,
    seen: [Option<Stamp>; 3],
}

impl Certificate {
    pub(super) fn open(files: &TlsFiles) -> Result<Certificate, Error> {
        let seen = files.stamps();
        let tls = Tls::new(files.read()?.pem()).map_err(|why| files.error(why))?;
        Ok(Certificate {
            files: files.clone(),
            tls: Arc::new(tls),
            seen,
        })
    }

    /// Reads the files again if they have changed. True if the new content is used now.
    pub(super) fn renew(&mut self) -> Result<bool, Error> {
        let seen = self.files.stamps();
        if seen == self.seen {
            return Ok(false);
        }
        self.seen = seen;
        let replaced = self.tls.replace(self.files.read()?.pem());
        replaced.map_err(|why| self.files.error(why)).map(|()| true)
    }
}

impl TlsFiles {
    fn stamps(&self) -> [Option<Stamp>; 3] {
        let clients = self.clients.as_deref().and_then(stamp);
        [stamp(&self.certificate), stamp(&self.key), clients]
    }

    fn read(&self) -> Result<Contents, Error> {
        let (key, _) = read_private(&self.key)?;
        Ok(Contents {
            chain: read_certificates(&self.certificate)?,
            key,
            clients: self.clients.as_deref().map(read_certificates).transpose()?,
        })
    }

    fn error(&self, why: String) -> Error {
        Error::Certificate {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            why,
        }
    }
}
