//! What a shell and `man` read about the commands.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    args::Cli,
    exit::{Exit, Failed},
    screen::Screen,
};

pub(crate) fn completions(shell: Shell) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "haggle", &mut script);
    Screen::Out.put(&script)?;
    Ok(Exit::Done)
}

/// A page for the program, and one for each command.
pub(crate) fn man(folder: &Path) -> Result<Exit, Failed> {
    let wrong = |error: io::Error| Failed::usage("man", format!("cannot write into {}: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(wrong)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(wrong)?;
    Ok(Exit::Done)
}
