//! The protocols that trees are reached by.

/// The protocol of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP (RFC 9110): `HEAD`, `GET`, and to write `PUT` and `DELETE`. There are
    /// no listings, and directories are assumed to exist.
    Http,
    /// WebDAV (RFC 4918), class 1.
    WebDav,
    /// Amazon S3's REST interface, also of other services.
    S3 {
        /// The region that requests are signed for, such as `eu-west-1`.
        region: String,
    },
}
