//! Records what the guest changed, after the kernel accepted it.

use super::{Here, Node, Tree};
use crate::meta::Found;

impl Tree {
    /// See [`crate::NetFs::removed`].
    pub(crate) fn removed(&mut self, path: &str) {
        let mut paths: Vec<String> = self.below(path).map(|(path, _)| path.clone()).collect();
        paths.push(path.to_string());
        for path in paths {
            self.release(&path);
            if let Some(node) = self.nodes.get_mut(&path) {
                node.here = Here::Nothing;
                node.is_guests = true;
            }
        }
    }

    /// See [`crate::NetFs::made_directory`].
    pub(crate) fn made_directory(&mut self, path: &str) {
        let node = self
            .nodes
            .entry(path.to_string())
            .or_insert_with(|| Node::new(None, Here::Directory));
        node.here = Here::Directory;
        node.is_guests = true;
    }

    /// See [`crate::NetFs::renamed`].
    pub(crate) fn renamed(&mut self, from: &str, to: &str) {
        if from == to {
            return;
        }
        let below = self.below(from).map(|(path, _)| path.clone());
        let mut moved: Vec<String> = below.collect();
        moved.push(from.to_string());
        for path in moved {
            let place = format!("{to}{}", path.strip_prefix(from).unwrap_or_default());
            let here = self.nodes.get(&path).map(|node| node.here);
            // What was there no longer counts, except for what the server has.
            self.release(&place);
            let before = self.nodes.get(&place);
            let node = Node {
                is_guests: true,
                base: before.and_then(|node| node.base),
                // The private directory shows what is here.
                ..Node::new(
                    before.and_then(|node| node.remote.clone()),
                    match here {
                        Some(Here::Directory) => Here::Directory,
                        _ => Here::Filled(0),
                    },
                )
            };
            self.release(&path);
            self.nodes.insert(place, node);
            if let Some(left) = self.nodes.get_mut(&path) {
                left.here = Here::Nothing;
                left.is_guests = true;
                if left.remote.is_none() {
                    left.remote = Some(Found::Absent);
                }
            }
        }
    }
}
