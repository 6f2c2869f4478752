//! DNS names of nodes: which are valid, and their canonical form.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use rustls_pki_types::DnsName;
use thiserror::Error;

/// Reason for which a text is not a node name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it is an IP address, and nodes have DNS names")]
    Address,
    #[error("a wildcard names no single node")]
    Wildcard,
    #[error("it has {0} bytes, and a DNS name at most {NAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("one of its labels has {0} bytes, and a label of a DNS name at most {LABEL_BYTES_MAX}")]
    LabelTooLong(usize),
    #[error("{0:?} cannot be in a DNS name: letters, digits, '-', '_' and '.' can")]
    Character(char),
    #[error("one of its labels is empty, or begins or ends with '-'")]
    Label,
    #[error("its last label is a number, as in an IP address")]
    Number,
}

/// Canonical form of a name: ASCII lower case, without the final dot.
pub(crate) fn canonical_name(name: &str) -> Result<Cow<'_, str>, NameError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    check(name)?;
    Ok(match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

/// Reason for which a text was rejected as a name, for its error.
pub(crate) fn name_error(name: &str) -> String {
    match canonical_name(name) {
        Err(fault) => fault.to_string(),
        Ok(_) => "the TLS library does not take it for a DNS name".to_owned(),
    }
}

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() || name.parse::<SocketAddr>().is_ok() {
        return Err(NameError::Address);
    }
    if name.contains('*') {
        return Err(NameError::Wildcard);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character(other));
    }
    let longest = name.split('.').map(str::len).max().unwrap_or(0);
    if longest > LABEL_BYTES_MAX {
        return Err(NameError::LabelTooLong(longest));
    }
    let is_label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
    if !name.split('.').all(is_label) {
        return Err(NameError::Label);
    }
    DnsName::try_from(name)
        .map(drop)
        .map_err(|_| NameError::Number)
}

/// RFC 1035 section 2.3.4: 255 on the wire, with the lengths of the first label and of the root.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests;
