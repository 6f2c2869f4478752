//! File of a schema lock: bounded reads, and writes that leave the old file or the new one.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use super::error::{FILE_BYTES_MAX, SchemaLockError, check_len};

/// The text of the file. `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, SchemaLockError> {
    let failed = |source| SchemaLockError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(failed)?,
    };
    if !metadata.is_file() {
        return Err(failed(io::Error::other("not a file")));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there are more.
    let limit = FILE_BYTES_MAX as u64 + 1;
    let mut reader = File::open(path).map_err(failed)?.take(limit);
    reader.read_to_end(&mut bytes).map_err(failed)?;
    check_len(path, bytes.len())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        SchemaLockError::Damaged {
            path: path.to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            reason: "not UTF-8".to_owned(),
        }
    })?;
    Ok(Some(text))
}

/// Writes the file in place of the previous one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), SchemaLockError> {
    let mut new: OsString = path.into();
    new.push(format!(".{}", std::process::id()));
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    written.map_err(|source| {
        // What is left of the new file is of no use; the error is about the write.
        let _ = fs::remove_file(&new);
        SchemaLockError::Write {
            path: path.to_owned(),
            source,
        }
    })
}
