//! Tests of the certificate reader: certificates of an issuer, damaged ones, and random bytes.

use proptest::{collection::vec, prelude::*};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};

use super::*;

/// Certificate in DER with these parameters.
fn certificate(params: &CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().expect("randomness");
    let certificate = params.self_signed(&key).expect("valid parameters");
    certificate.der().to_vec()
}

/// Certificate whose extension of subject alternative names has this value.
fn with_names(value: Vec<u8>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![names_extension(value)];
    certificate(&params)
}

fn names_extension(value: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 17], value)
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = u16::try_from(contents.len()).expect("short");
    let [high, low] = len.to_be_bytes();
    let head = match len {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head[..], contents].concat()
}

/// Value of the extension with these names.
fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<_> = names.iter().map(|(tag, name)| der(*tag, name)).collect();
    der(SEQUENCE, &names.concat())
}

#[test]
fn names_of_each_kind_are_read_in_order_and_once() {
    let value = names(&[
        (URI, b"spiffe://example.org/render/worker"),
        (DNS_NAME, b"Worker-0.Workers"),
        (IP_ADDRESS, &[127, 0, 0, 1]),
        (EMAIL, b"ops@example.org"),
        (OTHER_NAME, b"\x06\x01\x01\xa0\x02\x0c\x00"),
        (DNS_NAME, b"localhost"),
        (DNS_NAME, b"worker-0.workers"),
        (URI, b"urn:b"),
        (URI, b"spiffe://example.org/render/worker"),
        (DIRECTORY_NAME, b"\x30\x00"),
        (REGISTERED_ID, &[0x2a]),
    ]);
    let certificate = with_names(value);
    let fields = CertificateFields::read(&certificate).expect("valid");
    let expected = AlternativeNames {
        dns_names: vec!["worker-0.workers".to_owned(), "localhost".to_owned()],
        uris: vec!["spiffe://example.org/render/worker", "urn:b"],
        emails: vec!["ops@example.org"],
    };
    assert_eq!(fields.names, expected);
}

#[test]
fn names_with_characters_of_no_such_name_are_left_out() {
    for (tag, name) in [
        (URI, &b""[..]),
        (URI, b"urn:a b"),
        (URI, b"urn:a\0"),
        (URI, b"urn:a\n"),
        (URI, b"urn:\x7f"),
        (URI, "urn:ä".as_bytes()),
        (URI, b"urn:\xff"),
        (EMAIL, b"ops"),
        (EMAIL, b"ops@example.org\0.other"),
        (DNS_NAME, b"node-1\0"),
        (DNS_NAME, b"node-1."),
        (DNS_NAME, b"*.workers"),
        (DNS_NAME, b"*"),
        (DNS_NAME, b"a b"),
        (DNS_NAME, b"127.0.0.1"),
        (DNS_NAME, b"\xff"),
        (DNS_NAME, b""),
    ] {
        let value = names(&[(tag, name), (URI, b"urn:last")]);
        let read = AlternativeNames::read(&value).expect("well-formed");
        let expected = AlternativeNames {
            uris: vec!["urn:last"],
            ..AlternativeNames::default()
        };
        assert_eq!(read, expected, "{name:?}");
    }
}

#[test]
fn malformed_names_are_an_error_and_not_read_in_part() {
    let good = names(&[(DNS_NAME, b"node-1"), (URI, b"urn:a")]);
    let inner = &good[2..];
    for (value, what) in [
        (vec![], "nothing"),
        (good[..good.len() - 1].to_vec(), "the end is missing"),
        ([&good[..], &[0]].concat(), "more after the end"),
        (der(SET, inner), "a set"),
        (der(SEQUENCE, &inner[1..]), "no tag"),
        (der(SEQUENCE, &[inner, &[URI]].concat()), "half a name"),
        (names(&[(DNS_NAME, b"node-1"), (0x89, b"")]), "unknown kind"),
        (names(&[(DNS_NAME, b"node-1"), (0x0c, b"a")]), "a string"),
        (names(&[(0xa2, b"node-1")]), "a constructed DNS name"),
        (
            [&[SEQUENCE, 0x81, inner.len() as u8][..], inner].concat(),
            "a length that is not in its shortest form",
        ),
    ] {
        let fault =
            CertificateFields::read(&with_names(value)).map(|fields| fields.names.uris.len());
        assert_eq!(fault, Err(CertificateFault::AlternativeNames), "{what}");
    }
}

#[test]
fn two_extensions_of_names_are_an_error() {
    let mut params = CertificateParams::new(["node-1".to_owned()]).expect("a DNS name");
    params.custom_extensions = vec![names_extension(names(&[(DNS_NAME, b"node-2")]))];
    let certificate = certificate(&params);
    let fault = CertificateFields::read(&certificate).expect_err("ambiguous");
    assert_eq!(fault, CertificateFault::TwoExtensions);
    // The TLS library rejects it before.
    let read = super::super::Identity::read(&certificate.into());
    assert_eq!(read.err(), Some(CertificateFault::Malformed));
}

#[test]
fn the_number_and_the_bytes_of_names_are_bounded() {
    let many = |count| names(&vec![(IP_ADDRESS, &[127, 0, 0, 1][..]); count]);
    assert!(AlternativeNames::read(&many(NAMES_MAX)).is_ok());
    let fault = AlternativeNames::read(&many(NAMES_MAX + 1)).expect_err("too many");
    assert_eq!(fault, CertificateFault::TooManyNames);
    assert_eq!(
        fault.to_string(),
        "it has more than 256 subject alternative names"
    );
    // Four bytes of each of the two headers are not the name's.
    let long = |bytes| names(&[(URI, &vec![b'a'; bytes - 8][..])]);
    let longest = long(NAMES_BYTES_MAX);
    assert_eq!(longest.len(), NAMES_BYTES_MAX);
    let read = AlternativeNames::read(&longest).expect("as long as allowed");
    assert_eq!(read.uris[0].len(), NAMES_BYTES_MAX - 8);
    let longer = long(NAMES_BYTES_MAX + 1);
    let fault = AlternativeNames::read(&longer).expect_err("too long");
    assert_eq!(fault, CertificateFault::NamesTooLong(NAMES_BYTES_MAX + 1));
}

#[test]
fn only_common_names_are_read() {
    let attribute = |id: &[u8], text: &[u8]| {
        let attribute = [der(OBJECT_ID, id), der(0x0c, text)].concat();
        der(SET, &der(SEQUENCE, &attribute))
    };
    let organization: &[u8] = &[0x55, 0x04, 0x0a];
    // The bytes of a common name inside of another attribute.
    let hidden = [&der(OBJECT_ID, COMMON_NAME)[..], &der(0x0c, b"b")].concat();
    let subject = [
        attribute(organization, &hidden),
        attribute(COMMON_NAME, b"A."),
        attribute(COMMON_NAME, b"with a space"),
        attribute(COMMON_NAME, b"\xff"),
        attribute(COMMON_NAME, b"a\0b"),
        attribute(COMMON_NAME, "ä".as_bytes()),
    ];
    let whole = subject.concat();
    assert_eq!(common_names(&whole), Some(vec!["A.", "with a space", "ä"]));
    let mut end = 0;
    let ends: Vec<_> = std::iter::once(0)
        .chain(subject.iter().map(|part| {
            end += part.len();
            end
        }))
        .collect();
    for len in 0..whole.len() {
        let read = common_names(&whole[..len]);
        assert_eq!(read.is_some(), ends.contains(&len), "{len} bytes");
    }
    assert_eq!(common_names(&[SET, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
}

#[test]
fn serial_and_validity_are_those_of_the_certificate() {
    for (serial, expected) in [
        (&[1, 2, 3][..], &[1, 2, 3][..]),
        (&[0x80, 0xff], &[0x80, 0xff]),
        (&[0], &[0]),
    ] {
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial.to_vec().into());
        params.not_before = rcgen::date_time_ymd(1980, 1, 1);
        params.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let certificate = certificate(&params);
        let fields = CertificateFields::read(&certificate).expect("valid");
        assert_eq!(fields.serial, expected);
        assert_eq!(fields.validity, [315_532_800, 2_840_140_800]);
        assert_eq!(validity(&certificate), Some(fields.validity));
        assert_eq!(fields.names, AlternativeNames::default());
    }
}

/// Certificate with names of every kind.
fn example() -> Vec<u8> {
    let mut params = CertificateParams::new(["node-1".to_owned()]).expect("a DNS name");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "example");
    let uri = "spiffe://example.org/a".try_into().expect("ASCII");
    params.subject_alt_names.push(SanType::URI(uri));
    certificate(&params)
}

#[test]
fn a_certificate_that_ends_early_is_malformed() {
    let certificate = example();
    assert!(CertificateFields::read(&certificate).is_ok());
    for len in 0..certificate.len() {
        let read = CertificateFields::read(&certificate[..len]);
        assert!(read.is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_read_or_rejected(bytes in vec(any::<u8>(), 0..256)) {
        let _ = CertificateFields::read(&bytes);
        let _ = super::super::Identity::from_unverified(&bytes);
        let _ = common_names(&bytes);
        let _ = AlternativeNames::read(&bytes);
    }

    /// Bytes that look more like DER.
    #[test]
    fn random_elements_are_read_or_rejected(
        elements in vec((0x80..0xa9_u8, vec(any::<u8>(), 0..8)), 0..300),
    ) {
        let elements: Vec<_> = elements.iter().map(|(tag, it)| (*tag, &it[..])).collect();
        let value = names(&elements);
        if let Ok(names) = AlternativeNames::read(&value) {
            prop_assert!(elements.len() <= NAMES_MAX);
            let read = names.dns_names.len() + names.uris.len() + names.emails.len();
            prop_assert!(read <= elements.len());
            for uri in names.uris {
                prop_assert!(elements.contains(&(URI, uri.as_bytes())));
                prop_assert!(uri.bytes().all(|byte| (0x21..0x7f).contains(&byte)));
            }
        }
    }
}

#[test]
fn damaged_certificates_are_read_or_rejected() {
    let certificate = example();
    for place in 0..certificate.len() {
        for flipped in [1, 0x20, 0x80, 0xff] {
            let mut damaged = certificate.clone();
            damaged[place] ^= flipped;
            let _ = super::super::Identity::from_unverified(&damaged);
            if let Ok(fields) = CertificateFields::read(&damaged) {
                assert!(fields.names.dns_names.len() <= 1 && fields.names.uris.len() <= 1);
            }
        }
    }
}
