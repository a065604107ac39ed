//! `help`: of commands, and topics that a host without `spec/` needs.

use clap::Command;

use crate::failure::Failure;
use crate::ui::Ui;

/// The topics, with their aliases.
const TOPICS: [(&str, &[&str], &str); 5] = [
    (
        "permissions",
        &["fs", "net", "limits", "resources"],
        include_str!("../topics/permissions.txt"),
    ),
    ("manifest", &[], include_str!("../topics/manifest.txt")),
    ("trust", &["policy"], include_str!("../topics/trust.txt")),
    (
        "directories",
        &["directories", "environment"],
        include_str!("../topics/directories.txt"),
    ),
    ("pipelines", &["ci"], include_str!("../topics/pipelines.txt")),
];

pub fn help(ui: &Ui, words: &[String], mut root: Command) -> Result<u8, Failure> {
    // `trust` is a command too, whose options `qyv trust --help` shows.
    if let [word] = words
        && let Some((_, _, text)) = TOPICS
            .iter()
            .find(|(name, others, _)| name == word || others.contains(&word.as_str()))
    {
        ui.data(text);
        return Ok(0);
    }
    root.build();
    let mut command = &mut root;
    for word in words {
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            Failure::usage(format!("there is no command or topic `{}`", qyvol::types::escape(word))).hint(
                "`qyv help` lists the commands; the topics are manifest, permissions, trust, directories and pipelines",
            )
        })?;
    }
    ui.data(&command.render_long_help().to_string());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_a_terminal() {
        for (name, _, text) in TOPICS {
            assert!(text.ends_with('\n'), "{name}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }
}
