//! `qyv doctor`: what this host has and lacks for applications, and the fix.
//!
//! A finding is a problem only if something that users do fails, or may fail, because of it; what
//! costs a feature or some time is a note. Nothing is left behind on
//! disk, and the network is used for the registries alone that the command line names.

mod host;
mod network;
mod tools;
mod user;

use qyvol::Context;
use qyvol::types::escape;
use serde::Serialize;
use serde_json::json;

use crate::cli::DoctorArgs;
use crate::failure::{FAILED, Failure};
use crate::ui::Ui;

/// The state of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is as it should be.
    Ok,
    /// Something can't be used, or takes longer.
    Note,
    /// Something fails, or may fail.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    area: &'static str,
    name: String,
    state: State,
    /// What was found.
    found: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    means: Option<String>,
    /// How to change that.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// The findings of one area.
struct Area {
    name: &'static str,
    findings: Vec<Finding>,
}

impl Area {
    fn new(name: &'static str) -> Area {
        Area {
            name,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, state: State, name: &str, found: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding {
            area: self.name,
            name: name.to_string(),
            state,
            found: found.into(),
            means: None,
            fix: None,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn ok(&mut self, name: &str, found: impl Into<String>) {
        self.add(State::Ok, name, found);
    }

    fn note(&mut self, name: &str, found: impl Into<String>) -> &mut Finding {
        self.add(State::Note, name, found)
    }

    fn problem(&mut self, name: &str, found: impl Into<String>) -> &mut Finding {
        self.add(State::Problem, name, found)
    }
}

impl Finding {
    fn means(&mut self, text: impl Into<String>) -> &mut Finding {
        self.means = Some(text.into());
        self
    }

    fn fix(&mut self, text: impl Into<String>) -> &mut Finding {
        self.fix = Some(text.into());
        self
    }
}

/// Looks, and prints what it finds. The exit code is 1 if there is a problem.
pub fn doctor(ctx: &Context<'_>, ui: &Ui, args: &DoctorArgs) -> Result<u8, Failure> {
    let areas = [
        host::look(ctx),
        user::look(ctx),
        network::look(ctx, ui, args)?,
        tools::look(),
    ];
    let findings: Vec<Finding> = areas.into_iter().flat_map(|area| area.findings).collect();
    let problems = findings.iter().filter(|f| f.state == State::Problem).count();
    let view = json!({ "schema": 1, "problems": problems, "findings": findings });
    ui.show(&view, || text(&findings))?;
    match problems {
        0 => Ok(0),
        _ => Ok(FAILED),
    }
}

/// The report for people: by area, with what follows from a finding under it.
fn text(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|f| f.name.chars().count())
        .max()
        .unwrap_or_default();
    let mut out = String::new();
    let mut area = "";
    for finding in findings {
        if finding.area != area {
            if !area.is_empty() {
                out.push('\n');
            }
            area = finding.area;
            out.push_str(area);
            out.push('\n');
        }
        let state = match finding.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Problem => "problem",
        };
        out.push_str(&format!(
            "  {state:<8} {:<width$}  {}\n",
            finding.name,
            escape(&finding.found)
        ));
        let more = [
            finding.means.clone(),
            finding.fix.as_ref().map(|fix| format!("fix: {fix}")),
        ];
        for line in more.into_iter().flatten() {
            out.push_str(&format!("{:1$}{2}\n", "", width + 13, escape(&line)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_stands_in_columns_and_says_what_follows() {
        let mut area = Area::new("host");
        area.ok("clock", "2026-01-01T00:00:00Z");
        area.problem("free space", "0 B\u{1b}")
            .means("nothing can be stored")
            .fix("`qyv prune`");
        let expected = "host
  ok       clock       2026-01-01T00:00:00Z
  problem  free space  0 B\\u{1b}
                       nothing can be stored
                       fix: `qyv prune`
";
        assert_eq!(text(&area.findings), expected);
    }
}
