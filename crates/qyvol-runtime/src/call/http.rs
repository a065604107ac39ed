//! One call with arguments in JSON, for `serve`.

use super::json::{self, Json};
use super::stream::Callee;
use super::{ArgumentError, Arguments, CallError, Function, Language};
use crate::Peer;
use wasmtime::component::Type;

/// Why a call by JSON has no result.
pub(crate) enum JsonError {
    /// The arguments can't be passed.
    Arguments(String),
    Call(CallError),
}

impl From<ArgumentError> for JsonError {
    fn from(error: ArgumentError) -> JsonError {
        JsonError::Arguments(format!("{error}; {}", error.signature()))
    }
}

impl Callee {
    /// Calls the function with the arguments in `text`: an array, or an object with their
    /// names. `peer` is the client, if it is known. Returns `{"result": …}`.
    pub(crate) async fn call_json(&self, text: &[u8], peer: Option<&Peer>) -> Result<String, JsonError> {
        self.caller.received(text.len());
        let arguments = self.function.read_body(text)?;
        let answer = self.caller.answer(&self.function, arguments, peer).await;
        let answer = answer.map_err(JsonError::Call)?;
        let value = answer.write(Language::Json);
        Ok(format!("{{\"result\":{}}}", value.as_deref().unwrap_or("null")))
    }
}

impl Function {
    fn read_body(&self, text: &[u8]) -> Result<Arguments, JsonError> {
        let wrong = |why: String| JsonError::Arguments(why);
        match json::parse(text).map_err(|why| wrong(format!("the body is not JSON: {why}")))? {
            Json::Array(items) => Ok(self.read_json(&items)?),
            Json::Object(entries) => {
                let mut entries: Vec<(String, Json)> = entries.into_iter().collect();
                let mut items = Vec::new();
                for (name, ty) in self.found.ty.params() {
                    let at = entries.iter().position(|(key, _)| key == name);
                    items.push(match (at, ty) {
                        (Some(at), _) => entries.swap_remove(at).1,
                        // As a field of a record.
                        (None, Type::Option(_)) => Json::Null,
                        (None, _) => {
                            return Err(wrong(format!("the argument '{name}' is missing; {}", self.signature())));
                        }
                    });
                }
                match entries.first() {
                    Some((key, _)) => {
                        let key = super::convert::quoted(key);
                        Err(wrong(format!("unknown argument '{key}'; {}", self.signature())))
                    }
                    None => Ok(self.read_json(&items)?),
                }
            }
            _ => Err(wrong(
                "the body is neither an array nor an object of arguments".to_string(),
            )),
        }
    }
}

/// `{"error": …}`.
pub(crate) fn error_body(kind: &str, message: &str) -> String {
    let mut text = format!("{{\"error\":{{\"kind\":\"{kind}\",\"message\":");
    json::string(&mut text, message);
    text.push_str("}}");
    text
}
