//! When each machine was heard of, in a file to which lines are only added: two releases may write it at a switch.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

pub struct Heard {
    path: PathBuf,
}

impl Heard {
    pub fn new(path: PathBuf) -> Heard {
        Heard { path }
    }

    /// One line in one write, which the kernel puts at the end whole.
    pub fn note(&self, name: &str, at: u64) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?;
        file.write_all(format!("{at} {name}\n").as_bytes())
    }

    /// The newest time of each, in seconds since 1970.
    pub fn all(&self) -> io::Result<BTreeMap<String, u64>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .filter_map(|(at, name)| Some((name.to_string(), at.parse().ok()?)))
            .collect())
    }
}

pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || "-_.".contains(one))
}

/// Names not heard of for more than so many seconds, a line each.
pub fn silent(all: &BTreeMap<String, u64>, seconds: u64, now: u64) -> String {
    all.iter()
        .filter(|(_, at)| now.saturating_sub(**at) > seconds)
        .map(|(name, _)| format!("{name}\n"))
        .collect()
}
