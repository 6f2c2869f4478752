//! Seed syntax: `address:port` or `name:port`.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// Reason for which a text can never be a seed, whatever a name server answers. The caller's fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeedSyntaxError {
    /// It is a URL.
    #[error("it is a URL, and a seed is `address:port` or `name:port`")]
    Url,
    /// There is white space inside.
    #[error("there is white space in it")]
    WhiteSpace,
    /// It holds several seeds.
    #[error("there is a comma in it: each seed is to be given by itself")]
    MultipleSeeds,
    /// There is no port.
    #[error("there is no port: a seed is `address:port` or `name:port`")]
    NoPort,
    /// There is neither address nor name.
    #[error("there is no address and no name")]
    NoHost,
    /// The port is no number of 1 to 65,535.
    #[error("the port is {port:?}, and must be 1 to 65535")]
    InvalidPort {
        /// The port as given.
        port: String,
    },
    /// An IPv6 address without brackets.
    #[error("an IPv6 address needs brackets, as [2001:db8::1]:7946")]
    MissingBrackets,
    /// An address that a node cannot be reached at: unspecified, multicast or broadcast.
    #[error("no node can be reached at this address")]
    UnusableAddress,
}

/// The seed without the white space around it; `None` for an empty text, as `"".split(',')` gives.
pub(crate) fn parse(text: &str) -> Result<Option<&str>, SeedSyntaxError> {
    let seed = text.trim();
    if seed.is_empty() {
        return Ok(None);
    }
    if seed.contains("://") {
        return Err(SeedSyntaxError::Url);
    }
    if seed.contains(',') {
        return Err(SeedSyntaxError::MultipleSeeds);
    }
    if seed.contains(char::is_whitespace) {
        return Err(SeedSyntaxError::WhiteSpace);
    }
    if let Ok(addr) = seed.parse::<SocketAddr>() {
        return match addr.port() {
            0 => Err(SeedSyntaxError::InvalidPort { port: "0".into() }),
            _ if is_unusable(addr.ip()) => Err(SeedSyntaxError::UnusableAddress),
            _ => Ok(Some(seed)),
        };
    }
    if seed.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(SeedSyntaxError::MissingBrackets);
    }
    let (host, port) = seed.rsplit_once(':').ok_or(SeedSyntaxError::NoPort)?;
    if host.is_empty() {
        return Err(SeedSyntaxError::NoHost);
    }
    if port.is_empty() || (seed.starts_with('[') && seed.ends_with(']')) {
        return Err(SeedSyntaxError::NoPort);
    }
    match port.parse::<u16>() {
        Ok(1..) if host.contains(':') && !host.starts_with('[') => {
            Err(SeedSyntaxError::MissingBrackets)
        }
        Ok(1..) => Ok(Some(seed)),
        _ => Err(SeedSyntaxError::InvalidPort { port: port.into() }),
    }
}

/// All seeds, trimmed, without the empty ones; or the first that is wrong, and why.
pub(crate) fn parse_all(
    texts: &[impl AsRef<str>],
) -> Result<Vec<String>, (String, SeedSyntaxError)> {
    let mut seeds = Vec::with_capacity(texts.len());
    for text in texts {
        let text = text.as_ref();
        let seed = parse(text).map_err(|reason| (text.to_owned(), reason))?;
        seeds.extend(seed.map(str::to_owned));
    }
    Ok(seeds)
}

fn is_unusable(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    ip.is_unspecified() || ip.is_multicast() || is_broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_trimmed_and_an_empty_one_skipped() {
        let parsed: Vec<_> = " a:1,, [::1]:7946 ,10.0.0.1:2,db-0.db.svc:65535"
            .split(',')
            .map(|text| parse(text).unwrap())
            .collect();
        assert_eq!(
            parsed,
            [
                Some("a:1"),
                None,
                Some("[::1]:7946"),
                Some("10.0.0.1:2"),
                Some("db-0.db.svc:65535")
            ]
        );
        assert_eq!("".split(',').map(parse).collect::<Vec<_>>(), [Ok(None)]);
    }

    #[test]
    fn malformed_seeds_are_errors() {
        let port = |port: &str| SeedSyntaxError::InvalidPort { port: port.into() };
        for (text, error) in [
            ("http://10.0.0.1:80", SeedSyntaxError::Url),
            ("https://seed", SeedSyntaxError::Url),
            ("a:1 b:2", SeedSyntaxError::WhiteSpace),
            ("10.0.0.1 :7946", SeedSyntaxError::WhiteSpace),
            ("a:1,b:2", SeedSyntaxError::MultipleSeeds),
            ("seed.internal", SeedSyntaxError::NoPort),
            ("10.0.0.1", SeedSyntaxError::NoPort),
            ("seed.internal:", SeedSyntaxError::NoPort),
            ("[::1]", SeedSyntaxError::NoPort),
            (":7946", SeedSyntaxError::NoHost),
            ("10.0.0.1:0", port("0")),
            ("seed:0", port("0")),
            ("seed:65536", port("65536")),
            ("seed:http", port("http")),
            ("seed:7946/path", port("7946/path")),
            ("seed:-1", port("-1")),
            ("::1", SeedSyntaxError::MissingBrackets),
            ("2001:db8::1:7946", SeedSyntaxError::MissingBrackets),
            ("0.0.0.0:7946", SeedSyntaxError::UnusableAddress),
            ("[::]:7946", SeedSyntaxError::UnusableAddress),
            ("224.0.0.1:7946", SeedSyntaxError::UnusableAddress),
            ("255.255.255.255:7946", SeedSyntaxError::UnusableAddress),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
