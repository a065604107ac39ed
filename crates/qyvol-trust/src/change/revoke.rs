//! Revoking keys and images, and undoing that.

use qyvol_types::Digest;
use qyvol_types::yaml::{Step, Written, scalar};

use super::{Edit, PolicyEditError, refused};
use crate::KeyId;
use crate::revoked::RevokedKey;

impl Edit {
    pub(super) fn revoke_key(&mut self, id: KeyId, keep: &[Digest]) -> Result<(), PolicyEditError> {
        if let Some(before) = self.after.revoked.keys.iter().find(|key| key.id == id) {
            return match before.keep == keep {
                true => Ok(()),
                false => refused(format!(
                    "{} is revoked already, with other images to keep: change `revoked` by hand",
                    id.fingerprint()
                )),
            };
        }
        let known = self.after.keys.iter().find(|k| k.signer.id() == id);
        let is_identity = known.is_some_and(|k| k.signer.key().is_none());
        let name = known.map(|k| k.name.clone());
        let text = name.clone().unwrap_or_else(|| id.fingerprint());
        self.after.revoked.keys.push(RevokedKey {
            id,
            keep: keep.to_vec(),
        });
        let mut item = scalar(&text);
        if !keep.is_empty() {
            let keep: Vec<String> = keep.iter().map(|digest| scalar(&digest.to_string())).collect();
            item = format!("{{ key: {item}, keep: [{}] }}", keep.join(", "));
        }
        self.revoke("keys", &item)?;
        let fingerprint = id.fingerprint();
        self.notes.push(match name {
            Some(name) if is_identity => format!("identity {name} revoked"),
            Some(name) => format!("key {name} {fingerprint} revoked"),
            None => format!("key {fingerprint} revoked"),
        });
        for digest in keep {
            self.notes.push(format!("its signatures over {digest} still count"));
        }
        Ok(())
    }

    pub(super) fn revoke_image(&mut self, digest: &Digest) -> Result<(), PolicyEditError> {
        if self.after.revoked.images.contains(digest) {
            return Ok(());
        }
        self.after.revoked.images.push(*digest);
        self.revoke("images", &scalar(&digest.to_string()))?;
        self.notes.push(format!("image {digest} revoked"));
        Ok(())
    }

    pub(super) fn reinstate_key(&mut self, id: KeyId) -> Result<(), PolicyEditError> {
        // From the end, so that what is left keeps its place.
        for index in (0..self.after.revoked.keys.len()).rev() {
            if self.after.revoked.keys.get(index).is_some_and(|key| key.id == id) {
                self.after.revoked.keys.remove(index);
                self.drop_revoked("keys", index)?;
                let named = self.after.keys.iter().find(|key| key.signer.id() == id);
                let name = named.map_or_else(|| id.fingerprint(), |key| key.name.clone());
                self.notes.push(format!("{name} no longer revoked"));
            }
        }
        Ok(())
    }

    pub(super) fn reinstate_image(&mut self, digest: &Digest) -> Result<(), PolicyEditError> {
        for index in (0..self.after.revoked.images.len()).rev() {
            if self.after.revoked.images.get(index) == Some(digest) {
                self.after.revoked.images.remove(index);
                self.drop_revoked("images", index)?;
                self.notes.push(format!("image {digest} no longer revoked"));
            }
        }
        Ok(())
    }

    /// Removes an item of a list of what is revoked.
    fn drop_revoked(&mut self, list: &str, index: usize) -> Result<(), PolicyEditError> {
        self.text.remove(&[Step::Key("revoked"), Step::Key(list)], index)?;
        // After the last item, the list has brackets: a key without a value refuses the policy.
        if self.node(&["revoked", list]).is_none() {
            let none = Written::Inline("[]".to_string());
            self.text.set(&[Step::Key("revoked")], list, &none)?;
        }
        Ok(())
    }

    /// Adds an item, as YAML writes it on one line, to a list of what is revoked.
    fn revoke(&mut self, list: &str, item: &str) -> Result<(), PolicyEditError> {
        let inline = Written::Inline(item.to_string());
        match self.node(&["revoked", list]) {
            Some(_) => self.text.push(&[Step::Key("revoked"), Step::Key(list)], &inline)?,
            None => self.put("revoked", list, Written::Inline(format!("[{item}]")))?,
        }
        Ok(())
    }
}
