//! A place: the directory that the interfaces of one node stand in.
//!
//! Core has a word for somewhere that interfaces have names of their own: a namespace. For a kernel that is a network
//! namespace, for this crate a directory. It bears a number that is never drawn twice, since a directory that was removed
//! and made again under its old path is another place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lifecycle_core::attach::{NsAccess, NsRef};
use lifecycle_core::{Error, ErrorKind, Result};

use crate::files;

/// The file that bears the number. Names of interfaces do not begin with a dot here.
const NUMBER: &str = ".number";

/// Makes a place.
///
/// # Errors
/// When the file system refuses.
pub fn create(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    files::write(&path.join(NUMBER), &files::draw())
}

/// How others refer to a place.
///
/// # Errors
/// When there is none at `path`.
pub fn describe(path: &Path) -> io::Result<NsRef> {
    let cookie = files::read(&path.join(NUMBER))?.ok_or(io::ErrorKind::NotFound)?;
    Ok(NsRef { access: NsAccess::Path { path: path.to_owned() }, cookie, boot: files::boot()? })
}

/// The directory of a place that was referred to.
pub(crate) fn find(namespace: &NsRef) -> Result<PathBuf> {
    let error = |message: &str| Error::new(ErrorKind::NotFound, "find place", message);
    let NsAccess::Path { path } = &namespace.access else { return Err(error("a broker is in charge of it")) };
    match describe(path) {
        Ok(found) if found == *namespace => Ok(path.clone()),
        Ok(_) => Err(error("another one stands in its place").about(path.display())),
        Err(cause) => Err(error("it has gone").about(path.display()).because(cause)),
    }
}
