//! Contents of a schema lock: methods by their names, each as text and in encoded form.
//!
//! ```text
//! # Comments.
//! schema-lock 2
//!
//! method Render/probe
//! type unary
//! hash 152592f4de3f6bd1
//!     request: u64
//!     reply: Probe
//!
//!     struct Probe {
//!         size: u32,
//!     }
//! encoded
//!     0301400902000001000303...
//! ```
//!
//! Lines of a type or of an encoded schema are indented. The text of the types is not read: the
//! encoded schema counts, whose hash has to be the one above. An opaque method has no type. Files
//! of version 1, whose methods have no types, are read too.

use std::{collections::BTreeMap, fmt::Write, str::Lines};

use crate::{method::MethodType, schema::MethodSchema};

/// Locked methods by their names.
pub(super) type LockedMethods = BTreeMap<String, LockedMethod>;

/// Schema and type of a method.
#[derive(Debug, Clone)]
pub(super) struct LockedMethod {
    pub(super) schema: MethodSchema,
    /// `None` of an opaque method, and of one in a file of version 1.
    pub(super) method_type: Option<MethodType>,
}

/// Where a file is damaged, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Number of the line, from 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

const COMMENT: &str = "\
# Schemas of methods, as callers and servers that run already know them. A test compares them with
# the code, and writes this file with RPCNET_SCHEMA_LOCK=write. Do not edit it.
";

const VERSION_LINE: &str = "schema-lock 2";

/// Version without the types of methods.
const VERSION_1_LINE: &str = "schema-lock 1";

const INDENT: &str = "    ";

/// Bytes of an encoded schema on one line.
const BYTES_PER_LINE: usize = 40;

/// The text of the file: the same for the same methods.
pub(super) fn render(methods: &LockedMethods) -> String {
    let mut text = format!("{COMMENT}{VERSION_LINE}\n");
    for (name, method) in methods {
        let schema = &method.schema;
        text.push_str(&format!("\nmethod {name}\n"));
        if let Some(method_type) = method.method_type {
            text.push_str(&format!("type {method_type}\n"));
        }
        text.push_str(&format!("hash {:016x}\n", schema.hash()));
        for line in schema.to_string().lines() {
            if !line.is_empty() {
                text.push_str(INDENT);
            }
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("encoded\n");
        let encoded = schema.encode().unwrap_or_default();
        for bytes in encoded.chunks(BYTES_PER_LINE) {
            text.push_str(INDENT);
            for byte in bytes {
                write!(text, "{byte:02x}").expect("a string takes any text");
            }
            text.push('\n');
        }
    }
    text
}

/// The methods of a file.
pub(super) fn parse(text: &str) -> Result<LockedMethods, Damage> {
    let mut reader = LockReader::new(text);
    match reader.next_item() {
        Some(VERSION_LINE | VERSION_1_LINE) => {}
        Some(line) => return Err(reader.expected(VERSION_LINE, line)),
        None => return Err(reader.damage(format!("expected {VERSION_LINE:?}, found no line"))),
    }
    let mut methods = LockedMethods::new();
    while let Some(line) = reader.next_item() {
        let Some(name) = line.strip_prefix("method ") else {
            return Err(reader.expected("method ...", line));
        };
        let method = reader.method(name)?;
        if methods.insert(name.to_owned(), method).is_some() {
            return Err(reader.damage(format!("method {name} is there twice")));
        }
    }
    Ok(methods)
}

struct LockReader<'a> {
    lines: Lines<'a>,
    /// Number of the last line that was read.
    line: usize,
}

impl<'a> LockReader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines(),
            line: 0,
        }
    }

    fn next_line(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.line += 1;
        Some(line)
    }

    /// The next line that is neither empty nor a comment.
    fn next_item(&mut self) -> Option<&'a str> {
        loop {
            let line = self.next_line()?;
            if !line.is_empty() && !line.starts_with('#') {
                return Some(line);
            }
        }
    }

    /// A method, after the line with its name.
    fn method(&mut self, name: &str) -> Result<LockedMethod, Damage> {
        let mut line = self.next_line().unwrap_or_default();
        let mut method_type = None;
        if let Some(word) = line.strip_prefix("type ") {
            method_type = MethodType::parse(word);
            if method_type.is_none() {
                return Err(self.expected("type ... of a method", line));
            }
            line = self.next_line().unwrap_or_default();
        }
        let schema = self.schema(name, line)?;
        Ok(LockedMethod {
            schema,
            method_type,
        })
    }

    /// The schema of a method, from the line with its hash on.
    fn schema(&mut self, name: &str, line: &str) -> Result<MethodSchema, Damage> {
        let hash = line.strip_prefix("hash ");
        let Some(hash) = hash.and_then(|hash| u64::from_str_radix(hash, 16).ok()) else {
            return Err(self.expected("hash ... in base 16", line));
        };
        self.skip_types()?;
        let encoded = self.encoded()?;
        let decoded = MethodSchema::decode(&encoded);
        let schema = decoded.map_err(|error| self.damage(format!("method {name}: {error}")))?;
        if schema.hash() != hash {
            let found = schema.hash();
            let reason = format!("method {name}: hash {hash:016x} of a schema of {found:016x}");
            return Err(self.damage(reason));
        }
        Ok(schema)
    }

    /// Reads the text of the types, up to the line before the encoded schema.
    fn skip_types(&mut self) -> Result<(), Damage> {
        loop {
            match self.next_line() {
                Some("encoded") => return Ok(()),
                Some(line) if line.is_empty() || line.starts_with(INDENT) => {}
                line => return Err(self.expected("encoded", line.unwrap_or_default())),
            }
        }
    }

    /// Reads the lines of an encoded schema.
    fn encoded(&mut self) -> Result<Vec<u8>, Damage> {
        let mut bytes = Vec::new();
        while let Some(digits) = self
            .lines
            .clone()
            .next()
            .and_then(|line| line.strip_prefix(INDENT))
        {
            self.next_line();
            let decoded = from_base16(digits);
            bytes.extend(decoded.ok_or_else(|| self.expected("bytes in base 16", digits))?);
        }
        Ok(bytes)
    }

    fn expected(&self, expected: &str, found: &str) -> Damage {
        /// Characters of a line that an error shows.
        const SHOWN_MAX: usize = 60;
        let found: String = found.chars().take(SHOWN_MAX).collect();
        self.damage(format!("expected {expected:?}, found {found:?}"))
    }

    fn damage(&self, reason: String) -> Damage {
        let line = self.line;
        Damage { line, reason }
    }
}

fn from_base16(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    bytes.collect()
}
