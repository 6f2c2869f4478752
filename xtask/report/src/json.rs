//! Document that `--json FILE` writes: one object, with a flat object for each row.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use serde::Serialize;
use serde_json::Value;

/// The results of a command, and what they were measured on.
#[derive(Debug, Serialize)]
pub struct Document<'a, R> {
    command: &'a str,
    /// Short hash, with `-dirty` behind it if tracked files differ from the commit; `unknown`
    /// where there is no git.
    commit: String,
    /// The processor's name, or `unknown`.
    cpu: String,
    /// Properties of the machine and of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Value>,
    rows: &'a [R],
}

impl<'a, R: Serialize> Document<'a, R> {
    /// The rows of `command`, measured here and now.
    pub fn new(command: &'a str, rows: &'a [R]) -> Self {
        Self {
            command,
            commit: commit(Path::new(env!("CARGO_MANIFEST_DIR"))),
            cpu: cpu(),
            machine: None,
            rows,
        }
    }

    /// The same document with what is to be known of the machine and of the run, an object.
    #[must_use]
    pub fn with_machine(mut self, machine: Value) -> Self {
        self.machine = Some(machine);
        self
    }

    /// Writes it to `path`, over what was there.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(path, text)
    }
}

/// Commit that is checked out in a folder. Files that git does not track, such as results of
/// earlier runs, do not make it dirty.
fn commit(folder: &Path) -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude=*"])
        .current_dir(folder)
        .stdin(Stdio::null());
    let output = git.output().ok().filter(|output| output.status.success());
    let hash = output.map_or_else(Vec::new, |output| output.stdout);
    known(String::from_utf8_lossy(&hash).trim())
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    known(model_name(&info).unwrap_or_default())
}

fn model_name(cpu_info: &str) -> Option<&str> {
    let line = cpu_info
        .lines()
        .find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

fn known(text: &str) -> String {
    (if text.is_empty() { "unknown" } else { text }).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_has_the_agreed_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.json");
        Document::new("demo", &[json!({ "calls_ok": 7 })])
            .write(&path)
            .unwrap();
        let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let fields: Vec<_> = read
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(fields, ["command", "commit", "cpu", "rows"]);
        assert_eq!(read["command"], "demo");
        assert_eq!(read["rows"], json!([{ "calls_ok": 7 }]));
        assert!(
            ["commit", "cpu"]
                .iter()
                .all(|it| !read[it].as_str().unwrap().is_empty())
        );
    }

    #[test]
    fn uncommitted_changes_of_tracked_files_make_a_commit_dirty() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
                .args(arguments)
                .current_dir(folder.path());
            assert!(git.output().unwrap().status.success(), "{arguments:?}");
        };
        let write = |name, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(commit(folder.path()), "unknown");
        git(&["init", "--quiet"]);
        write("tracked", "1");
        git(&["add", "tracked"]);
        git(&["commit", "--quiet", "--no-gpg-sign", "--message", "test"]);
        let clean = commit(folder.path());
        write("untracked", "1");
        assert_eq!(commit(folder.path()), clean);
        write("tracked", "2");
        assert_eq!(commit(folder.path()), format!("{clean}-dirty"));
    }

    #[test]
    fn the_machine_is_described_where_it_matters() {
        let rows = [1];
        let document = Document::new("bench", &rows).with_machine(json!({ "cores": 2 }));
        let document = serde_json::to_value(document).unwrap();
        assert_eq!(document["machine"], json!({ "cores": 2 }));
    }

    #[test]
    fn the_cpu_is_named_or_unknown() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: Other\n";
        assert_eq!(model_name(info), Some("Some CPU @ 3 GHz"));
        assert_eq!(
            known(model_name("processor: 0\n").unwrap_or_default()),
            "unknown"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/demo.json");
        let error = Document::<Value>::new("demo", &[])
            .write(&path)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
