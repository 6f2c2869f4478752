//! Certificate reader (RFC 5280): the fields that identify a node.

use std::borrow::Cow;

use thiserror::Error;

use super::{
    der::{
        BOOLEAN, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, SET, TAGGED_0, TAGGED_3, element,
        expect, time,
    },
    dns_name::canonical_name,
};

/// Reason for which the identity in a certificate cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum CertificateFault {
    #[error("it is not a valid X.509 certificate of version 3")]
    Malformed,
    #[error("its subject is malformed")]
    Subject,
    #[error("its extensions are malformed")]
    Extensions,
    #[error("its subject alternative names are malformed")]
    AlternativeNames,
    #[error("it has two extensions of subject alternative names")]
    TwoExtensions,
    #[error("it has more than {NAMES_MAX} subject alternative names")]
    TooManyNames,
    #[error("its subject alternative names have {0} bytes, and at most {NAMES_BYTES_MAX} are read")]
    NamesTooLong(usize),
}

/// Reason for which a certificate does not name one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateNameError {
    /// Its names cannot be read.
    Unreadable(CertificateFault),
    NoName,
    Wildcards(Vec<String>),
    /// The subject alternative names are not DNS names.
    Invalid(Vec<String>),
    Several(Vec<String>),
}

impl CertificateNameError {
    /// Text that a peer with such a certificate is told.
    pub(crate) fn reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Unreadable(fault) => {
                return Cow::Owned(format!("the certificate is not usable: {fault}"));
            }
            Self::NoName => "the certificate has no DNS name",
            Self::Wildcards(_) => "the certificate has no DNS name but wildcards",
            Self::Invalid(_) => "the DNS names of the certificate are not valid",
            Self::Several(_) => {
                "the certificate has several DNS names, and its common name is none of them"
            }
        })
    }
}

impl From<CertificateFault> for CertificateNameError {
    fn from(fault: CertificateFault) -> Self {
        Self::Unreadable(fault)
    }
}

/// Fields of a certificate before its extensions.
#[derive(Debug)]
struct Head<'a> {
    serial: &'a [u8],
    validity: [u64; 2],
    subject: &'a [u8],
    /// Fields after the subject.
    rest: &'a [u8],
}

/// Fields of a certificate that identify its owner.
#[derive(Debug)]
pub(super) struct CertificateFields<'a> {
    /// Contents of the serial number, without the zero that only keeps it positive.
    pub(super) serial: &'a [u8],
    /// First and last second of the validity, since the Unix epoch.
    pub(super) validity: [u64; 2],
    /// Common names that are text without control characters, in the order of the subject.
    pub(super) common_names: Vec<&'a str>,
    pub(super) names: AlternativeNames<'a>,
}

/// Subject alternative names of the kinds that identify a node, in the order of the certificate,
/// each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AlternativeNames<'a> {
    /// Valid DNS names in canonical form, without wildcards.
    pub(super) dns_names: Vec<String>,
    pub(super) uris: Vec<&'a str>,
    pub(super) emails: Vec<&'a str>,
}

impl<'a> CertificateFields<'a> {
    /// Reads a certificate in DER: all of it, or nothing.
    pub(super) fn read(certificate: &'a [u8]) -> Result<Self, CertificateFault> {
        let head = Head::read(certificate).ok_or(CertificateFault::Malformed)?;
        let common_names = common_names(head.subject).ok_or(CertificateFault::Subject)?;
        let names = match alternative_names_extension(head.rest)? {
            Some(value) => AlternativeNames::read(value)?,
            None => AlternativeNames::default(),
        };
        Ok(Self {
            serial: head.serial,
            validity: head.validity,
            common_names,
            names,
        })
    }
}

/// First and last second of a certificate's validity (RFC 5280 section 4.1.2.5), since the Unix
/// epoch.
pub(super) fn validity(certificate: &[u8]) -> Option<[u64; 2]> {
    Some(Head::read(certificate)?.validity)
}

impl<'a> Head<'a> {
    fn read(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = expect(certificate, SEQUENCE)?;
        let (to_be_signed, _) = expect(certificate, SEQUENCE)?;
        // The version is optional.
        let fields = expect(to_be_signed, TAGGED_0).map_or(to_be_signed, |(_, rest)| rest);
        let (serial, fields) = expect(fields, INTEGER)?;
        let (_signature, fields) = expect(fields, SEQUENCE)?;
        let (_issuer, fields) = expect(fields, SEQUENCE)?;
        let (validity, fields) = expect(fields, SEQUENCE)?;
        let (tag, not_before, ends) = element(validity)?;
        let not_before = time(tag, not_before)?;
        let (tag, not_after, _) = element(ends)?;
        let (subject, rest) = expect(fields, SEQUENCE)?;
        Some(Self {
            serial: match serial {
                [0, positive @ ..] if !positive.is_empty() => positive,
                other => other,
            },
            validity: [not_before, time(tag, not_after)?],
            subject,
            rest,
        })
    }
}

/// Common names in a subject (RFC 5280 section 4.1.2.4) that are text without control characters;
/// `None` if any part of the subject is malformed.
pub(super) fn common_names(mut subject: &[u8]) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    while !subject.is_empty() {
        let (mut set, rest) = expect(subject, SET)?;
        subject = rest;
        while !set.is_empty() {
            let (attribute, rest) = expect(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = expect(attribute, OBJECT_ID)?;
            let (_, text, rest) = element(value)?;
            if !rest.is_empty() {
                return None;
            }
            let text = std::str::from_utf8(text).ok();
            let text = text.filter(|text| !text.chars().any(char::is_control));
            names.extend(text.filter(|_| kind == COMMON_NAME));
        }
    }
    Some(names)
}

/// Value of the extension of subject alternative names (RFC 5280 section 4.2.1.6), given what
/// follows the subject.
fn alternative_names_extension(rest: &[u8]) -> Result<Option<&[u8]>, CertificateFault> {
    let malformed = CertificateFault::Extensions;
    let (_public_key, rest) = expect(rest, SEQUENCE).ok_or(malformed)?;
    if rest.is_empty() {
        return Ok(None);
    }
    let (tagged, rest) = expect(rest, TAGGED_3).ok_or(malformed)?;
    let (mut extensions, after) = expect(tagged, SEQUENCE).ok_or(malformed)?;
    if !rest.is_empty() || !after.is_empty() {
        return Err(malformed);
    }
    let mut found = None;
    while !extensions.is_empty() {
        let (extension, rest) = expect(extensions, SEQUENCE).ok_or(malformed)?;
        extensions = rest;
        let (id, rest) = expect(extension, OBJECT_ID).ok_or(malformed)?;
        // Whether it is critical is optional.
        let rest = expect(rest, BOOLEAN).map_or(rest, |(_, rest)| rest);
        let (value, rest) = expect(rest, OCTET_STRING).ok_or(malformed)?;
        if !rest.is_empty() {
            return Err(malformed);
        }
        if id == SUBJECT_ALTERNATIVE_NAME && found.replace(value).is_some() {
            return Err(CertificateFault::TwoExtensions);
        }
    }
    Ok(found)
}

impl<'a> AlternativeNames<'a> {
    /// Reads the value of the extension.
    fn read(value: &'a [u8]) -> Result<Self, CertificateFault> {
        if value.len() > NAMES_BYTES_MAX {
            return Err(CertificateFault::NamesTooLong(value.len()));
        }
        let malformed = CertificateFault::AlternativeNames;
        let (mut rest, after) = expect(value, SEQUENCE).ok_or(malformed)?;
        if !after.is_empty() {
            return Err(malformed);
        }
        let (mut names, mut count) = (Self::default(), 0);
        while !rest.is_empty() {
            let (tag, name, others) = element(rest).ok_or(malformed)?;
            rest = others;
            count += 1;
            if count > NAMES_MAX {
                return Err(CertificateFault::TooManyNames);
            }
            match tag {
                DNS_NAME => push_new(&mut names.dns_names, dns_name(name)),
                URI => push_new(&mut names.uris, printable(name)),
                EMAIL => push_new(
                    &mut names.emails,
                    printable(name).filter(|name| name.contains('@')),
                ),
                OTHER_NAME | X400_ADDRESS | DIRECTORY_NAME | EDI_PARTY | IP_ADDRESS
                | REGISTERED_ID => {}
                _ => return Err(malformed),
            }
        }
        Ok(names)
    }
}

fn push_new<T: PartialEq>(names: &mut Vec<T>, name: Option<T>) {
    names.extend(name.filter(|name| !names.contains(name)));
}

/// Canonical form of a DNS name. A name with a final dot is not valid in a certificate (RFC 5280
/// section 4.2.1.6), and no caller would find it there.
fn dns_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = canonical_name(name).ok().filter(|_| !name.ends_with('.'))?;
    Some(name.into_owned())
}

/// Text of an `IA5String` that has printable characters alone, and no space.
fn printable(name: &[u8]) -> Option<&str> {
    let is_printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(name).ok().filter(|_| is_printable)
}

/// Most subject alternative names of any kind.
pub(super) const NAMES_MAX: usize = 256;

/// Most bytes of all subject alternative names.
pub(super) const NAMES_BYTES_MAX: usize = 16 * 1024;

/// Tags of a `GeneralName` (RFC 5280 section 4.2.1.6).
const OTHER_NAME: u8 = 0xa0;
const EMAIL: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const X400_ADDRESS: u8 = 0xa3;
const DIRECTORY_NAME: u8 = 0xa4;
const EDI_PARTY: u8 = 0xa5;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;
const REGISTERED_ID: u8 = 0x88;

/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// 2.5.29.17.
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(all(test, feature = "dev-certs"))]
mod tests;
