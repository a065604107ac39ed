//! Blobs that are not what their descriptors say, or don't come whole.

use qyvol_store::{MemoryStore, StoreError};

use crate::registry::Registry;
use crate::server::{Act, Framing, Server};
use crate::support::*;

#[test]
fn image_of_a_correct_registry_is_not_pulled() {
    let image = Image::new(300_000);
    let server = Server::new(image.registry());
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
    let other = Server::new(Registry::default());
    push(&client(), &other, &image).unwrap();
    let store = MemoryStore::new();
    pull(&other, &store).unwrap();
    assert!(image.is_in(&store));
}
