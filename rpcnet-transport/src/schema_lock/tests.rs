//! Tests of schema locks: files that are written, compared and damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    Message, Replies, Requests,
    schema::{Field, SchemaBuilder, Shape, TypeRef},
};

/// Folder that is removed at the end of a test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rpcnet-schema-lock-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn lock(&self) -> PathBuf {
        self.0.join("schema.lock")
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

macro_rules! job {
    ($version:ident { $($field:ident: $ty:ty = $is_optional:expr),* $(,)? }) => {
        #[derive(Serialize, Deserialize)]
        struct $version {
            $($field: $ty),*
        }

        impl Message for $version {
            fn describe(schema: &mut SchemaBuilder) -> TypeRef {
                schema.define::<Self>("Job", |schema| Shape::Struct {
                    fields: vec![$({
                        let field = Field::new(stringify!($field), schema.add::<$ty>());
                        if $is_optional { field.optional() } else { field }
                    }),*],
                    denies_unknown_fields: false,
                })
            }
        }
    };
}

job!(JobV1 {
    id: u64 = false,
    codec: u32 = false
});
job!(JobV2 {
    id: u64 = false,
    codec: u32 = false,
    quality: u8 = true
});
job!(TextJob {
    id: u64 = false,
    codec: String = false
});
job!(LargerJob {
    id: u64 = false,
    codec: u32 = false,
    quality: u8 = false
});

const PROBE: Method<u64, bool> = Method::new("Render/probe");
const FRAMES_V1: Method<JobV1, u32> = Method::new("Render/frames");
const FRAMES_V2: Method<JobV2, u32> = Method::new("Render/frames");
const FRAMES_TEXT: Method<TextJob, u32> = Method::new("Render/frames");
const FRAMES_LARGER: Method<LargerJob, u32> = Method::new("Render/frames");

/// The same messages as those of `FRAMES_V1`, as streams.
const FRAMES_OF_EACH: Method<Requests<JobV1>, u32> = Method::new("Render/frames");
const EACH_FRAME: Method<JobV1, Replies<u32>> = Method::new("Render/frames");
const EACH_FRAME_OF_EACH: Method<Requests<JobV1>, Replies<u32>> = Method::new("Render/frames");

fn locked(path: &Path) -> SchemaLock {
    let lock = SchemaLock::new(path).method(PROBE).method(FRAMES_V1);
    lock.try_check(SchemaLockMode::Write).unwrap();
    lock
}

fn error_of(lock: &SchemaLock, mode: SchemaLockMode) -> String {
    lock.try_check(mode).unwrap_err().to_string()
}

#[test]
fn the_file_is_sorted_text_that_reads_back() {
    let folder = Folder::new();
    let lock = locked(&folder.lock());
    lock.try_check(SchemaLockMode::Check).unwrap();
    lock.check();
    let text = fs::read_to_string(folder.lock()).unwrap();
    let expected = "\
# Schemas of methods, as callers and servers that run already know them. A test compares them with
# the code, and writes this file with RPCNET_SCHEMA_LOCK=write. Do not edit it.
schema-lock 2

method Render/frames
type unary
hash HASH
    request: Job
    reply: u32

    struct Job {
        id: u64,
        codec: u32,
    }
encoded

method Render/probe
type unary
hash HASH
    request: u64
    reply: bool
encoded
";
    let mut shown = String::new();
    let mut is_encoded = false;
    for line in text.lines() {
        is_encoded = (is_encoded && line.starts_with(' ')) || line == "encoded";
        let line = match line {
            hash if hash.starts_with("hash ") => "hash HASH",
            line if is_encoded && line != "encoded" => continue,
            line => line,
        };
        shown.push_str(line);
        shown.push('\n');
    }
    assert_eq!(shown, expected);
    let methods = contents::parse(&text).unwrap();
    let schema = &methods["Render/probe"].schema;
    assert_eq!(schema.hash(), PROBE.schema().hash());
    assert_eq!(contents::render(&methods), text);
    assert_eq!(folder.files(), 1, "a file is left");
}

#[test]
fn large_schemas_take_several_lines_and_read_back() {
    let folder = Folder::new();
    type Request = (JobV1, JobV2, TextJob, Vec<Option<LargerJob>>);
    const LARGE: Method<Request, Request> = Method::new("large");
    let lock = SchemaLock::new(folder.lock()).method(LARGE);
    lock.try_check(SchemaLockMode::Write).unwrap();
    lock.try_check(SchemaLockMode::Check).unwrap();
    let text = fs::read_to_string(folder.lock()).unwrap();
    let (_, encoded) = text.split_once("encoded\n").unwrap();
    assert!(encoded.lines().count() > 2, "{encoded}");
    assert!(encoded.lines().all(|line| line.len() <= 84), "{encoded}");
}

#[test]
fn a_file_with_line_ends_of_windows_is_up_to_date() {
    let folder = Folder::new();
    let lock = locked(&folder.lock());
    let text = fs::read_to_string(folder.lock()).unwrap();
    fs::write(folder.lock(), text.replace('\n', "\r\n")).unwrap();
    lock.try_check(SchemaLockMode::Check).unwrap();
}

#[test]
fn a_missing_file_is_written_when_asked_alone() {
    let folder = Folder::new();
    let lock = SchemaLock::new(folder.lock()).method(PROBE);
    let error = error_of(&lock, SchemaLockMode::Check);
    let advice = "schema.lock does not exist: run the test with RPCNET_SCHEMA_LOCK=write, and \
        commit the file with the change";
    assert!(error.ends_with(advice), "{error}");
    assert_eq!(folder.files(), 0);
    lock.try_check(SchemaLockMode::Write).unwrap();
    lock.try_check(SchemaLockMode::Check).unwrap();
}

#[test]
fn new_methods_and_compatible_changes_are_written_when_asked_alone() {
    const NEW: Method<(), ()> = Method::new("Render/ping");
    let folder = Folder::new();
    locked(&folder.lock());
    let before = fs::read(folder.lock()).unwrap();
    let lock = SchemaLock::new(folder.lock())
        .service(&[PROBE.untyped(), FRAMES_V2.untyped()])
        .method(NEW);
    let error = error_of(&lock, SchemaLockMode::Check);
    let (_, lines) = error.split_once('\n').unwrap();
    let expected = "    Render/ping is new\n    Render/frames has changed, compatibly\n\
        run the test with RPCNET_SCHEMA_LOCK=write, and commit the file with the change";
    assert_eq!(lines, expected);
    assert_eq!(fs::read(folder.lock()).unwrap(), before);
    lock.try_check(SchemaLockMode::Write).unwrap();
    lock.try_check(SchemaLockMode::Check).unwrap();
}

#[test]
fn breaking_changes_name_method_field_and_both_types() {
    let folder = Folder::new();
    locked(&folder.lock());
    let before = fs::read(folder.lock()).unwrap();
    for mode in [SchemaLockMode::Check, SchemaLockMode::Write] {
        let lock = SchemaLock::new(folder.lock()).method(FRAMES_TEXT);
        let error = error_of(&lock, mode);
        let lines: Vec<_> = error.lines().collect();
        let expected = [
            "    Render/frames, old caller and new server: request.codec: the caller writes u32, \
             the server reads string",
            "    Render/frames, new caller and old server: request.codec: the caller writes \
             string, the server reads u32",
            "    Render/probe is gone",
        ];
        assert_eq!(lines[1..4], expected);
        assert!(lines[4].ends_with("RPCNET_SCHEMA_LOCK=write-breaking"));
        assert_eq!(fs::read(folder.lock()).unwrap(), before);
    }
    let lock = SchemaLock::new(folder.lock()).method(FRAMES_TEXT);
    lock.try_check(SchemaLockMode::WriteBreaking).unwrap();
    lock.try_check(SchemaLockMode::Check).unwrap();
}

#[test]
fn a_change_that_breaks_one_direction_is_breaking() {
    let folder = Folder::new();
    locked(&folder.lock());
    let lock = SchemaLock::new(folder.lock()).method(PROBE);
    let added = error_of(&lock.clone().method(FRAMES_LARGER), SchemaLockMode::Write);
    assert_eq!(added.matches("Render/frames").count(), 1, "{added}");
    let expected = "old caller and new server: request.quality: the caller does not write it, the \
        server needs it";
    assert!(added.contains(expected), "{added}");
    let larger = lock.clone().method(FRAMES_LARGER);
    larger.try_check(SchemaLockMode::WriteBreaking).unwrap();
    let removed = error_of(&lock.method(FRAMES_V1), SchemaLockMode::Write);
    assert!(removed.contains("new caller and old server"), "{removed}");
}

#[test]
fn a_method_that_begins_or_ceases_to_stream_is_a_breaking_change() {
    let versions = [
        (FRAMES_V1.untyped(), "unary"),
        (FRAMES_OF_EACH.untyped(), "client-streaming"),
        (EACH_FRAME.untyped(), "server-streaming"),
        (EACH_FRAME_OF_EACH.untyped(), "bidirectional-streaming"),
    ];
    for (old, was) in versions {
        let folder = Folder::new();
        let lock = |method| SchemaLock::new(folder.lock()).service(&[method]);
        lock(old).try_check(SchemaLockMode::Write).unwrap();
        let text = fs::read_to_string(folder.lock()).unwrap();
        assert!(text.contains(&format!("\ntype {was}\n")), "{text}");
        for (new, is) in versions {
            assert_eq!(old.schema().hash(), new.schema().hash());
            if was == is {
                lock(new).try_check(SchemaLockMode::Check).unwrap();
                continue;
            }
            for mode in [SchemaLockMode::Check, SchemaLockMode::Write] {
                let error = error_of(&lock(new), mode);
                let lines: Vec<_> = error.lines().collect();
                assert_eq!(lines[1], format!("    Render/frames was {was}, is {is}"));
                assert_eq!(lines.len(), 3, "{error}");
                assert_eq!(fs::read_to_string(folder.lock()).unwrap(), text);
            }
        }
        let (new, is) = versions[usize::from(was == "unary")];
        lock(new).try_check(SchemaLockMode::WriteBreaking).unwrap();
        let text = fs::read_to_string(folder.lock()).unwrap();
        assert!(text.contains(&format!("\ntype {is}\n")), "{text}");
    }
}

#[test]
fn a_change_of_types_and_of_streaming_is_told_whole() {
    const TEXTS: Method<TextJob, Replies<u32>> = Method::new("Render/frames");
    let folder = Folder::new();
    locked(&folder.lock());
    let lock = SchemaLock::new(folder.lock()).method(PROBE).method(TEXTS);
    let error = error_of(&lock, SchemaLockMode::Write);
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[1], "    Render/frames was unary, is server-streaming");
    assert!(lines[2].contains("old caller and new server: request.codec"));
    assert!(lines[3].contains("new caller and old server: request.codec"));
}

/// As files of version 1 are: without the types of methods.
fn version_1(text: &str) -> String {
    let text = text.replace("schema-lock 2\n", "schema-lock 1\n");
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("type ")).collect()
}

#[test]
fn a_file_of_version_1_is_compared_and_completed() {
    let folder = Folder::new();
    let lock = locked(&folder.lock()).method(Method::<(), Replies<u8>>::new("Render/log"));
    lock.try_check(SchemaLockMode::Write).unwrap();
    let text = fs::read_to_string(folder.lock()).unwrap();
    let old = version_1(&text);
    assert_eq!(old.matches("type ").count(), 0, "{old}");
    fs::write(folder.lock(), &old).unwrap();
    let error = error_of(&lock, SchemaLockMode::Check);
    let lines: Vec<_> = error.lines().collect();
    let names = ["Render/frames", "Render/log", "Render/probe"];
    let expected =
        names.map(|name| format!("    {name} is in the file without its type: unary or streaming"));
    assert_eq!(lines[1..4], expected);
    assert!(lines[4].starts_with("run the test with RPCNET_SCHEMA_LOCK=write,"));
    // What the file says is compared as ever.
    let broken = SchemaLock::new(folder.lock()).method(FRAMES_TEXT);
    let error = error_of(&broken, SchemaLockMode::Write);
    assert!(error.contains("request.codec") && error.contains("Render/probe is gone"));
    assert_eq!(fs::read_to_string(folder.lock()).unwrap(), old);
    lock.try_check(SchemaLockMode::Write).unwrap();
    assert_eq!(fs::read_to_string(folder.lock()).unwrap(), text);
    lock.try_check(SchemaLockMode::Check).unwrap();
}

#[test]
fn opaque_methods_are_locked_without_a_type() {
    const OPAQUE: Method<Requests<Folder>, Replies<Folder>> = Method::opaque("opaque", 1);
    let folder = Folder::new();
    let lock = SchemaLock::new(folder.lock()).method(OPAQUE);
    lock.try_check(SchemaLockMode::Write).unwrap();
    lock.try_check(SchemaLockMode::Check).unwrap();
    let text = fs::read_to_string(folder.lock()).unwrap();
    assert!(text.contains("\nmethod opaque\nhash "), "{text}");
}

#[test]
fn text_that_differs_from_the_encoded_schemas_is_out_of_date() {
    let folder = Folder::new();
    let lock = locked(&folder.lock());
    let text = fs::read_to_string(folder.lock()).unwrap();
    fs::write(folder.lock(), text.replace("codec: u32", "codec: u16")).unwrap();
    let error = error_of(&lock, SchemaLockMode::Check);
    assert!(error.contains("their text, have changed"), "{error}");
    lock.try_check(SchemaLockMode::Write).unwrap();
    assert_eq!(fs::read_to_string(folder.lock()).unwrap(), text);
}

/// Files that are damaged, and a part of the error that says so.
fn damaged_files(text: &str) -> Vec<(String, &'static str)> {
    let hash = format!("{:016x}", PROBE.schema().hash());
    vec![
        (String::new(), ":0: damaged schema lock: expected"),
        (
            "schema-lock 3\n".to_owned(),
            ":1: damaged schema lock: expected \"schema-lock 2\"",
        ),
        (
            format!("{text}>>>>>>> theirs\n"),
            "found \">>>>>>> theirs\"",
        ),
        (
            text.replace("    struct Job", "<<<<<<< ours\n    struct Job"),
            "found \"<<<<<<< ours\"",
        ),
        (
            text.replace(&hash, "0123456789abcdef"),
            "method Render/probe: hash 0123456789abcdef of",
        ),
        (
            text.replace("type unary", "type sometimes"),
            "expected \"type ... of a method\", found \"type sometimes\"",
        ),
        (
            text.replace("type unary", "type unary\ntype unary"),
            "expected \"hash ... in base 16\", found \"type unary\"",
        ),
        (
            text.replace(&hash, "none"),
            "expected \"hash ... in base 16\"",
        ),
        (
            text.replace("    03", "    x3"),
            "expected \"bytes in base 16\"",
        ),
        (
            text.replace("    03", "    3"),
            "expected \"bytes in base 16\"",
        ),
        (text.replace("    03", "    ff"), "malformed schema"),
        (text.replace("encoded\n", ""), "expected \"encoded\""),
        (
            text.replace("Render/frames", "Render/probe"),
            "method Render/probe is there twice",
        ),
        (text[..text.len() - 5].to_owned(), "schema.lock:"),
    ]
}

#[test]
fn a_damaged_file_fails_in_each_mode_and_stays_as_it_is() {
    let folder = Folder::new();
    let lock = locked(&folder.lock());
    let text = fs::read_to_string(folder.lock()).unwrap();
    for (damaged, reason) in damaged_files(&text) {
        fs::write(folder.lock(), &damaged).unwrap();
        for mode in [
            SchemaLockMode::Check,
            SchemaLockMode::Write,
            SchemaLockMode::WriteBreaking,
        ] {
            let error = lock.try_check(mode).unwrap_err();
            assert!(matches!(error, SchemaLockError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(fs::read_to_string(folder.lock()).unwrap(), damaged);
        }
    }
    fs::write(folder.lock(), b"schema-lock 1\n\xff").unwrap();
    let error = error_of(&lock, SchemaLockMode::Write);
    assert!(
        error.contains(":2: damaged schema lock: not UTF-8"),
        "{error}"
    );
}

#[test]
fn files_that_are_too_large_or_no_files_are_rejected() {
    let folder = Folder::new();
    let lock = locked(&folder.lock());
    fs::write(folder.lock(), vec![b'#'; error::FILE_BYTES_MAX + 1]).unwrap();
    let error = lock.try_check(SchemaLockMode::Write).unwrap_err();
    assert!(matches!(error, SchemaLockError::TooManyBytes(_)), "{error}");
    let error = SchemaLock::new(&folder.0).try_check(SchemaLockMode::Write);
    let error = error.unwrap_err();
    assert!(matches!(error, SchemaLockError::Read { .. }), "{error}");
    let nowhere = SchemaLock::new(folder.0.join("nowhere/schema.lock"));
    let error = nowhere.try_check(SchemaLockMode::Write).unwrap_err();
    assert!(matches!(error, SchemaLockError::Write { .. }), "{error}");
}

#[test]
fn methods_that_cannot_be_locked_are_rejected() {
    const LINES: Method<u64, u64> = Method::new("two\nlines");
    const OTHER_PROBE: Method<u64, u64> = Method::new("Render/probe");
    let folder = Folder::new();
    let lock = SchemaLock::new(folder.lock());
    let error = error_of(&lock.clone().method(LINES), SchemaLockMode::Write);
    assert!(
        error.ends_with("printable characters: two\\nlines"),
        "{error}"
    );
    let twice = lock.method(PROBE).method(PROBE);
    twice.try_check(SchemaLockMode::Write).unwrap();
    let error = error_of(&twice.method(OTHER_PROBE), SchemaLockMode::Write);
    let expected = "two methods of different types are named Render/probe";
    assert_eq!(error, expected);
    let streaming = SchemaLock::new(folder.lock()).method(FRAMES_V1);
    let streaming = streaming.method(FRAMES_OF_EACH);
    let error = error_of(&streaming, SchemaLockMode::Write);
    assert!(error.ends_with("Render/frames"), "{error}");
}

#[test]
fn a_method_that_does_not_understand_itself_is_rejected() {
    #[derive(Serialize, Deserialize)]
    struct OneWay {
        #[serde(rename(serialize = "a"))]
        b: u8,
    }
    impl Message for OneWay {
        fn describe(schema: &mut SchemaBuilder) -> TypeRef {
            schema.define::<Self>("OneWay", |schema| Shape::Struct {
                fields: vec![
                    Field::new("a", schema.add::<u8>()).with_read(&[]),
                    Field::new("b", schema.add::<u8>()).with_written(None),
                ],
                denies_unknown_fields: false,
            })
        }
    }
    const ONE_WAY: Method<OneWay, ()> = Method::new("one-way");
    let folder = Folder::new();
    let lock = SchemaLock::new(folder.lock()).method(ONE_WAY);
    let error = error_of(&lock, SchemaLockMode::WriteBreaking);
    let expected = "callers and servers of one-way do not understand each other: request.b: the \
        caller does not write it, the server needs it";
    assert_eq!(error, expected);
}

#[test]
fn modes_are_parsed_and_unknown_ones_rejected() {
    for (value, mode) in [
        ("", SchemaLockMode::Check),
        ("check", SchemaLockMode::Check),
        ("write", SchemaLockMode::Write),
        ("write-breaking", SchemaLockMode::WriteBreaking),
    ] {
        assert_eq!(SchemaLockMode::parse(value).unwrap(), mode);
    }
    let error = SchemaLockMode::parse("yes").unwrap_err().to_string();
    assert_eq!(
        error,
        "RPCNET_SCHEMA_LOCK is yes, expected check, write or write-breaking"
    );
}
