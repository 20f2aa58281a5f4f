//! Rules of the house that no compiler checks: the core stays pure, rooms form no circles, versions with holes stay out, the
//! seed map and the tables of rooms are true, every rule of the protocol has its place and its test, what grows too large is
//! divided.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can not read the tree has failed")]

mod circles;
mod constants;
mod index;
mod labels;
mod lockfile;
mod purity;
mod readme;
mod rooms;
mod seed_map;
mod sizes;
mod threats;
mod vectors;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The workspace's top folder.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every Rust source below a folder, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is part of the tree") {
            let path = entry.unwrap().path();
            if path.ends_with("target") {
                continue; // What was built is no source.
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {}", folder.display());
    found
}
