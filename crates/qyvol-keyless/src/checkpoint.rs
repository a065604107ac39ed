//! A log's signed root (C2SP `tlog-checkpoint`, `signed-note`), and that an entry is under it
//! (RFC 6962, 2.1.1).

use crate::bundle::InclusionProof;
use crate::root::Log;
use crate::wire::{base64, sha256};
use crate::{Refusal, bounds};

/// Checks that the log has signed a root that the body is an entry under.
pub(crate) fn verify(proof: &InclusionProof, body: &[u8], log: &Log) -> Result<(), Refusal> {
    let checkpoint = proof.checkpoint.as_deref();
    let checkpoint = checkpoint.ok_or_else(|| Refusal::log("has a proof of inclusion without a checkpoint"))?;
    let (size, root) = read(checkpoint, log)?;
    if size != proof.size || root != proof.root {
        return Err(Refusal::log(
            "has a proof of inclusion in another tree than the checkpoint's",
        ));
    }
    let leaf = hash(&[&[0], body]);
    match root_over(leaf, proof) {
        Some(computed) if computed == root => Ok(()),
        _ => Err(Refusal::log("is not in the tree that its proof of inclusion is about")),
    }
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    sha256(&parts.concat()).to_vec()
}

/// The root that the proof's hashes lead to from a leaf (RFC 9162, 2.1.3.2). None if they are
/// too many or too few.
fn root_over(leaf: Vec<u8>, proof: &InclusionProof) -> Option<Vec<u8>> {
    let last = proof.size.checked_sub(1).filter(|last| proof.index <= *last)?;
    // Below this level the path has siblings on both sides, above it on the left alone.
    let inner = u64::BITS - (proof.index ^ last).leading_zeros();
    let border = proof.index.checked_shr(inner).unwrap_or(0).count_ones();
    if proof.hashes.len() != (inner + border) as usize || proof.hashes.iter().any(|hash| hash.len() != 32) {
        return None;
    }
    let climb = |node: Vec<u8>, (level, sibling): (usize, &Vec<u8>)| {
        let left = level >= inner as usize || proof.index >> level & 1 == 1;
        match left {
            true => hash(&[&[1], sibling, &node]),
            false => hash(&[&[1], &node, sibling]),
        }
    };
    Some(proof.hashes.iter().enumerate().fold(leaf, climb))
}

/// Size and root of a checkpoint that the log has signed. Signatures by others (witnesses)
/// are passed over.
fn read(checkpoint: &str, log: &Log) -> Result<(u64, Vec<u8>), Refusal> {
    let bad = || Refusal::log("has a checkpoint that can't be read");
    let (text, signatures) = checkpoint.split_once("\n\n").ok_or_else(bad)?;
    let mut lines = text.lines();
    let origin = lines.next().filter(|origin| !origin.is_empty()).ok_or_else(bad)?;
    let size = lines.next().ok_or_else(bad)?;
    let root = lines.next().and_then(base64).filter(|root| root.len() == 32);
    let root = root.ok_or_else(bad)?;
    if !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let size: u64 = size.parse().map_err(|_| bad())?;
    let signed = [text, "\n"].concat();
    let lines: Vec<&str> = signatures.lines().collect();
    if lines.len() > bounds::CHECKPOINT_SIGNATURES {
        return Err(Refusal::log("has a checkpoint of too many signatures"));
    }
    let by_log = lines.iter().any(|line| {
        let named = line.strip_prefix("\u{2014} ").and_then(|line| line.rsplit_once(' '));
        named.is_some_and(|(name, signature)| is_signer(name, origin) && is_signed(signature, &signed, log))
    });
    match by_log {
        true => Ok((size, root)),
        false => Err(Refusal::log("has a checkpoint that its log has not signed")),
    }
}

/// The log signs by the name of its checkpoint's origin; Rekor v1 has its tree's number
/// behind it.
fn is_signer(name: &str, origin: &str) -> bool {
    let rest = origin.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" - "))
}

fn is_signed(signature: &str, text: &str, log: &Log) -> bool {
    let Some(bytes) = base64(signature) else { return false };
    // The first four bytes name the key.
    let Some((hint, signature)) = bytes.split_at_checked(4) else {
        return false;
    };
    log.id.starts_with(hint) && log.key.verify(text.as_bytes(), signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root and path of a leaf, by the recursive definition (RFC 6962, 2.1).
    fn tree(leaves: &[Vec<u8>], index: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        if leaves.len() == 1 {
            return (leaves[0].clone(), Vec::new());
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let ((l, mut path), (r, other)) = match index < half {
            true => (tree(left, index), tree(right, 0)),
            false => {
                let right = tree(right, index - half);
                ((tree(left, 0).0, right.1), (right.0, Vec::new()))
            }
        };
        drop(other);
        path.push(if index < half { r.clone() } else { l.clone() });
        (hash(&[&[1], &l, &r]), path)
    }

    // [SIGN-053]
    #[test]
    fn inclusion_is_proved_for_each_leaf_of_each_tree_and_for_no_other() {
        for size in 1..=20u8 {
            let leaves: Vec<Vec<u8>> = (0..size).map(|n| hash(&[&[0], &[n]])).collect();
            for index in 0..size {
                let (root, hashes) = tree(&leaves, usize::from(index));
                let proof = InclusionProof {
                    index: u64::from(index),
                    size: u64::from(size),
                    root: root.clone(),
                    hashes,
                    checkpoint: None,
                };
                let leaf = leaves[usize::from(index)].clone();
                assert_eq!(root_over(leaf.clone(), &proof).as_ref(), Some(&root));
                let with = |change: &dyn Fn(&mut InclusionProof)| {
                    let mut proof = proof.clone();
                    change(&mut proof);
                    root_over(leaf.clone(), &proof)
                };
                assert_eq!(with(&|p| p.hashes.push(vec![0; 32])), None);
                assert_eq!(with(&|p| p.index = p.size), None);
                if size > 1 {
                    assert_ne!(with(&|p| p.hashes[0][0] ^= 1).as_ref(), Some(&root));
                    assert_eq!(with(&|p| drop(p.hashes.pop())), None);
                    assert_ne!(with(&|p| p.index = (p.index + 1) % p.size).as_ref(), Some(&root));
                }
            }
        }
        let huge = InclusionProof {
            index: u64::MAX - 1,
            size: u64::MAX,
            root: Vec::new(),
            hashes: vec![vec![0; 32]; 64],
            checkpoint: None,
        };
        root_over(vec![0; 32], &huge);
    }
}
