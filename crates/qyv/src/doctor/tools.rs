//! What builds applications, by language.

use super::Area;
use crate::toolchain::{Tools, languages, tools};

pub(super) fn look() -> Area {
    let mut area = Area::new("tools");
    for language in languages() {
        match tools(language) {
            Some(Tools::Lacking(what, from)) => {
                area.note(language, what).fix(from);
            }
            Some(Tools::Found(what)) => area.ok(language, what),
            None => {}
        }
    }
    area
}
