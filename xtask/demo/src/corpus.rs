//! Corpus of the demo: the regular files under a path.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use walkdir::{DirEntry, WalkDir};

/// Folders of builds and of git, which hold no work of people.
const SKIPPED_FOLDERS: [&str; 2] = ["target", ".git"];

/// The files under a path, sorted, and what had to be skipped: each path with the reason.
#[derive(Debug)]
pub(crate) struct Corpus {
    files: Vec<CorpusFile>,
    skipped: Vec<String>,
}

/// File of the corpus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CorpusFile {
    path: PathBuf,
    /// Its size when the corpus was made.
    bytes: u64,
}

impl Corpus {
    /// Walks `root`, a folder or a single file. Symbolic links are not followed, except `root`
    /// itself; files of more than `file_bytes_max` bytes and unreadable ones are skipped.
    pub(crate) fn walk(root: &Path, file_bytes_max: u64) -> Result<Self, String> {
        // `walkdir` follows a link that it is given as root, but tells its metadata unfollowed.
        let real = root.canonicalize();
        let root =
            &real.map_err(|error| format!("cannot look into {}: {error}", root.display()))?;
        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        let walk = WalkDir::new(root).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !is_skipped_folder(entry)) {
            let (path, examined) = match entry {
                Ok(entry) if !entry.file_type().is_file() => continue,
                Ok(entry) => {
                    let examined = examine(entry.path(), file_bytes_max);
                    (entry.into_path(), examined)
                }
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_path_buf();
                    let error = error.into_io_error();
                    let error = error.unwrap_or_else(|| io::Error::other("loop"));
                    (path, Err(unreadable(error)))
                }
            };
            match examined {
                Ok(bytes) => files.push(CorpusFile { path, bytes }),
                Err(reason) => skipped.push(format!("{} {reason}", path.display())),
            }
        }
        if files.is_empty() {
            let (root, skipped) = (root.display(), skipped.len());
            return Err(format!(
                "no file to digest under {root} ({skipped} skipped)"
            ));
        }
        Ok(Self { files, skipped })
    }

    pub(crate) fn files(&self) -> &[CorpusFile] {
        &self.files
    }

    /// Files and folders that were left out.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The size of all files together, when the corpus was made.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl CorpusFile {
    /// Absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all of it; else the reason to skip it from now on. It may have changed since the
    /// corpus was made, so the limit is asked again.
    pub(crate) fn read(&self, file_bytes_max: u64) -> Result<Bytes, String> {
        let file = File::open(&self.path).map_err(unreadable)?;
        let mut body = Vec::with_capacity(self.bytes.min(file_bytes_max) as usize);
        let mut limited = file.take(file_bytes_max.saturating_add(1));
        limited.read_to_end(&mut body).map_err(unreadable)?;
        check_size(body.len() as u64, file_bytes_max)?;
        Ok(body.into())
    }
}

/// The size of a file that can be opened, read, and sent; else the reason to skip it.
fn examine(path: &Path, file_bytes_max: u64) -> Result<u64, String> {
    let mut file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    check_size(bytes, file_bytes_max)?;
    // Some files open well and fail at the first byte.
    file.read(&mut [0; 1]).map_err(unreadable)?;
    Ok(bytes)
}

fn check_size(bytes: u64, max: u64) -> Result<(), String> {
    match bytes > max {
        true => Err(format!("has {bytes} bytes, more than the limit of {max}")),
        false => Ok(()),
    }
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

fn is_skipped_folder(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    entry.file_type().is_dir() && SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// The names of the files below `root`.
    fn names(corpus: &Corpus, root: &Path) -> Vec<String> {
        let root = root.canonicalize().unwrap();
        let name = |it: &CorpusFile| it.path().strip_prefix(&root).unwrap().display().to_string();
        corpus.files().iter().map(name).collect()
    }

    #[test]
    fn files_of_builds_and_of_git_are_left_out() {
        let files = [
            "b.txt",
            "a/c.txt",
            "a/target/x",
            ".git/config",
            "a/.gitignore",
            "d/target",
        ];
        let folder = folder(&files.map(|name| (name, "text")));
        let corpus = Corpus::walk(folder.path(), 100).unwrap();
        let found = names(&corpus, folder.path());
        assert_eq!(found, ["a/.gitignore", "a/c.txt", "b.txt", "d/target"]);
        assert_eq!(corpus.bytes(), 16);
        assert!(corpus.skipped().is_empty());
    }

    #[test]
    fn a_folder_called_target_can_be_asked_for() {
        let folder = folder(&[("target/x", "text")]);
        let corpus = Corpus::walk(&folder.path().join("target"), 100).unwrap();
        assert_eq!(corpus.files().len(), 1);
    }

    #[test]
    fn a_single_file_is_a_corpus() {
        let folder = folder(&[("x", "text")]);
        let corpus = Corpus::walk(&folder.path().join("x"), 4).unwrap();
        assert_eq!(corpus.files()[0].read(4).unwrap(), "text");
    }

    #[test]
    fn the_limit_is_the_largest_file_taken() {
        let folder = folder(&[("fits", "1234"), ("large", "12345")]);
        let corpus = Corpus::walk(folder.path(), 4).unwrap();
        assert_eq!(names(&corpus, folder.path()), ["fits"]);
        let told = corpus.skipped()[0].to_string();
        assert!(
            told.ends_with("large has 5 bytes, more than the limit of 4"),
            "{told}"
        );
    }

    #[test]
    fn a_file_that_grew_or_went_is_not_read() {
        let folder = folder(&[("x", "1234")]);
        let corpus = Corpus::walk(folder.path(), 4).unwrap();
        let file = &corpus.files()[0];
        fs::write(file.path(), "12345").unwrap();
        assert!(file.read(4).unwrap_err().starts_with("has 5 bytes"));
        fs::remove_file(file.path()).unwrap();
        assert!(file.read(4).unwrap_err().starts_with("cannot be read"));
    }

    /// A file that also the superuser cannot read from its beginning.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_unreadable_file_is_skipped() {
        let reason = examine(Path::new("/proc/self/mem"), 100).unwrap_err();
        assert!(reason.starts_with("cannot be read"), "{reason}");
        let error = Corpus::walk(Path::new("/proc/self/mem"), 100).unwrap_err();
        assert!(error.ends_with("(1 skipped)"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_only_as_the_root() {
        let real = folder(&[("x", "text")]);
        let linked = folder(&[("y", "text")]);
        std::os::unix::fs::symlink(real.path(), linked.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(real.path().join("x"), linked.path().join("file")).unwrap();
        let corpus = Corpus::walk(linked.path(), 100).unwrap();
        assert_eq!(names(&corpus, linked.path()), ["y"]);
        let corpus = Corpus::walk(&linked.path().join("folder"), 100).unwrap();
        assert_eq!(names(&corpus, real.path()), ["x"]);
    }

    #[test]
    fn nothing_to_digest_is_an_error() {
        let empty = folder(&[]);
        let error = Corpus::walk(empty.path(), 100).unwrap_err();
        assert!(error.ends_with("(0 skipped)"), "{error}");
        let error = Corpus::walk(&empty.path().join("none"), 100).unwrap_err();
        assert!(error.starts_with("cannot look into "), "{error}");
        assert!(error.contains("none"), "{error}");
    }
}
