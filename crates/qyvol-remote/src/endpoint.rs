//! Where a registry is reached, and under which name its credentials are stored.

use crate::Options;
use crate::url::Url;

/// Docker Hub as users name it.
const DOCKER_HUB: &str = "docker.io";
/// Docker Hub's API (as in oras-go, `registry/reference.go`).
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// The key of Docker Hub's credentials in Docker's files and helpers.
const DOCKER_HUB_CREDENTIALS: &str = "https://index.docker.io/v1/";

/// The key of a registry's credentials in files and helpers.
pub(crate) fn credentials_key(registry: &str) -> &str {
    match registry {
        DOCKER_HUB | DOCKER_HUB_API => DOCKER_HUB_CREDENTIALS,
        other => other,
    }
}

/// What is to be done in a repository: the scope of the access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// Reading and deleting.
    Delete,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Access::Pull => "pull",
            Access::Push => "pull,push",
            Access::Delete => "pull,delete",
        }
    }
}

/// The address of a repository or of a whole registry, and what is to be done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The registry as users name it: credentials are looked up by it.
    pub(crate) registry: String,
    /// Scheme, host and port.
    pub(crate) origin: Url,
    /// The repository's path there; empty for a whole registry.
    pub(crate) repository: String,
    /// Scopes of the access token, separated by spaces.
    pub(crate) scope: String,
    /// A mirror: if it fails, the registry is used.
    pub(crate) is_mirror: bool,
    /// Gets one attempt at each request: its answer is not essential.
    pub(crate) is_single_attempt: bool,
}

impl Endpoint {
    /// A whole registry.
    pub(crate) fn registry(options: &Options, registry: &str, scope: &str) -> Endpoint {
        let host = if registry == DOCKER_HUB {
            DOCKER_HUB_API
        } else {
            registry
        };
        Endpoint {
            registry: registry.to_string(),
            origin: Url::new(options.is_secure(registry), host, "/"),
            repository: String::new(),
            scope: scope.to_string(),
            is_mirror: false,
            is_single_attempt: false,
        }
    }

    /// A repository, as users name it, and others to mount blobs from.
    pub(crate) fn repository<'m>(
        options: &Options,
        registry: &str,
        name: &str,
        access: Access,
        mounts: impl IntoIterator<Item = &'m str>,
    ) -> Endpoint {
        let path = repository_path(registry, name);
        let mut scope = format!("repository:{path}:{}", access.actions());
        for other in mounts {
            scope.push_str(&format!(" repository:{}:pull", repository_path(registry, other)));
        }
        Endpoint {
            repository: path,
            ..Endpoint::registry(options, registry, &scope)
        }
    }

    /// The same repository on a mirror, `host[:port][/prefix]`.
    pub(crate) fn mirror(&self, options: &Options, mirror: &str) -> Endpoint {
        let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
        let path = match prefix {
            "" => self.repository.clone(),
            prefix => format!("{prefix}/{}", self.repository),
        };
        Endpoint {
            scope: format!("repository:{path}:pull"),
            repository: path,
            is_mirror: true,
            ..Endpoint::registry(options, host, "")
        }
    }

    /// The same without the scopes of other repositories; none where there are
    /// no others.
    pub(crate) fn without_mounts(&self) -> Option<Endpoint> {
        let (own, _) = self.scope.split_once(' ')?;
        Some(self.with_scope(own.to_string()))
    }

    /// The same for deleting.
    pub(crate) fn for_delete(&self) -> Endpoint {
        self.with_scope(format!("repository:{}:{}", self.repository, Access::Delete.actions()))
    }

    fn with_scope(&self, scope: String) -> Endpoint {
        Endpoint { scope, ..self.clone() }
    }

    /// `host` or `host:port` that is connected to, for messages.
    pub(crate) fn host(&self) -> &str {
        self.origin.authority()
    }

    /// A URL below the repository.
    pub(crate) fn url(&self, path: &str) -> Url {
        self.origin.with_path(&format!("/v2/{}/{path}", self.repository))
    }
}

/// The path of a repository in a registry's API. Docker Hub keeps its official
/// images, which have a single-component name, under `library`.
pub(crate) fn repository_path(registry: &str, name: &str) -> String {
    if registry == DOCKER_HUB && !name.contains('/') {
        return format!("library/{name}");
    }
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(registry: &str, name: &str) -> Endpoint {
        Endpoint::repository(&Options::default(), registry, name, Access::Pull, [])
    }

    // [REG-020]
    #[test]
    fn docker_hub_is_reached_at_its_api_with_library_before_bare_names() {
        let hub = endpoint("docker.io", "hello");
        assert_eq!(
            hub.url("manifests/1").to_string(),
            "https://registry-1.docker.io/v2/library/hello/manifests/1"
        );
        assert_eq!(hub.scope, "repository:library/hello:pull");
        assert_eq!(endpoint("docker.io", "acme/hello").repository, "acme/hello");
        assert_eq!(endpoint("r.example", "hello").repository, "hello");
        for name in ["docker.io", "registry-1.docker.io"] {
            assert_eq!(credentials_key(name), "https://index.docker.io/v1/");
        }
        assert_eq!(credentials_key("r.example:5000"), "r.example:5000");
    }

    #[test]
    fn mirror_has_its_own_host_scope_and_prefix() {
        let options = Options::default();
        let mirror = endpoint("docker.io", "hello").mirror(&options, "harbor.example:8443/hub");
        assert_eq!(
            mirror.url("tags/list").to_string(),
            "https://harbor.example:8443/v2/hub/library/hello/tags/list"
        );
        assert_eq!(mirror.scope, "repository:hub/library/hello:pull");
        assert_eq!(mirror.registry, "harbor.example:8443");
    }

    #[test]
    fn scopes_of_mounts_can_be_left_out() {
        let options = Options::default();
        let endpoint = Endpoint::repository(&options, "r.example", "app", Access::Push, ["lib"]);
        assert_eq!(endpoint.scope, "repository:app:pull,push repository:lib:pull");
        let narrow = endpoint.without_mounts().unwrap();
        assert_eq!(narrow.scope, "repository:app:pull,push");
        assert_eq!(narrow.without_mounts(), None);
        assert_eq!(endpoint.for_delete().scope, "repository:app:pull,delete");
    }
}
