//! The arguments of commands about the command itself and its host.

use std::path::PathBuf;

use clap::Args;

use crate::cli_registry::RegistryArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "ok: as it should be. note: something can't be used, or takes longer. problem: something fails,\nor may fail. Under a note or a problem are its consequence and how to fix it. Registries are\ncontacted only if they are named. Exit codes: 0 no problem, 1 a problem."
)]
pub struct DoctorArgs {
    /// Registries to contact, with your credentials for them
    #[arg(value_name = "REGISTRY")]
    pub registries: Vec<String>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Work in this directory and keep it [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Load them where the shell starts: in ~/.bashrc `source <(qyv completions bash)`, in ~/.zshrc\n`source <(qyv completions zsh)`, in ~/.config/fish/config.fish `qyv completions fish | source`.\nNames of stored images and of keys are completed too."
)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command, with its subcommands, or a topic
    #[arg(value_name = "COMMAND|TOPIC")]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory
    pub directory: PathBuf,
}
