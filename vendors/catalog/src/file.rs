//! Vendor files: the format in which a vendor is written down.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lifecycle_core::plugin::vendor::{DataVendor, KindData};
use serde::Deserialize;

/// More than anybody writes by hand, in bytes.
const LONGEST: u64 = 1 << 20;

/// A vendor as it is written down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorFile {
    /// The vendor's name for people.
    pub vendor: String,
    /// Its kinds of nodes.
    pub kinds: Vec<KindData>,
}

/// A vendor file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFile {
    /// It cannot be read.
    #[error("cannot read the vendor file {}", .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not understood.
    #[error("the vendor file {} is wrong: {problem}", .file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// What is wrong, where, and what was expected.
        problem: String,
    },
}

impl VendorFile {
    /// Reads a vendor from the text of a file.
    ///
    /// # Errors
    /// When something in it is not known or cannot be meant, with its place, as text for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if file.kinds.is_empty() {
            return Err("`kinds` has no kind; expected a list of at least one".to_owned());
        }
        let mut names = BTreeSet::new();
        for name in file.kinds.iter().flat_map(KindData::names) {
            if !names.insert(name) {
                return Err(format!("`{name}` is the name of two kinds; take it away from one of them"));
            }
        }
        Ok(file)
    }

    /// Reads a vendor file.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, InvalidFile> {
        let failed = |source| InvalidFile::Read { file: path.to_owned(), source };
        let wrong = |problem| InvalidFile::Wrong { file: path.to_owned(), problem };
        let mut text = String::new();
        File::open(path).map_err(failed)?.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > LONGEST {
            return Err(wrong(format!("it is longer than {LONGEST} bytes")));
        }
        Self::parse(&text).map_err(wrong)
    }

    /// Reads all vendor files of a directory, `*.yml` and `*.yaml`, in the order of their names.
    ///
    /// # Errors
    /// When the directory or one of the files cannot be read or understood, or when two of them have a kind of one name.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>, InvalidFile> {
        let failed = |source| InvalidFile::Read { file: directory.to_owned(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut files, mut names) = (Vec::new(), BTreeSet::new());
        for path in paths {
            let file = Self::read(&path)?;
            if let Some(name) = file.kinds.iter().flat_map(KindData::names).find(|name| names.contains(*name)) {
                let problem = format!("another file of this directory has a kind `{name}` already");
                return Err(InvalidFile::Wrong { file: path, problem });
            }
            names.extend(file.kinds.iter().flat_map(KindData::names).map(str::to_owned));
            files.push(file);
        }
        Ok(files)
    }
}

impl From<VendorFile> for DataVendor {
    fn from(file: VendorFile) -> Self {
        Self::new(file.kinds)
    }
}
