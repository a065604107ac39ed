//! `permissions.net`: sockets, name lookup and requests over HTTP.

mod endpoint;
mod guard;
mod special;
#[cfg(test)]
mod tests;

use std::fmt;

use qyvol_types::yaml::{self, Node, Reader};
use serde_json::{Value, json};

use crate::Denied;
use crate::capability::{Capability, Program};
use crate::words::{Withheld, Words};
pub use endpoint::Endpoint;
pub use guard::{NetGuard, NetUse};

/// Maximum number of endpoints in one list.
const MAX_ENDPOINTS: usize = 256;
/// The lists.
const CONNECT: &str = "connect";
const LISTEN: &str = "listen";

/// How much of the network a guest has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Net {
    /// Nothing.
    #[default]
    None,
    /// Everything that the host has.
    All,
    /// What is listed.
    Only(NetRules),
}

/// Lists of allowed endpoints; never both empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetRules {
    connect: Vec<Endpoint>,
    listen: Vec<Endpoint>,
}

impl NetRules {
    /// Where connections may go.
    pub fn connect(&self) -> &[Endpoint] {
        &self.connect
    }

    /// Where the guest may listen.
    pub fn listen(&self) -> &[Endpoint] {
        &self.listen
    }

    fn lists(&self) -> [(&'static str, &[Endpoint]); 2] {
        [(CONNECT, &self.connect), (LISTEN, &self.listen)]
    }
}

impl Net {
    /// What both allow together.
    pub fn or(self, other: Net) -> Net {
        match (self, other) {
            (Net::All, _) | (_, Net::All) => Net::All,
            (Net::None, net) | (net, Net::None) => net,
            (Net::Only(mut rules), Net::Only(more)) => {
                rules.connect.extend(more.connect);
                rules.listen.extend(more.listen);
                Net::Only(rules)
            }
        }
    }

    /// Whether every endpoint that `asked` allows is allowed.
    pub(crate) fn has(&self, asked: &Net) -> bool {
        match (self, asked) {
            (Net::All, _) | (_, Net::None) => true,
            (Net::Only(own), Net::Only(asked)) => {
                let covered = |own: &[Endpoint], asked: &[Endpoint]| {
                    asked.iter().all(|asked| own.iter().any(|own| own.covers(asked)))
                };
                covered(&own.connect, &asked.connect) && covered(&own.listen, &asked.listen)
            }
            _ => false,
        }
    }

    /// Connections to these endpoints.
    pub fn to(connect: Vec<Endpoint>) -> Net {
        match connect.is_empty() {
            true => Net::None,
            false => Net::Only(NetRules {
                connect,
                listen: Vec::new(),
            }),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Net::Only(rules) = self else {
            return (*self == Net::All).fmt(f);
        };
        let lists = rules.lists().into_iter().filter(|(_, endpoints)| !endpoints.is_empty());
        for (number, (list, endpoints)) in lists.enumerate() {
            let endpoints: Vec<String> = endpoints.iter().map(Endpoint::to_string).collect();
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{list} {}", endpoints.join(" "))?;
        }
        Ok(())
    }
}

impl Capability for Net {
    const NAME: &'static str = "net";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        if !matches!(node.value, yaml::Value::Mapping(_)) {
            let expected = "true, false, or endpoints under `connect` and `listen`";
            return Some(json!(reader.boolean_of(node, what, expected)?));
        }
        let fields = reader.fields(node, what, &[CONNECT, LISTEN])?;
        let mut lists = serde_json::Map::new();
        let mut complete = true;
        for list in [CONNECT, LISTEN] {
            let Some(node) = fields.get(list) else { continue };
            match endpoints(reader, node, list, &format!("{what}.{list}")) {
                Some(endpoints) if endpoints.is_empty() => {}
                Some(endpoints) => {
                    lists.insert(list.to_string(), json!(endpoints));
                }
                None => complete = false,
            }
        }
        complete.then(|| match lists.is_empty() {
            true => json!(false),
            false => Value::Object(lists),
        })
    }

    fn from_json(value: &Value) -> Option<Net> {
        if let Some(all) = value.as_bool() {
            return Some(if all { Net::All } else { Net::None });
        }
        let lists = value.as_object()?;
        let mut rules = NetRules::default();
        for (list, endpoints) in lists {
            let place = match list.as_str() {
                CONNECT => &mut rules.connect,
                LISTEN => &mut rules.listen,
                _ => return None,
            };
            let endpoints = endpoints.as_array().filter(|all| all.len() <= MAX_ENDPOINTS)?;
            for endpoint in endpoints {
                let endpoint = Endpoint::parse(endpoint.as_str()?).ok()?;
                if list == LISTEN && !endpoint.is_address() {
                    return None;
                }
                place.push(endpoint);
            }
        }
        let empty = rules.lists().iter().all(|(_, endpoints)| endpoints.is_empty());
        Some(if empty { Net::None } else { Net::Only(rules) })
    }

    fn to_json(&self) -> Value {
        let Net::Only(rules) = self else {
            return json!(*self == Net::All);
        };
        let lists = rules.lists().into_iter().filter(|(_, endpoints)| !endpoints.is_empty());
        let text = |endpoints: &[Endpoint]| endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>();
        Value::Object(lists.map(|(list, own)| (list.to_string(), json!(text(own)))).collect())
    }

    fn describe(&self, words: &mut Words<'_>) {
        match self {
            Net::None => words.withhold(Withheld {
                noun: words.either("network", "red"),
                verb: words.either("use the network", "usar la red"),
            }),
            Net::All => {
                let everything = words.either(
                    "use the network: look up any name, connect to any address, and listen at any",
                    "usar la red: buscar cualquier nombre, conectarse a cualquier dirección y escuchar en cualquiera",
                );
                words.may(everything.to_string());
            }
            Net::Only(rules) => {
                if !rules.connect.is_empty() {
                    let connect = words.either("connect to", "conectarse a");
                    words.may(format!("{connect} {}", words.listed(&rules.connect)));
                }
                if !rules.listen.is_empty() {
                    let listen = words.either("listen at", "escuchar en");
                    words.may(format!("{listen} {}", words.listed(&rules.listen)));
                }
            }
        }
    }

    fn denied(&self, program: &Program<'_>) -> Option<Denied> {
        (*self == Net::None).then(|| Denied {
            permission: "net: false",
            effect: "denies such calls",
            grant: "net: true     # or { connect: [\"api.example.com:443\"] }",
            // A service imports wasi:http/types to answer requests, which needs no network.
            imports: program.imports_of(&[
                "wasi:sockets/",
                "wasi:http/outgoing-handler",
                "wasi:http/client",
                "wasi:http/handler",
                "wasi_snapshot_preview1::sock_",
            ]),
        })
    }
}

/// A list of endpoints, each in its only accepted form.
fn endpoints(reader: &mut Reader<'_>, node: &Node, list: &str, what: &str) -> Option<Vec<String>> {
    let items = reader.items(node, what);
    if items.len() > MAX_ENDPOINTS {
        reader.problem(node.place, format!("{what} has more than {MAX_ENDPOINTS} entries"));
        return None;
    }
    let mut endpoints = Vec::new();
    let mut complete = true;
    for item in items {
        let Some(text) = reader.text(item, what) else {
            complete = false;
            continue;
        };
        match Endpoint::parse(text) {
            Ok(endpoint) if list == LISTEN && !endpoint.is_address() => {
                reader.problem_with_help(
                    item.place,
                    format!("{what} has a name, but a guest listens on an address"),
                    "for instance 127.0.0.1:8080, or 0.0.0.0:8080 for all addresses of the host",
                );
                complete = false;
            }
            Ok(endpoint) => endpoints.push(endpoint.to_string()),
            Err(why) => {
                reader.problem_with_help(
                    item.place,
                    why,
                    "HOST:PORT, such as api.example.com:443 or 10.0.0.0/8:5432",
                );
                complete = false;
            }
        }
    }
    complete.then_some(endpoints)
}
