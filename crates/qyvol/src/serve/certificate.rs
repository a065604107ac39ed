//! The certificate of a server, and its key: files, which are read again when they have
//! changed, as they do at each renewal.

use std::path::PathBuf;
use std::sync::Arc;

use qyvol_serve::Tls;

use super::watch::{Stamp, stamp};
use crate::Error;
use crate::hosts::read_certificates;
use crate::keys::read_private;

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those above it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, which nobody else may read.
    pub key: PathBuf,
}

/// A certificate that is used.
pub(super) struct Certificate {
    files: TlsFiles,
    pub(super) tls: Arc<Tls>,
    seen: [Option<Stamp>; 2],
}

impl Certificate {
    pub(super) fn open(files: &TlsFiles) -> Result<Certificate, Error> {
        let seen = files.stamps();
        let (chain, key) = files.read()?;
        let tls = Tls::new(&chain, key.as_bytes()).map_err(|why| files.error(why))?;
        Ok(Certificate {
            files: files.clone(),
            tls: Arc::new(tls),
            seen,
        })
    }

    /// Reads the files again if they have changed. True if what is in them is used now.
    pub(super) fn look(&mut self) -> Result<bool, Error> {
        let seen = self.files.stamps();
        if seen == self.seen {
            return Ok(false);
        }
        self.seen = seen;
        let (chain, key) = self.files.read()?;
        let replaced = self.tls.replace(&chain, key.as_bytes());
        replaced.map_err(|why| self.files.error(why)).map(|()| true)
    }
}

impl TlsFiles {
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [stamp(&self.certificate), stamp(&self.key)]
    }

    fn read(&self) -> Result<(Vec<u8>, zeroize::Zeroizing<String>), Error> {
        let (key, _) = read_private(&self.key)?;
        Ok((read_certificates(&self.certificate)?, key))
    }

    fn error(&self, why: String) -> Error {
        Error::Certificate {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            why,
        }
    }
}
